import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { STATUS_VERSION, type StatusReport } from "../../../src/agent/status/report.ts";
import { statusText } from "../../../src/agent/status/text.ts";

const REPORT: StatusReport = {
  ...{ statusVersion: STATUS_VERSION, version: "1.0.0", runtime: "test 1", pid: 1, startedMs: 0, nowMs: 0 },
  ...{ master: "http://127.0.0.1:1", agent: {}, published: [], services: [] },
};

describe("statusText", () => {
  it("tells a target that is up from one whose last attempt failed, and from one that is down", () => {
    const error = "connection refused";
    const lines = statusText({
      ...REPORT,
      services: [{
        names: ["a.test"],
        tls: "acme",
        targets: [
          { target: "a:1", up: true },
          { target: "a:2", up: true, error },
          { target: "a:3", up: false, error },
        ],
        certificates: [],
        ...{ visitors: 0, visitorsTotal: 0, bytesIn: 0, bytesOut: 0, errors: [] },
      }],
    });
    assert.deepEqual(lines.filter((line) => line.startsWith("  target")), [
      "  target        a:1  up",
      "  target        a:2  up, but the last attempt failed: connection refused",
      "  target        a:3  DOWN: connection refused",
    ]);
  });

  it("tells the certificates of a service, whatever their names, and why there is none", () => {
    const certificates = [
      { names: ["*.test"], source: "file", issuer: "Own", notAfterMs: 90_000_000 },
      { names: [], source: "file", error: "Cannot read certificate from a and b" },
      { names: ["b.test"], source: "acme", issuer: "Other", notAfterMs: -1_000 },
    ];
    const lines = statusText({
      ...REPORT,
      services: [{
        ...{ names: ["a.test"], tls: "file", targets: [], certificates },
        ...{ visitors: 0, visitorsTotal: 0, bytesIn: 0, bytesOut: 0, errors: [] },
      }],
    });
    assert.deepEqual(lines.filter((line) => line.startsWith("  certificate")), [
      "  certificate   *.test: expires in 1 d 1 h, by Own",
      "  certificate   none yet: Cannot read certificate from a and b",
      "  certificate   b.test: EXPIRED 1 s ago, by Other",
    ]);
  });

  it("counts the visitors of each session", () => {
    const session = {
      ...{ transport: "snitun", edge: "edge.test:443", hostname: "a.test", aliases: [], sinceMs: 0 },
      ...{ bytesSent: 0, bytesReceived: 0, tokenValidUntilMs: 0 },
    };
    const agent = { session: { ...session, streams: 1 }, others: [{ ...session, streams: 2 }] };
    const text = statusText({ ...REPORT, agent }).join("\n");
    assert.match(text, / 1 visitor now, /);
    assert.match(text, /, 2 visitors$/m);
  });
});
