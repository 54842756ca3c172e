import assert from "node:assert/strict";
import { isIPv4 } from "node:net";
import { describe, it } from "node:test";
import fc from "fast-check";
import type { Bytes } from "../../../src/bytes/bytes.ts";
import { normalizeIp } from "../../../src/wire/ip/networks.ts";
import {
  encodeProxyHeader,
  parseProxyHeader,
  PROXY_V2_MAX_BYTES,
  type ProxyOutcome,
} from "../../../src/wire/proxy/proxy_header.ts";
import { seedOf } from "../../support/seeded.ts";

const text = (line: string): Bytes => Uint8Array.from(line, (c) => c.charCodeAt(0));
const v4 = [{ host: "192.0.2.1", port: 51234 }, { host: "198.51.100.7", port: 443 }] as const;
const v6 = [{ host: "2001:db8::1", port: 1 }, { host: "2001:db8::2", port: 65535 }] as const;

/** A header of version 2 with these TLVs after its addresses. */
function withTlvs(...tlvs: number[][]): Bytes {
  const header = Uint8Array.from([...encodeProxyHeader(2, ...v4), ...tlvs.flat()]);
  new DataView(header.buffer).setUint16(14, header.length - 16);
  return header;
}

/** CRC-32C by division, bit after bit, of a header whose checksum is 0. */
function crcOf(bytes: Bytes): number {
  let crc = 0xffffffffn;
  for (const byte of bytes) {
    crc ^= BigInt(byte);
    for (let bit = 0; bit < 8; bit++) crc = (crc & 1n) === 1n ? (crc >> 1n) ^ 0x82f63b78n : crc >> 1n;
  }
  return Number(crc ^ 0xffffffffn);
}

describe("encodeProxyHeader and parseProxyHeader", () => {
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
    for (const [family, size] of [[0x31, 216], [0x32, 216], [0x00, 3]] as const) {
      const other = Uint8Array.from([
        ...local.slice(0, 12),
        0x21,
        family,
        0,
        size,
        ...new Array(size).fill(1),
      ]);
      assert.deepEqual(parseProxyHeader(other), {
        kind: "header",
        source: undefined,
        destination: undefined,
        length: 16 + size,
      });
    }
    const udp = encodeProxyHeader(2, ...v4);
    udp[13] = 0x12;
    assert.equal((parseProxyHeader(udp) as { source?: unknown }).source, undefined);
  });

  it("pass over the TLVs after the addresses", () => {
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

  it("carry as many TLVs as a proxy may have, and a checksum that is right", () => {
    // The check value of RFC 3720 and others.
    assert.equal(crcOf(text("123456789")), 0xe3069283);
    const [type, size] = [0xe0, 2048];
    const header = withTlvs([type, size >> 8, size & 255, ...new Array(size).fill(7)], [3, 0, 4, 0, 0, 0, 0]);
    assert.equal(parseProxyHeader(header).kind, "refused");
    new DataView(header.buffer).setUint32(header.length - 4, crcOf(header));
    assert.deepEqual(parseProxyHeader(header), {
      kind: "header",
      source: v4[0],
      destination: v4[1],
      length: header.length,
    });
    header[16]! ^= 1;
    assert.match((parseProxyHeader(header) as { detail: string }).detail, /checksum is wrong/);
  });

  it("name an IPv4 visitor as such, in IPv6 clothes too", () => {
    const outcome = parseProxyHeader(text("PROXY TCP6 ::ffff:192.0.2.1 2001:db8::2 1 2\r\n"));
    assert.equal((outcome as { source?: { host: string } }).source?.host, "192.0.2.1");
  });

  const refused: [string, Bytes, RegExp][] = [
    ...[0x13, 0x1f, 0x99, 0x41, 0xff, 0x03].map((family): [string, Bytes, RegExp] => [
      `family and transport 0x${family.toString(16)}`,
      Uint8Array.from([...encodeProxyHeader(2, ...v4)].with(13, family)),
      /unassigned/,
    ]),
    ["a TLV that is cut short", withTlvs([4, 0, 2, 9]), /cut short/],
    ["a TLV without its length", withTlvs([4, 0]), /cut short/],
    ["a checksum of 3 bytes", withTlvs([3, 0, 3, 0, 0, 0]), /checksum has 3 bytes/],
    ["another protocol", text("GET / HTTP/1.1\r\n"), /signature/],
    ["a signature gone wrong", text("PROXX TCP4"), /signature/],
    ["a family that isn't", text("PROXY TCP5 1.1.1.1 1.1.1.1 1 1\r\n"), /family/],
    ["too few fields", text("PROXY TCP4 1.1.1.1 1.1.1.1 1\r\n"), /fields/],
    ["a wrong address", text("PROXY TCP4 1.1.1.256 1.1.1.1 1 1\r\n"), /addresses/],
    ["mixed families", text("PROXY TCP4 ::1 1.1.1.1 1 1\r\n"), /addresses/],
    ["an IPv6 zone", text("PROXY TCP6 fe80::1%eth0 ::1 1 1\r\n"), /addresses/],
    ["a short IPv4 address", text("PROXY TCP4 127.1 1.1.1.1 1 1\r\n"), /addresses/],
    ["an IPv4 address with leading zeros", text("PROXY TCP4 010.0.0.1 1.1.1.1 1 1\r\n"), /addresses/],
    ["two spaces", text("PROXY TCP4  1.1.1.1 1.1.1.1 1 1\r\n"), /fields/],
    ["a field too many", text("PROXY TCP4 1.1.1.1 1.1.1.1 1 1 \r\n"), /fields/],
    ["a signed port", text("PROXY TCP4 1.1.1.1 1.1.1.1 +1 1\r\n"), /ports/],
    ["an empty line", text("PROXY \r\n"), /family/],
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

  it("keep IPv6 addresses with a dotted end IPv6, where they aren't mapped", () => {
    const outcome = parseProxyHeader(text("PROXY TCP6 ::10.0.0.1 64:ff9b::192.0.2.1 1 2\r\n"));
    assert.deepEqual(outcome.kind === "header" && [outcome.source?.host, outcome.destination?.host], [
      "::a00:1",
      "64:ff9b::c000:201",
    ]);
  });

  it("may have 107 bytes in version 1, and no more", () => {
    const longest = "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255";
    const line = (hosts: string) => text(`PROXY TCP6 ${hosts} 65535 65535\r\n`);
    // The spec's longest line, UNKNOWN with two such addresses, has 107 bytes with its CRLF.
    const unknown = `PROXY UNKNOWN ${"f".repeat(39)} ${"f".repeat(39)} 65535 65535\r\n`;
    assert.equal(unknown.length, 107);
    assert.equal(parseProxyHeader(text(unknown)).kind, "header");
    assert.equal(parseProxyHeader(text(unknown.slice(0, 106))).kind, "incomplete");
    assert.equal(parseProxyHeader(text(unknown.replace("\r", "f\r"))).kind, "refused");
    assert.equal(parseProxyHeader(line(`${longest} ${longest}`)).kind, "refused");
    assert.equal(parseProxyHeader(line(`${longest} ::1`)).kind, "header");
  });

  it("of version 2 may be as long as the cap, which is judged before it is waited for", () => {
    const header = (size: number) => {
      const bytes = encodeProxyHeader(2, ...v4);
      bytes.set([size >> 8, size & 255], 14);
      return bytes;
    };
    assert.equal(parseProxyHeader(header(PROXY_V2_MAX_BYTES - 16)).kind, "incomplete");
    assert.equal(parseProxyHeader(header(PROXY_V2_MAX_BYTES - 15).slice(0, 16)).kind, "refused");
    assert.equal(parseProxyHeader(header(PROXY_V2_MAX_BYTES - 15).slice(0, 15)).kind, "incomplete");
  });

  it("of LOCAL are passed over, whatever family they name", () => {
    const bytes = encodeProxyHeader(2, ...v6);
    bytes[12] = 0x20;
    for (const family of [0x00, 0x11, 0x21, 0x31, 0xff]) {
      bytes[13] = family;
      assert.deepEqual(parseProxyHeader(bytes), {
        kind: "header",
        source: undefined,
        destination: undefined,
        length: bytes.length,
      });
    }
  });

  it("aren't made of what can't be in them", () => {
    const wrong: [{ host: string; port: number }, { host: string; port: number }, RegExp][] = [
      [v4[0], v6[0], /one address is IPv4, the other IPv6/],
      [{ host: "example.org", port: 1 }, v4[0], /"example.org" is not an IP address/],
      [v4[0], { host: "127.1", port: 1 }, /"127.1" is not an IP address/],
      [v4[0], { host: "127.0.0.1", port: 65_536 }, /65536 is not a port/],
      [{ host: "::1", port: -1 }, v6[0], /-1 is not a port/],
    ];
    for (const [source, destination, message] of wrong) {
      for (const version of [1, 2] as const) {
        assert.throws(() => encodeProxyHeader(version, source, destination), {
          code: "proxy_header_invalid",
          side: "local",
          message,
        });
      }
    }
  });

  it("come through with any addresses and ports, in canonical spelling", () => {
    const host = fc.constantFrom(fc.ipV4(), fc.ipV6());
    const pair = host.chain((one) => fc.tuple(one, one, fc.nat(65_535), fc.nat(65_535)));
    fc.assert(
      fc.property(pair, fc.constantFrom<1 | 2>(1, 2), ([from, to, fromPort, toPort], version) => {
        const [source, destination] = [normalizeIp(from), normalizeIp(to)];
        fc.pre(source !== undefined && destination !== undefined && isIPv4(source) === isIPv4(destination));
        const header = encodeProxyHeader(version, { host: from, port: fromPort }, { host: to, port: toPort });
        assert.deepEqual(parseProxyHeader(header), {
          kind: "header",
          source: { host: source, port: fromPort },
          destination: { host: destination, port: toPort },
          length: header.length,
        });
      }),
      { seed: seedOf(4), numRuns: 500 },
    );
  });

  it("are judged the same however much comes at once", () => {
    const base = fc.constantFrom<Bytes>(
      encodeProxyHeader(1),
      encodeProxyHeader(1, ...v4),
      encodeProxyHeader(1, ...v6),
      encodeProxyHeader(2),
      encodeProxyHeader(2, ...v4),
      encodeProxyHeader(2, ...v6),
    );
    const changes = fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 3 });
    let headers = 0;
    fc.assert(
      fc.property(base, changes, fc.uint8Array({ maxLength: 120 }), (valid, changes, behind) => {
        const bytes = new Uint8Array([...valid, ...behind]);
        for (const [at, value] of changes) bytes[at % valid.length] = value;
        let first: ProxyOutcome = { kind: "incomplete" };
        for (let end = 1; end <= bytes.length && first.kind === "incomplete"; end++) {
          first = parseProxyHeader(bytes.slice(0, end));
          assert.ok(first.kind !== "header" || first.length === end);
        }
        assert.equal(parseProxyHeader(bytes).kind, first.kind);
        if (first.kind !== "header") return;
        headers++;
        assert.deepEqual(parseProxyHeader(bytes), first);
      }),
      { seed: seedOf(6), numRuns: 1000 },
    );
    assert.ok(headers > 100, `${headers} headers`);
  });

  it("survive any bytes", () => {
    const start = fc.constantFrom<Bytes>(
      encodeProxyHeader(1, ...v4),
      encodeProxyHeader(2, ...v6),
      new Uint8Array(0),
    );
    let headers = 0;
    fc.assert(
      fc.property(start, fc.uint8Array({ maxLength: 80 }), fc.nat(), (valid, noise, at) => {
        const bytes = new Uint8Array([...valid.slice(0, at % (valid.length + 1)), ...noise]);
        const outcome = parseProxyHeader(bytes);
        if (outcome.kind !== "header") return;
        headers++;
        assert.ok(outcome.length <= bytes.length);
      }),
      { seed: seedOf(3), numRuns: 2000 },
    );
    assert.ok(headers > 10, `${headers} headers`);
  });
});
