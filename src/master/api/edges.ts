/**
 * `/v1/edges`: the channel between the session master and its edges (docs/protocols/edge-control.md).
 *
 * @module
 */
import { createRoute, type OpenAPIHono, z } from "@hono/zod-openapi";
import type { MiddlewareHandler } from "hono";
import type { FernetRing } from "../../crypto/fernet.ts";
import { type EdgeProof, openEdgeProof, StreamSealer } from "../../protocol/token/edge_proof.ts";
import type { Clock } from "../../runtime/port.ts";
import type { Logger } from "../../telemetry/log.ts";
import {
  CONTROL_HEARTBEAT_MS,
  EdgeReportSchema,
  ReportReceiptSchema,
} from "../../wire/control/control_messages.ts";
import type { MasterEnv } from "../env.ts";
import { bearerOf, boundedJson, type FailureGuard, unknownKey } from "../guards.ts";
import type { Management } from "../management.ts";
import { Problem } from "../problem.ts";
import { TextStream } from "../text_stream.ts";
import { bodyFaults, json, secured } from "./parts.ts";

/** Body of an edge's report: after a start it lists thousands of sessions. */
export const REPORT_MAX_BYTES = 8 * 1024 * 1024;
/** Messages queued for an edge that doesn't read; beyond it the stream ends, and the edge starts over. */
const WAITING_MAX = 4_096;

/** Dependencies of the endpoints. */
interface EdgesApiParts {
  readonly management: Management;
  readonly clock: Clock;
  readonly ring: FernetRing;
  readonly failures: FailureGuard;
  readonly log: Logger;
}

/** Adds the endpoints and returns their routes. */
export function addEdgesApi(app: OpenAPIHono<MasterEnv>, parts: EdgesApiParts) {
  const { management: { hub }, clock, ring, failures, log } = parts;
  const proofs = new WeakMap<Request, EdgeProof>();
  const proven: MiddlewareHandler<MasterEnv> = async (c, next) => {
    await failures.check(c);
    const bearer = bearerOf(c.req.header("authorization"));
    const proof = bearer === undefined ? undefined : openEdgeProof(ring, bearer, c.req, clock.wallMs());
    if (proof === undefined) {
      await failures.count(c);
      log.warn(
        { remote: failures.remoteOf(c), path: c.req.path },
        "request refused: it lacks an edge's proof",
      );
      throw unknownKey();
    }
    proofs.set(c.req.raw, proof);
    await next();
  };
  const params = z.object({});
  const { 403: _, ...faults } = bodyFaults;

  const changes = createRoute({
    method: "get",
    path: "/v1/edges/changes",
    operationId: "edgeChanges",
    summary: "For edges: decisions about agents, as they are made",
    description:
      "A stream of lines, each encrypted for the edge; an empty line every few seconds shows that the stream is alive.",
    ...secured,
    middleware: [proven],
    request: {
      query: z.object({
        since: z.coerce.number({ error: "must be a whole number" }).int().min(0).optional()
          .openapi({
            type: "integer",
            minimum: 0,
            description: "The number of the last change that the edge has received",
          }),
      }),
    },
    responses: {
      200: { description: "Lines", content: { "text/plain": { schema: z.string() } } },
      401: faults[401],
      422: faults[422],
      429: faults[429],
      500: faults[500],
      503: faults[503],
    },
  });
  app.openapi(changes, async (c) => {
    const { edge, key } = proofs.get(c.req.raw)!;
    const { since } = c.req.valid("query");
    log.info({ edge, since }, "edge listens");
    const body = await lines(
      hub,
      since,
      key,
      clock,
      (why) => log.info({ edge, why }, "edge has stopped listening"),
    );
    return c.body(body, 200, {
      "Content-Type": "text/plain; charset=utf-8",
      "X-Accel-Buffering": "no",
    }) as never;
  });

  const reports = createRoute({
    method: "post",
    path: "/v1/edges/reports",
    operationId: "edgeReport",
    summary: "For edges: live sessions and usage since the last report",
    ...secured,
    middleware: [
      proven,
      async (c, next) => {
        const proof = proofs.get(c.req.raw)!;
        await boundedJson({ clock, maxBytes: REPORT_MAX_BYTES })(c, async () => {
          proofs.set(c.req.raw, proof);
          await next();
        });
      },
    ],
    request: { params, body: { required: true, content: json(EdgeReportSchema) } },
    responses: { 200: { description: "Applied", content: json(ReportReceiptSchema) }, ...faults },
  });
  app.openapi(reports, async (c) => {
    const report = c.req.valid("json");
    const { edge } = proofs.get(c.req.raw)!;
    if (report.edge !== edge) {
      const detail = "is not the edge that the proof names";
      throw new Problem(422, `Cannot accept report: edge ${detail}`, {
        errors: [{ member: "edge", pointer: "#/edge", detail }],
      });
    }
    return c.json(await hub.report(report), 200);
  });
  return [changes, reports];
}

/** The stream of one edge. */
async function lines(
  hub: Management["hub"],
  since: number | undefined,
  key: Uint8Array,
  clock: Clock,
  over: (why: string) => void,
): Promise<ReadableStream<Uint8Array>> {
  const sealer = new StreamSealer(key);
  let undo = () => {};
  const stream = new TextStream({
    clock,
    heartbeat: "\n",
    heartbeatMs: CONTROL_HEARTBEAT_MS,
    chunksMax: WAITING_MAX,
    closing: hub.closing,
    over(why) {
      undo();
      over(why);
    },
  });
  undo = await hub.listen(since, (message) => stream.send(`${sealer.seal(JSON.stringify(message))}\n`));
  if (stream.isOver) undo();
  return stream.body;
}
