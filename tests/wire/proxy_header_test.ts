import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import type { Bytes } from "../../src/bytes/bytes.ts";
import { encodeProxyHeader, parseProxyHeader } from "../../src/wire/proxy_header.ts";

const text = (line: string): Bytes => Uint8Array.from(line, (c) => c.charCodeAt(0));
const v4 = [{ host: "192.0.2.1", port: 51234 }, { host: "198.51.100.7", port: 443 }] as const;
const v6 = [{ host: "2001:db8::1", port: 1 }, { host: "2001:db8::2", port: 65535 }] as const;

describe("PROXY headers", () => {
  for (const version of [1, 2] as const) {
    for (const [source, destination] of [v4, v6]) {
      it(`of version ${version} with ${source.host} come through, cut at every byte`, () => {
        const header = encodeProxyHeader(version, source, destination);
        const bytes = new Uint8Array([...header, 0x16, 3, 1]);
        for (let end = 0; end < header.length; end++) {
          assert.equal(parseProxyHeader(bytes.slice(0, end)).kind, "incomplete", `${end}`);
        }
        assert.deepEqual(parseProxyHeader(bytes), {
          kind: "header",
          source,
          destination,
          length: header.length,
        });
      });
    }
    it(`of version ${version} without addresses keep the peer's own`, () => {
      const header = encodeProxyHeader(version);
      const outcome = parseProxyHeader(header);
      assert.deepEqual(outcome, {
        kind: "header",
        source: undefined,
        destination: undefined,
        length: header.length,
      });
    });
  }

  it("are read as HAProxy writes them", () => {
    assert.deepEqual(parseProxyHeader(text("PROXY TCP4 192.0.2.1 198.51.100.7 51234 443\r\n")), {
      kind: "header",
      source: v4[0],
      destination: v4[1],
      length: 45,
    });
    const local = Uint8Array.from([13, 10, 13, 10, 0, 13, 10, 81, 85, 73, 84, 10, 0x20, 0, 0, 0]);
    assert.equal(parseProxyHeader(local).kind, "header");
    const unix = Uint8Array.from([13, 10, 13, 10, 0, 13, 10, 81, 85, 73, 84, 10, 0x21, 0x31, 0, 3, 1, 2, 3]);
    assert.deepEqual(parseProxyHeader(unix), {
      kind: "header",
      source: undefined,
      destination: undefined,
      length: 19,
    });
    const udp = encodeProxyHeader(2, ...v4);
    udp[13] = 0x12;
    assert.equal((parseProxyHeader(udp) as { source?: unknown }).source, undefined);
  });

  it("pass over the TLVs behind the addresses", () => {
    const header = encodeProxyHeader(2, ...v4);
    const longer = new Uint8Array([...header, 4, 0, 1, 9]);
    longer[15] += 4;
    assert.deepEqual(parseProxyHeader(longer), {
      kind: "header",
      source: v4[0],
      destination: v4[1],
      length: longer.length,
    });
  });

  it("name an IPv4 visitor as such, in IPv6 clothes too", () => {
    const outcome = parseProxyHeader(text("PROXY TCP6 ::ffff:192.0.2.1 2001:db8::2 1 2\r\n"));
    assert.equal((outcome as { source?: { host: string } }).source?.host, "192.0.2.1");
  });

  const refused: [string, Bytes, RegExp][] = [
    ["another protocol", text("GET / HTTP/1.1\r\n"), /signature/],
    ["a signature gone wrong", text("PROXX TCP4"), /signature/],
    ["a family that isn't", text("PROXY TCP5 1.1.1.1 1.1.1.1 1 1\r\n"), /family/],
    ["too few fields", text("PROXY TCP4 1.1.1.1 1.1.1.1 1\r\n"), /fields/],
    ["a wrong address", text("PROXY TCP4 1.1.1.256 1.1.1.1 1 1\r\n"), /addresses/],
    ["mixed families", text("PROXY TCP4 ::1 1.1.1.1 1 1\r\n"), /addresses/],
    ["a wrong port", text("PROXY TCP4 1.1.1.1 1.1.1.1 65536 1\r\n"), /ports/],
    ["a port with a leading zero", text("PROXY TCP4 1.1.1.1 1.1.1.1 01 1\r\n"), /ports/],
    ["a bare LF", text("PROXY TCP4 1.1.1.1 1.1.1.1 1 1\n"), /CRLF/],
    ["a line without end", text(`PROXY UNKNOWN ${"x".repeat(107)}`), /line end/],
    ["version 3", Uint8Array.from([...encodeProxyHeader(2).slice(0, 12), 0x31, 0, 0, 0]), /version/],
    ["command 2", Uint8Array.from([...encodeProxyHeader(2).slice(0, 12), 0x22, 0, 0, 0]), /command/],
    [
      "a length judged before it is waited for",
      Uint8Array.from([...encodeProxyHeader(2).slice(0, 12), 0x21, 0x11, 0xff, 0xff]),
      /announces/,
    ],
    [
      "too few bytes for its addresses",
      Uint8Array.from([...encodeProxyHeader(2).slice(0, 12), 0x21, 0x11, 0, 11]),
      /too few/,
    ],
  ];
  for (const [name, bytes, why] of refused) {
    it(`are refused: ${name}`, () => {
      const outcome = parseProxyHeader(bytes);
      assert.ok(outcome.kind === "refused" && why.test(outcome.detail), JSON.stringify(outcome));
    });
  }

  it("survive any bytes", () => {
    const start = fc.constantFrom<Bytes>(
      encodeProxyHeader(1, ...v4),
      encodeProxyHeader(2, ...v6),
      new Uint8Array(0),
    );
    fc.assert(
      fc.property(start, fc.uint8Array({ maxLength: 80 }), fc.nat(), (valid, noise, at) => {
        const bytes = new Uint8Array([...valid.slice(0, at % (valid.length + 1)), ...noise]);
        const outcome = parseProxyHeader(bytes);
        if (outcome.kind === "header") assert.ok(outcome.length <= bytes.length);
      }),
      { seed: 3, numRuns: 2000 },
    );
  });
});
