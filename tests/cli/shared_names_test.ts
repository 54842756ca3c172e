import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { parseTarget } from "../../src/agent/services/target.ts";
import { serviceDefaults } from "../../src/agent/services/service.ts";
import { warnOfSharedNames } from "../../src/cli/certificates.ts";
import { type LogLine, recordingLogger } from "../support/tunnel.ts";

describe("warnOfSharedNames", () => {
  it("names those that are shared and validated through the tunnel", () => {
    const lines: LogLine[] = [];
    const targets = [parseTarget("http://127.0.0.1:3000")];
    const service = (names: string[], more: object = {}) => ({
      ...serviceDefaults({ names, targets, tls: "acme" }),
      ...more,
    });
    const shared = { shared: true };
    warnOfSharedNames(
      [
        service(["alone.example.org"]),
        service(["a.example.org", "*.a.example.org", "b.dns.example.org"], shared),
        service(["dns.example.org"], shared),
        service(["file.example.org"], { ...shared, tls: { certificateFile: "c", keyFile: "k" } }),
      ],
      { acmeDnsDomain: ["dns.example.org"] },
      recordingLogger(lines),
    );
    assert.deepEqual(lines.map(({ level, fields }) => [level, fields.names]), [["warn", ["a.example.org"]]]);
  });
});
