import assert from "node:assert/strict";
import { describe, it } from "node:test";
import {
  CERTIFICATE_REPORT_FIRST_MS,
  CERTIFICATE_REPORT_MS,
  CertificateReports,
} from "../../src/agent/certificate_reports.ts";
import type { CertificateFacts } from "../../src/agent/services/port.ts";
import { createLogger } from "../../src/telemetry/log.ts";
import { handClock } from "../master/helpers.ts";

const T = Date.UTC(2030, 0, 1);

describe("CertificateReports", () => {
  it("is told a while after the start and each hour when something has changed, until it is taken", async () => {
    const { clock, timers } = handClock();
    const lines: string[] = [];
    const asked: { readonly method: string; readonly url: string; readonly body: unknown }[] = [];
    let status = 503;
    let facts: CertificateFacts[] = [
      { names: ["a.example.org"], source: "acme", notBeforeMs: T, notAfterMs: T + 1000 },
      { names: ["b.example.org"], source: "self-signed", notBeforeMs: T, notAfterMs: T + 1000 },
      { names: ["c.example.org"], source: "acme", error: "there is none yet" },
    ];
    const reports = new CertificateReports({
      clock,
      log: createLogger({ level: "info", format: "json", write: (line) => lines.push(line) }),
      master: "https://master.example.org/base",
      credential: "key",
      fetch: async (request) => {
        asked.push({ method: request.method, url: request.url, body: await request.json() });
        return new Response(null, { status });
      },
      certificates: () => facts,
    });
    reports.start();
    assert.deepEqual(timers.map(({ delayMs }) => delayMs), [CERTIFICATE_REPORT_FIRST_MS]);
    await reports.report();
    const body = {
      certificates: [{
        names: ["a.example.org"],
        not_before: "2030-01-01T00:00:00.000Z",
        not_after: "2030-01-01T00:00:01.000Z",
      }],
    };
    assert.deepEqual(asked, [{
      method: "PUT",
      url: "https://master.example.org/base/v1/agent-certificates",
      body,
    }]);
    assert.match(lines.join(), /Cannot report certificates/);
    status = 204;
    await reports.report();
    await reports.report();
    assert.equal(asked.length, 2);
    facts = [];
    await reports.report();
    assert.deepEqual(asked[2]?.body, { certificates: [] });
    timers[0]?.run();
    await new Promise((resolve) => setImmediate(resolve));
    assert.equal(timers[1]?.delayMs, CERTIFICATE_REPORT_MS);
    reports.close();
    assert.equal(timers[1]?.cancelled, true);
  });

  it("a master that knows no such endpoint is left in peace", async () => {
    const lines: string[] = [];
    const reports = new CertificateReports({
      clock: handClock().clock,
      log: createLogger({ level: "info", format: "json", write: (line) => lines.push(line) }),
      master: "https://master.example.org",
      fetch: () => Promise.resolve(new Response(null, { status: 404 })),
      certificates: () => [{ names: ["a"], source: "file", notBeforeMs: T, notAfterMs: T }],
    });
    await reports.report();
    assert.deepEqual(lines, []);
  });
});
