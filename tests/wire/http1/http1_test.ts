/** HTTP/1.1 messages: what is read, what is refused, and bodies cut everywhere. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import type { Bytes } from "../../../src/bytes/bytes.ts";
import { BodyFault, BodyReader, CHUNK_END, chunkLine, LAST_CHUNK } from "../../../src/wire/http1/body.ts";
import { contentLengthOf, endToEnd, fieldsWithout, upgradeOf } from "../../../src/wire/http1/fields.ts";
import {
  HTTP_FIELDS_MAX,
  HTTP_HEAD_MAX_BYTES,
  readRequestHead,
  readResponseHead,
  writeRequestHead,
  writeResponseHead,
} from "../../../src/wire/http1/head.ts";
import { seedOf } from "../../support/seeded.ts";

const bytes = (text: string): Bytes => new Uint8Array(Buffer.from(text, "latin1"));
const request = (text: string) => readRequestHead(bytes(text.replaceAll("\n", "\r\n")));
const statusOf = (text: string) => {
  const outcome = request(text);
  return outcome.kind === "invalid" ? outcome.status : outcome.kind;
};

describe("readRequestHead and writeRequestHead", () => {
  it("is read whole", () => {
    const outcome = request("\nGET /a?b=1 HTTP/1.1\nHost: A.Example:8443\nX-Y:  z \n\nrest");
    assert.equal(outcome.kind, "head");
    if (outcome.kind !== "head") return;
    const fields = [["host", "A.Example:8443"], ["x-y", "z"]];
    assert.deepEqual(outcome.head, { method: "GET", target: "/a?b=1", authority: "a.example:8443", fields });
    assert.deepEqual(outcome.framing, { kind: "none" });
    assert.equal(
      outcome.byteLength,
      "\r\nGET /a?b=1 HTTP/1.1\r\nHost: A.Example:8443\r\nX-Y:  z \r\n\r\n".length,
    );
  });

  it("may name its host in its target, which then counts", () => {
    const outcome = request("GET http://b.example?x HTTP/1.1\nHost: a.example\n\n");
    assert.ok(outcome.kind === "head");
    assert.deepEqual([outcome.head.authority, outcome.head.target], ["b.example", "/?x"]);
  });

  it("is refused where two readers could take it for two things", () => {
    const cases: readonly [string, number][] = [
      ["GET / HTTP/1.1\n\n", 400],
      ["GET / HTTP/1.1\nHost: a\nHost: b\n\n", 400],
      ["GET / HTTP/1.1\nHost: a b\n\n", 400],
      ["GET / HTTP/1.1\nHost: user@a\n\n", 400],
      ["GET  / HTTP/1.1\nHost: a\n\n", 400],
      ["GET a HTTP/1.1\nHost: a\n\n", 400],
      ["GET /#a HTTP/1.1\nHost: a\n\n", 400],
      ["GET / HTTP/2.0\nHost: a\n\n", 505],
      ["CONNECT a:1 HTTP/1.1\nHost: a\n\n", 501],
      ["GET / HTTP/1.1\nHost : a\n\n", 400],
      ["GET / HTTP/1.1\nHost: a\n folded\n\n", 400],
      ["GET / HTTP/1.1\nHost: a\nX: \0\n\n", 400],
      ["POST / HTTP/1.1\nHost: a\nContent-Length: 1\nTransfer-Encoding: chunked\n\n", 400],
      ["POST / HTTP/1.1\nHost: a\nContent-Length: 1\nContent-Length: 1\n\n", 400],
      ["POST / HTTP/1.1\nHost: a\nContent-Length: +1\n\n", 400],
      ["POST / HTTP/1.1\nHost: a\nContent-Length: 1, 1\n\n", 400],
      ["POST / HTTP/1.1\nHost: a\nTransfer-Encoding: gzip, chunked\n\n", 501],
      ["POST / HTTP/1.1\nHost: a\nTransfer-Encoding: xchunked\n\n", 501],
      ["POST / HTTP/1.0\nHost: a\nTransfer-Encoding: chunked\n\n", 400],
    ];
    for (const [text, status] of cases) assert.equal(statusOf(text), status, text);
    const bare = readRequestHead(bytes("GET / HTTP/1.1\nHost: a\n\n\r\n\r\n"));
    assert.equal(bare.kind, "invalid", "lines that end without CR");
    assert.equal(readRequestHead(bytes("\x16\x03\x01")).kind, "invalid", "TLS");
  });

  it("is judged by its size before it is whole", () => {
    assert.equal(statusOf("GET / HTTP/1.1\nHost: a\nX: " + "x".repeat(HTTP_HEAD_MAX_BYTES)), 431);
    assert.equal(statusOf("GET / HTTP/1.1\nHost: a\n" + "x: y\n".repeat(HTTP_FIELDS_MAX + 1) + "\n"), 431);
    assert.equal(statusOf("GET / HTTP/1.1\nHost: a\nX: "), "incomplete");
  });
});

describe("readResponseHead and writeResponseHead", () => {
  it("says how its body is framed", () => {
    const framing = (text: string, method = "GET") => {
      const outcome = readResponseHead(bytes(text.replaceAll("\n", "\r\n")), method);
      return outcome.kind === "head" ? outcome.framing.kind : outcome.kind;
    };
    assert.equal(framing("HTTP/1.1 200 OK\nContent-Length: 3\n\n"), "length");
    assert.equal(framing("HTTP/1.1 200\nTransfer-Encoding: chunked\n\n"), "chunked");
    assert.equal(framing("HTTP/1.0 200 OK\n\n"), "close");
    assert.equal(framing("HTTP/1.1 304 Not Modified\nContent-Length: 3\n\n"), "none");
    assert.equal(framing("HTTP/1.1 200 OK\nContent-Length: 3\n\n", "HEAD"), "none");
    assert.equal(framing("HTTP/1.1 200 OK\nContent-Length: x\n\n"), "invalid");
    assert.equal(framing("SSH-2.0-OpenSSH_9\n\n"), "invalid");
  });
});

describe("endToEnd and upgradeOf", () => {
  it("that concern one connection aren't passed on", () => {
    const fields = [["connection", "close, X-One"], ["x-one", "1"], ["te", "trailers"], [
      "x-two",
      "2",
    ]] as const;
    assert.deepEqual(endToEnd(fields), [["x-two", "2"]]);
    assert.equal(upgradeOf([["connection", "keep-alive, Upgrade"], ["upgrade", "WebSocket"]]), "websocket");
    assert.equal(upgradeOf([["upgrade", "websocket"]]), undefined);
  });

  it("a protocol that carries further requests isn't one to upgrade to", () => {
    const asked = (protocols: string) => upgradeOf([["connection", "Upgrade"], ["upgrade", protocols]]);
    for (const protocols of ["h2c", "H2C", "HTTP/2.0", "http", "TLS/1.2", "h2c, TLS/1.0"]) {
      assert.equal(asked(protocols), undefined, protocols);
    }
    assert.equal(asked("h2c, websocket"), "websocket");
    assert.equal(asked("SPDY/3.1"), "spdy/3.1");
  });

  it("names that a server can't tell apart are dropped together", () => {
    const fields = [["x-user", "1"], ["x_user", "2"], ["x-_user", "3"], ["user", "4"]] as const;
    assert.deepEqual(fieldsWithout(["x-user"])(fields), [["x-_user", "3"], ["user", "4"]]);
  });

  it("of an answer stand after its status and the phrase that goes with it", () => {
    const phrases: [number, string][] = [
      ...[[100, "Continue"], [101, "Switching Protocols"], [200, "OK"], [204, "No Content"]] as const,
      ...[[304, "Not Modified"], [400, "Bad Request"], [404, "Not Found"], [
        421,
        "Misdirected Request",
      ]] as const,
      ...[[431, "Request Header Fields Too Large"], [502, "Bad Gateway"], [504, "Gateway Timeout"]] as const,
      [299, ""],
    ].map(([status, phrase]) => [Number(status), String(phrase)]);
    for (const [status, phrase] of phrases) {
      const head = Buffer.from(writeResponseHead(status, [["x", "y"]])).toString("latin1");
      assert.equal(head, `HTTP/1.1 ${status} ${phrase}\r\nx: y\r\n\r\n`);
    }
  });

  it("are written so that they are read again", () => {
    const head = writeRequestHead("GET", "/", [["host", "a"], ["x", "\xe4"]]);
    const outcome = readRequestHead(head);
    assert.ok(outcome.kind === "head");
    assert.deepEqual(outcome.head.fields, [["host", "a"], ["x", "\xe4"]]);
  });
});

describe("contentLengthOf", () => {
  it("is the only Content-Length, of up to 15 digits", () => {
    const of = (...values: string[]) => contentLengthOf(values.map((value) => ["content-length", value]));
    assert.equal(of("0"), 0);
    assert.equal(of("123456789012345"), 123_456_789_012_345);
    for (const none of [[], ["1", "1"], ["1234567890123456"], [""], ["-1"], ["1.5"], ["0x1"], ["1 "]]) {
      assert.equal(of(...none), undefined, none.join(", "));
    }
  });
});

describe("BodyReader", () => {
  it("comes out of its chunks the same wherever they are cut", () => {
    const property = fc.property(
      fc.array(fc.uint8Array({ minLength: 1, maxLength: 40 }), { maxLength: 8 }),
      fc.array(fc.nat(60), { maxLength: 20 }),
      fc.boolean(),
      (pieces, cuts, trailer) => {
        const body = Buffer.concat(pieces);
        const end = trailer ? bytes("0;x=1\r\nA: b\r\n\r\n") : LAST_CHUNK;
        const framed = Buffer.concat([
          ...pieces.flatMap((piece) => [chunkLine(piece.length), piece, CHUNK_END]),
          end,
          Buffer.from("next"),
        ]);
        const reader = new BodyReader({ kind: "chunked" });
        const out: Uint8Array[] = [];
        let at = 0;
        let own = 0;
        for (const cut of [...cuts, framed.length]) {
          const piece = new Uint8Array(framed.subarray(at, at + cut));
          at += piece.length;
          own += reader.push(piece, (data) => out.push(data.slice()));
        }
        assert.equal(reader.done, true);
        assert.deepEqual(Buffer.concat(out), body);
        assert.equal(framed.length - own, 4);
      },
    );
    fc.assert(property, { seed: seedOf(49), numRuns: 200 });
  });

  it("that isn't framed as it says is refused", () => {
    for (
      const text of [
        "g\r\n",
        "\r\n",
        "1\nx",
        "-1\r\n",
        "1\r\nxy\r\n",
        "1 ;\r",
        "123456789\r\n",
        "1".repeat(300),
      ]
    ) {
      const reader = new BodyReader({ kind: "chunked" });
      const read = () => {
        reader.push(bytes(text), () => {});
        reader.push(bytes("\n\r\n"), () => {});
      };
      assert.throws(read, JSON.stringify(text));
    }
  });

  const push = (reader: BodyReader, text: string) => {
    let got = "";
    const own = reader.push(bytes(text), (piece) => {
      assert.notEqual(piece.length, 0);
      got += Buffer.from(piece).toString("latin1");
    });
    return [own, got, reader.done];
  };

  it("of a length ends with its last byte; what follows is left", () => {
    const reader = new BodyReader({ kind: "length", byteLength: 5 });
    assert.deepEqual(push(reader, "abc"), [3, "abc", false]);
    assert.equal(reader.end(), false);
    assert.deepEqual(push(reader, ""), [0, "", false]);
    assert.deepEqual(push(reader, "defg"), [2, "de", true]);
    assert.deepEqual(push(reader, "hi"), [0, "", true]);
    assert.equal(reader.end(), true);
  });

  it("that the connection ends is whole when it does", () => {
    const reader = new BodyReader({ kind: "close" });
    assert.deepEqual(push(reader, "abc"), [3, "abc", false]);
    assert.equal(reader.end(), true);
    assert.deepEqual(push(reader, "d"), [0, "", true]);
  });

  it("in chunks isn't whole when the connection ends, and takes nothing after its end", () => {
    const reader = new BodyReader({ kind: "chunked" });
    assert.deepEqual(push(reader, "3\r\nabc"), [6, "abc", false]);
    assert.equal(reader.end(), false);
    assert.deepEqual(push(reader, "\r\n0\r\n\r\nGET"), [7, "", true]);
    assert.deepEqual(push(reader, "GET"), [0, "", true]);
    assert.deepEqual(push(new BodyReader({ kind: "none" }), "GET"), [0, "", true]);
  });

  it("has chunk lines of 256 bytes and trailers of 16 KiB at most", () => {
    const takes = (text: string) => {
      try {
        return new BodyReader({ kind: "chunked" }).push(bytes(text), () => {}) === text.length;
      } catch (error) {
        if (!(error instanceof BodyFault)) throw error;
        return false;
      }
    };
    const line = (length: number) => `1;${"x".repeat(length - 4)}\r\n`;
    assert.deepEqual([takes(line(256)), takes(line(257))], [true, false]);
    const trailer = (length: number) =>
      `0\r\n${"A: b\r\n".repeat(2_000)}X: ${"y".repeat(length - 12_005)}\r\n`;
    assert.deepEqual([takes(trailer(16_384)), takes(trailer(16_385))], [true, false]);
  });
});
