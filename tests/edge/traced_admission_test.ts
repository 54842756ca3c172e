/** tracedAdmission: a span for each agent with a valid token, and the edge's decisions unchanged. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { tracedAdmission } from "../../src/edge/traced_admission.ts";
import { SallyportError } from "../../src/errors.ts";
import type { OpenedToken } from "../../src/protocol/token/token_reader.ts";
import type { Tracer } from "../../src/telemetry/tracing.ts";
import type { AgentAdmission } from "../../src/transport/admission.ts";
import type { Session, SessionHandler } from "../../src/transport/port.ts";

const REMOTE = { host: "192.0.2.1", port: 1 };
const REFUSED = new SallyportError("access_denied", "Cannot open session: no", { side: "peer" });

function bench() {
  const calls: unknown[][] = [];
  const spans: unknown[][] = [];
  const handler = {} as SessionHandler;
  const admission: AgentAdmission = {
    openToken: () => "shape",
    authorize: (...given) => void calls.push(["authorize", ...given]),
    admit: (...given) => {
      calls.push(["admit", ...given]);
      return handler;
    },
    refused: (...given) => void calls.push(["refused", ...given]),
  };
  const tracer = {
    start: (...given: unknown[]) => {
      spans.push(["start", ...given]);
      return { end: (...ended: unknown[]) => void spans.push(["end", ...ended]) };
    },
  } as unknown as Tracer;
  const token = { claims: { hostname: "a.test" } } as OpenedToken;
  return { admission, handler, tracer, token, calls, spans, session: {} as Session };
}

describe("tracedAdmission", () => {
  it("is the admission itself without a tracer", () => {
    const { admission } = bench();
    assert.equal(tracedAdmission(admission, undefined, "curve"), admission);
  });

  it("traces an agent from authorize() to admit()", () => {
    const { admission, handler, tracer, token, calls, spans, session } = bench();
    const traced = tracedAdmission(admission, tracer, "curve");
    traced.authorize(token, REMOTE);
    assert.deepEqual(spans, [["start", "agent admission", "server", {
      "client.address": "192.0.2.1",
      "sallyport.hostname": "a.test",
      "sallyport.transport": "curve",
    }]]);
    assert.equal(traced.admit(token, session, REMOTE), handler);
    assert.deepEqual(spans.slice(1), [["end"]]);
    assert.deepEqual(calls, [["authorize", token, REMOTE], ["admit", token, session, REMOTE]]);
  });

  it("ends the span of a refused agent with its error, and has none for strangers", () => {
    const { admission, tracer, token, calls, spans } = bench();
    const traced = tracedAdmission(admission, tracer, "snitun");
    traced.refused(REFUSED, undefined, REMOTE, false);
    assert.deepEqual(spans, []);
    traced.authorize(token, REMOTE);
    traced.refused(REFUSED, token, REMOTE, true);
    assert.deepEqual(spans.slice(1), [["end", { "error.type": "access_denied" }, REFUSED.message]]);
    assert.deepEqual(calls.filter(([name]) => name === "refused"), [
      ["refused", REFUSED, undefined, REMOTE, false],
      ["refused", REFUSED, token, REMOTE, true],
    ]);
  });
});
