/** HPACK: RFC 7541's examples, and blocks of hostile peers. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import type { Field } from "../../../src/wire/http1/fields.ts";
import { encodeFields, HpackDecoder, HpackFault } from "../../../src/wire/http2/hpack.ts";
import { decodeHuffman } from "../../../src/wire/http2/huffman.ts";
import { areTrailers, readRequestFields } from "../../../src/wire/http2/request.ts";

const hex = (text: string) => Uint8Array.from(Buffer.from(text.replaceAll(" ", ""), "hex"));
const LIST_BYTES = 65_536;

describe("encodeFields and HpackDecoder", () => {
  const EXAMPLE: readonly Field[] = [
    [":method", "GET"],
    [":scheme", "http"],
    [":path", "/"],
    [":authority", "www.example.com"],
  ];

  it("decodes the requests of RFC 7541, Appendix C.3 and C.4", () => {
    const series = [
      [
        "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "8286 84be 5808 6e6f 2d63 6163 6865",
        "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
      ],
      [
        "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
        "8286 84be 5886 a8eb 1064 9cbf",
        "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
      ],
    ];
    for (const blocks of series) {
      const decoder = new HpackDecoder(LIST_BYTES);
      const lists = blocks.map((block) => decoder.decode(hex(block)));
      assert.deepEqual(lists, [
        EXAMPLE,
        [...EXAMPLE, ["cache-control", "no-cache"]],
        [
          [":method", "GET"],
          [":scheme", "https"],
          [":path", "/index.html"],
          [":authority", "www.example.com"],
          ["custom-key", "custom-value"],
        ],
      ]);
    }
  });

  it("decodes the responses of Appendix C.6, whose fields push each other out of a table of 256 bytes", () => {
    const decoder = new HpackDecoder(LIST_BYTES);
    // The size that the example takes for granted.
    const first = decoder.decode(hex(
      "3fe101 4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 " +
        "2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
    ));
    assert.deepEqual(first, [
      [":status", "302"],
      ["cache-control", "private"],
      ["date", "Mon, 21 Oct 2013 20:13:21 GMT"],
      ["location", "https://www.example.com"],
    ]);
    assert.deepEqual(decoder.decode(hex("4883 640e ffc1 c0bf"))?.[0], [":status", "307"]);
    const third = decoder.decode(hex(
      "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 " +
        "e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
    ));
    assert.deepEqual(third?.slice(-2), [
      ["content-encoding", "gzip"],
      ["set-cookie", "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"],
    ]);
  });

  it("decodes what it encodes", () => {
    const text = fc.string({ unit: fc.integer({ min: 0x20, max: 0xff }).map((c) => String.fromCharCode(c)) });
    const name = fc.constantFrom(":status", "content-length", "x-own", "set-cookie", "accept-encoding");
    fc.assert(fc.property(fc.array(fc.tuple(name, text)), (fields) => {
      assert.deepEqual(new HpackDecoder(1 << 24).decode(encodeFields(fields)), fields);
    }));
    const long: readonly Field[] = [["x-long", "v".repeat(20_000)]];
    assert.deepEqual(new HpackDecoder(1 << 24).decode(encodeFields(long)), long);
  });

  it("encodes a length that fills its prefix, and the ones beside it", () => {
    for (const length of [126, 127, 128, 254, 255, 256]) {
      const fields: readonly Field[] = [["x-own", "v".repeat(length)]];
      assert.deepEqual(new HpackDecoder(LIST_BYTES).decode(encodeFields(fields)), fields);
    }
  });

  it("refuses what is no block, and nothing else happens", () => {
    fc.assert(fc.property(fc.array(fc.uint8Array({ maxLength: 64 }), { maxLength: 4 }), (blocks) => {
      const decoder = new HpackDecoder(LIST_BYTES);
      try {
        for (const block of blocks) decoder.decode(Uint8Array.from(block));
      } catch (error) {
        assert.ok(error instanceof HpackFault, String(error));
      }
    }));
    const faults: readonly [string, string][] = [
      ["80", "an index of 0"],
      ["ff ff ff ff ff ff 0f", "an index that never ends"],
      ["be", "an index after the table"],
      ["00 05 6162", "a name that is cut off"],
      ["82 3f e1 1f", "a table's size in the middle"],
      ["3f e2 1f", "a table larger than allowed"],
      ["00 81 ff 00", "padding of eight bits"],
      ["00 84 ff ff ff ff 00", "the end of a string inside it"],
    ];
    for (const [block, what] of faults) {
      assert.throws(() => new HpackDecoder(LIST_BYTES).decode(hex(block)), HpackFault, what);
    }
  });

  it("keeps its table when a list is too large, so that the next one is read", () => {
    const decoder = new HpackDecoder(200);
    const kept = hex("40 03 782d61 01 31");
    const many = Uint8Array.from([...kept, ...Array.from({ length: 60_000 }, () => 0xbe)]);
    assert.equal(decoder.decode(many), undefined);
    assert.deepEqual(decoder.decode(hex("be")), [["x-a", "1"]]);
  });

  it("knows every character's code", () => {
    // RFC 7541, Appendix B: one of each length.
    const codes: readonly [string, string][] = [
      ["0", "07"],
      ["X", "fc"],
      ["~", "ffef"],
      ["\0", "ffc7"],
      ["\\", "fffe1f"],
      ["\x80", "fffe6f"],
      ["\xff", "fffffbbf"],
      ["\n", "fffffff3"],
    ];
    for (const [character, code] of codes) assert.equal(decodeHuffman(hex(code), 1), character, code);
    assert.equal(decodeHuffman(hex("0000"), 2), undefined, "longer than allowed");
  });
});

describe("readRequestFields", () => {
  const GET: readonly Field[] = [
    [":method", "GET"],
    [":scheme", "https"],
    [":path", "/a?b"],
    [":authority", "Site.localhost"],
  ];
  const kind = (...fields: readonly Field[]) => readRequestFields(fields).kind;

  it("is made of its fields", () => {
    const outcome = readRequestFields([...GET, ["cookie", "a=1"], ["x-own", "1"], ["cookie", "b=2"]]);
    assert.deepEqual(outcome, {
      kind: "head",
      head: {
        method: "GET",
        target: "/a?b",
        authority: "site.localhost",
        fields: [["x-own", "1"], ["cookie", "a=1; b=2"]],
      },
    });
    assert.equal(kind(...GET.slice(0, 3), ["host", "site.localhost"], ["te", "trailers"]), "head");
  });

  it("is refused when it could become another request in HTTP/1.1", () => {
    const malformed: readonly Field[] = [
      ["transfer-encoding", "chunked"],
      ["connection", "x-own"],
      ["upgrade", "websocket"],
      ["te", "gzip"],
      ["X-Own", "1"],
      ["x own", "1"],
      ["x-own", "1\r\nx-other: 2"],
      ["x-own", "1\0"],
      [":status", "200"],
      [":path", "/second"],
      ["", "1"],
    ];
    for (const field of malformed) assert.equal(kind(...GET, field), "malformed", field.join(": "));
    assert.equal(kind(["x-own", "1"], ...GET), "malformed", "a pseudo-field after others");
    assert.equal(kind(["x-own", "1"], ["cookie", "a=1"], ...GET), "malformed", "after a cookie as well");
    for (const missing of [0, 1, 2]) assert.equal(kind(...GET.toSpliced(missing, 1)), "malformed");
    const bad: readonly [number, Field][] = [
      [0, [":method", "CONNECT"]],
      [0, [":method", "GET /x HTTP/1.1\r\n"]],
      [2, [":path", "/ HTTP/1.1\r\nx: y"]],
      [2, [":path", "no-slash"]],
      [2, [":path", "/a#b"]],
      [3, [":authority", "user@site.localhost"]],
      [3, [":authority", ""]],
    ];
    for (const [at, field] of bad) assert.equal(kind(...GET.with(at, field)), "bad", field.join(": "));
    assert.equal(kind(...GET, ...Array.from({ length: 200 }, () => ["x", "y"] as const)), "bad");
    assert.deepEqual([areTrailers([["x-sum", "1"]]), areTrailers([[":path", "/"]])], [true, false]);
  });
});
