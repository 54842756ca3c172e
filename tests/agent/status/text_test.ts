import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { STATUS_VERSION } from "../../../src/agent/status/report.ts";
import { statusText } from "../../../src/agent/status/text.ts";

describe("statusText", () => {
  it("tells a target that is up from one whose last attempt failed, and from one that is down", () => {
    const error = "connection refused";
    const lines = statusText({
      ...{
        statusVersion: STATUS_VERSION,
        version: "1.0.0",
        runtime: "test 1",
        pid: 1,
        startedMs: 0,
        nowMs: 0,
      },
      ...{ master: "http://127.0.0.1:1", agent: {}, certificates: [], published: [] },
      services: [{
        names: ["a.test"],
        tls: "acme",
        targets: [
          { target: "a:1", up: true },
          { target: "a:2", up: true, error },
          { target: "a:3", up: false, error },
        ],
        ...{ visitors: 0, visitorsTotal: 0, bytesIn: 0, bytesOut: 0, errors: [] },
      }],
    });
    assert.deepEqual(lines.filter((line) => line.startsWith("  target")), [
      "  target        a:1  up",
      "  target        a:2  up, but the last attempt failed: connection refused",
      "  target        a:3  DOWN: connection refused",
    ]);
  });
});
