/**
 * An edge's link to a remote session master, over HTTP (docs/protocols/edge-control.md).
 *
 * @module
 */
import type { FernetRing } from "../../crypto/fernet.ts";
import { SallyportError } from "../../errors.ts";
import { makeStreamKey, sealEdgeProof, StreamOpener } from "../../protocol/token/edge_proof.ts";
import type { Clock, Fetch } from "../../runtime/port.ts";
import { untilAborted } from "../../runtime/until_aborted.ts";
import { tracedFetch } from "../../telemetry/traced_fetch.ts";
import type { Tracer } from "../../telemetry/tracing.ts";
import {
  CONTROL_HEARTBEAT_MS,
  EdgeMessageSchema,
  type EdgeReport,
  ReportReceiptSchema,
} from "../../wire/control/control_messages.ts";
import type { ControlLink } from "./reporter.ts";

/** A stream from the session master that is silent for this long is considered broken. */
export const CONTROL_SILENCE_MS = 3 * CONTROL_HEARTBEAT_MS;
/** The response to a report must be complete within this time. */
export const REPORT_TIMEOUT_MS = 15_000;
/** Longest line of the stream: a ruling on each of 100,000 agents. */
export const CONTROL_LINE_MAX_BYTES = 32 * 1024 * 1024;
/** Largest response to a report. */
const RECEIPT_MAX_BYTES = 4 * 1024 * 1024;

/** Options of {@link httpControlLink}. */
interface HttpLinkOptions {
  /** The session master's base URL. */
  readonly master: string;
  /** The edge's name. */
  readonly edge: string;
  /** The Fernet keys shared with the session master. */
  readonly ring: FernetRing;
  readonly clock: Clock;
  /** For tests. Defaults to the platform's `fetch`. */
  readonly fetch?: Fetch;
  /** Tracer for requests. Defaults to no tracing. */
  readonly tracer?: Tracer;
}

/** Makes a link to the session master's API. */
export function httpControlLink(options: HttpLinkOptions): ControlLink {
  const { master, edge, ring, clock } = options;
  const call = tracedFetch(options.fetch ?? ((request) => fetch(request)), options.tracer);
  const base = master.endsWith("/") ? master : `${master}/`;
  const request = (method: string, path: string, key: Uint8Array, init: RequestInit, query = "") =>
    call(
      new Request(new URL(path.slice(1) + query, base), {
        ...init,
        method,
        redirect: "error",
        headers: {
          ...init.headers as Record<string, string>,
          authorization: `Bearer ${sealEdgeProof(ring, { edge, key }, { method, path }, clock.wallMs())}`,
        },
      }),
    );
  return {
    async listen(since, hear, signal) {
      const key = makeStreamKey();
      const broken = new AbortController();
      const silent = () =>
        broken.abort(failure(master, `it has been silent for ${CONTROL_SILENCE_MS / 1000} s`));
      let timer = clock.after(CONTROL_SILENCE_MS, silent);
      const leave = () => broken.abort(signal.reason);
      signal.addEventListener("abort", leave, { once: true });
      try {
        const query = since === undefined ? "" : `?since=${since}`;
        const response = await request("GET", "/v1/edges/changes", key, { signal: broken.signal }, query);
        if (response.status !== 200) {
          await response.body?.cancel();
          throw failure(master, `it answered ${response.status}`);
        }
        const opener = new StreamOpener(key);
        await readLines(response, broken.signal, (line) => {
          timer.cancel();
          timer = clock.after(CONTROL_SILENCE_MS, silent);
          if (line !== "") hear(EdgeMessageSchema.parse(JSON.parse(opener.open(line))));
        });
      } finally {
        timer.cancel();
        signal.removeEventListener("abort", leave);
        broken.abort(failure(master, "the stream is over"));
      }
    },
    async report(report: EdgeReport) {
      const response = await request("POST", "/v1/edges/reports", makeStreamKey(), {
        body: JSON.stringify(report),
        headers: { "content-type": "application/json" },
        signal: AbortSignal.timeout(REPORT_TIMEOUT_MS),
      });
      if (response.status !== 200) {
        await response.body?.cancel();
        throw failure(master, `it answered a report with ${response.status}`);
      }
      let text = "";
      const decoder = new TextDecoder();
      for await (const chunk of response.body ?? []) {
        text += decoder.decode(chunk as Uint8Array, { stream: true });
        if (text.length > RECEIPT_MAX_BYTES) throw failure(master, "its answer is too long");
      }
      return ReportReceiptSchema.parse(JSON.parse(text));
    },
  };
}

/** Reads lines as they arrive; returns at the end of the stream. */
async function readLines(
  response: Response,
  signal: AbortSignal,
  take: (line: string) => void,
): Promise<void> {
  const reader = response.body?.getReader();
  if (reader === undefined) return;
  const decoder = new TextDecoder();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await untilAborted(reader.read(), signal);
      if (done) return;
      rest += decoder.decode(value, { stream: true });
      const lines = rest.split("\n");
      rest = lines.pop() ?? "";
      if (rest.length > CONTROL_LINE_MAX_BYTES) throw failure(response.url, "its line is too long");
      for (const line of lines) take(line);
    }
  } finally {
    void reader.cancel().catch(() => {});
  }
}

function failure(master: string, why: string): SallyportError {
  return new SallyportError("master_unreachable", `${master}: ${why}`, { side: "network", retryable: true });
}
