/** ClientHellos of real stacks and made by hand, cut everywhere (tests/vectors/client-hellos.json, its `about`). */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { seeded, seedOf } from "../../support/seeded.ts";
import fc from "fast-check";
import type { Bytes } from "../../../src/bytes/bytes.ts";
import vectors from "../../vectors/client-hellos.json" with { type: "json" };
import { ByteWriter } from "../../../src/bytes/writer.ts";
import { ClientHelloReader, type HelloOutcome, readClientHello } from "../../../src/wire/tls/client_hello.ts";
import { HELLO_MAX_BYTES } from "../../../src/wire/tls/client_hello.ts";

interface Sample {
  name: string;
  must: "route" | "no-sni" | "no-route" | "reject" | "incomplete" | "safe";
  routing_key: string | null;
  alpn: string[] | null;
  allowed_names: string[] | null;
  hello_end: number | null;
  hex: string;
}
const samples = vectors.samples as Sample[];
const bytesOf = (sample: Sample): Bytes => new Uint8Array(Buffer.from(sample.hex, "hex"));

function read(pieces: Iterable<Bytes>): { outcome: HelloOutcome; reader: ClientHelloReader } {
  const reader = new ClientHelloReader();
  let outcome: HelloOutcome = { kind: "incomplete" };
  for (const piece of pieces) outcome = reader.push(piece.slice());
  return { outcome, reader };
}

/** Of outcomes with thousands of ALPN names; deepEqual alone would take most of the suite's time. */
function same(actual: HelloOutcome, expected: HelloOutcome, where: string): void {
  if (JSON.stringify(actual) !== JSON.stringify(expected)) assert.deepEqual(actual, expected, where);
}

function nameIn(outcome: HelloOutcome): string | undefined {
  return outcome.kind === "hello" ? outcome.serverName : undefined;
}

describe("readClientHello", () => {
  it("says of bytes in one piece what ClientHelloReader says, or leaves them to it", () => {
    let routed = 0;
    for (const sample of samples) {
      const bytes = bytesOf(sample);
      if (bytes.length === 0) continue;
      const found = readClientHello(bytes);
      if (found.kind !== "incomplete") same(found, read([bytes]).outcome, sample.name);
      if (found.kind === "hello") routed++;
    }
    assert.ok(routed > samples.length / 4, `${routed} of ${samples.length} without a copy`);
  });

  it("however the bytes are altered and cut", () => {
    const base = samples.map(bytesOf).filter(({ length }) => length > 0 && length < 4_000);
    let judged = 0;
    fc.assert(
      fc.property(
        fc.constantFrom(...base),
        fc.array(fc.tuple(fc.nat(), fc.integer({ min: 0, max: 255 })), { maxLength: 4 }),
        fc.nat(),
        (original, changes, cut) => {
          // Half of them whole: of a part nothing can be said in most cases.
          const bytes = original.slice(0, 1 + cut % (2 * original.length));
          for (const [at, value] of changes) bytes[at % bytes.length] = value;
          const found = readClientHello(bytes);
          if (found.kind === "incomplete") return;
          judged++;
          same(found, read([bytes]).outcome, "altered");
        },
      ),
      { seed: seedOf(7), numRuns: 300 },
    );
    assert.ok(judged > 100, `${judged} of 300 judged without a copy`);
  });
});

function* cutAt(bytes: Bytes, ...places: number[]): Generator<Bytes> {
  let from = 0;
  for (const place of [...places, bytes.length]) {
    if (place > from) yield bytes.subarray(from, place) as Bytes;
    from = Math.max(from, place);
  }
}

describe("ClientHelloReader", () => {
  for (const sample of samples) {
    const bytes = bytesOf(sample);
    it(`${sample.name}: ${sample.must}`, { timeout: 60_000 }, () => {
      const whole = read([bytes]);
      judge(sample, whole.outcome);
      if (whole.outcome.kind !== "refused") assert.deepEqual(whole.reader.bytes, bytes);

      // Every prefix is seen on the way.
      const single = new ClientHelloReader();
      let outcome: HelloOutcome = { kind: "incomplete" };
      for (let at = 0; at < bytes.length; at++) {
        if (sample.hello_end === null || at < sample.hello_end) {
          assert.equal(nameIn(outcome), undefined, `a prefix of ${at} bytes`);
        }
        outcome = single.push(bytes.slice(at, at + 1));
      }
      same(outcome, whole.outcome, "one byte at a time");

      const random = seeded(bytes.length);
      for (let i = 0; i < 20; i++) {
        const places = Array.from({ length: 5 }, () => Math.floor(random() * bytes.length)).sort((a, b) =>
          a - b
        );
        same(read(cutAt(bytes, ...places)).outcome, whole.outcome, `cut at ${places}`);
      }
      // In two at every place; the large ones in steps of a prime, about 500 of them.
      const step = [1, 7, 31, 127].find((prime) => bytes.length / prime < 1_000)!;
      for (let at = 1; at < bytes.length; at += step) {
        same(read(cutAt(bytes, at)).outcome, whole.outcome, `cut at ${at}`);
      }
    });
  }

  it("has all samples before it", () => assert.equal(samples.length, 103));

  it("is read with work linear in its length, one byte at a time", () => {
    const sample = samples.find(({ name }) => name === "stack-openssl35-alpn-60k-natural-multirecord")!;
    // And the same message in records of one byte, which are 6 bytes each.
    const message = messageOf(bytesOf(sample)).subarray(0, 9000);
    for (const bytes of [bytesOf(sample), records(message, 1)]) {
      const pieces = Array.from({ length: bytes.length }, (_, i) => bytes.slice(i, i + 1));
      const copied = countCopied(() => {
        const reader = new ClientHelloReader();
        for (const piece of pieces) reader.push(piece);
        return reader.bytes;
      });
      assert.deepEqual(copied.result, bytes);
      // Twice into buffers that double: a reader that began again with each byte would copy 10^9.
      assert.ok(copied.byteLength >= bytes.length, "the copies are counted");
      assert.ok(
        copied.byteLength < 10 * bytes.length,
        `${copied.byteLength} bytes copied of ${bytes.length}`,
      );
    }
  });

  it("is refused beyond its cap, with the same alert wherever it is cut", () => {
    const head = Uint8Array.of(1, 2, 0, 0); // announces 128 KiB
    const long = new Uint8Array(HELLO_MAX_BYTES + 100);
    long.set(head);
    const endless = records(long, 16_384).slice(0, HELLO_MAX_BYTES + 50);
    // Just before the cap a record begins that is wrong just after it: the cap decides, not how much came at once.
    const wrongBehind = records(long, 16_000);
    const fifth = 4 * 16_005;
    const last = records(long.subarray(0, HELLO_MAX_BYTES - fifth - 5 - 2), 16_384);
    wrongBehind.set(last, fifth);
    wrongBehind.set([22, 3, 3, 0xff, 0xff], HELLO_MAX_BYTES - 2);
    for (const bytes of [endless, wrongBehind]) {
      const { outcome } = read([bytes]);
      assert.ok(outcome.kind === "refused" && outcome.alert === 50, JSON.stringify(outcome));
      assert.match(outcome.detail, /longer than 65536 bytes/);
      assert.equal(read([bytes.slice(0, HELLO_MAX_BYTES)]).outcome.kind, "incomplete");
      for (let at = HELLO_MAX_BYTES - 8; at < HELLO_MAX_BYTES + 8; at++) {
        assert.deepEqual(read(cutAt(bytes, at)).outcome, outcome, `cut at ${at}`);
      }
    }
  });

  it("may have exactly as many bytes as the cap, whatever follows", () => {
    const overhead = 4 * 5; // four records
    const room = HELLO_MAX_BYTES - overhead;
    const empty = hello({ name: "a.example", padding: 0 }).length;
    const longest = records(hello({ name: "a.example", padding: room - empty }), 16_384);
    assert.equal(longest.length, HELLO_MAX_BYTES);
    assert.equal(nameIn(read([longest]).outcome), "a.example");
    assert.equal(nameIn(read([new Uint8Array([...longest, 1, 2, 3])]).outcome), "a.example");
    const tooLong = records(hello({ name: "a.example", padding: room - empty + 1 }), 16_384);
    assert.equal(read([tooLong]).outcome.kind, "refused");
  });

  it("keeps what came with it and after it, and its outcome", () => {
    const whole = records(hello({ name: "a.example", padding: 0 }), 100);
    const { outcome, reader } = read([whole, Uint8Array.of(1, 2), Uint8Array.of(3)]);
    assert.equal(nameIn(outcome), "a.example");
    assert.deepEqual([...reader.bytes.subarray(whole.length)], [1, 2, 3]);
  });

  const faults: [string, Bytes, number][] = [
    ["another content type", Uint8Array.of(23), 10],
    ["SSL 2", Uint8Array.of(0x80), 10],
    ["a record version that isn't TLS", Uint8Array.of(22, 2), 50],
    ["an empty record", Uint8Array.of(22, 3, 1, 0, 0), 50],
    ["a record beyond 2^14 bytes", Uint8Array.of(22, 3, 1, 0x40, 1), 22],
    ["another handshake message", Uint8Array.of(22, 3, 1, 0, 4, 2), 10],
    ["two messages in a record", records(new Uint8Array([...hello({}), 1]), 16_384), 50],
    ["an ALPN list beyond its extension", records(hello({ alpn: [0, 4, 2, 0x68, 0x32] }), 16_384), 50],
    [
      "an ALPN list shorter than its extension",
      records(hello({ alpn: [0, 3, 2, 0x68, 0x32, 0] }), 16_384),
      50,
    ],
    ["an ALPN name beyond its list", records(hello({ alpn: [0, 3, 3, 0x68, 0x32] }), 16_384), 50],
    ["an empty ALPN name", records(hello({ alpn: [0, 1, 0] }), 16_384), 50],
    ["an empty ALPN list", records(hello({ alpn: [0, 0] }), 16_384), 50],
    ["an empty ALPN extension", records(hello({ alpn: [] }), 16_384), 50],
    [
      "two server_name extensions, of which one names a host",
      records(hello({ first: [0, 0, 0, 6, 0, 4, 9, 0, 1, 0x78], name: "a.example" }), 16_384),
      50,
    ],
    [
      "two ALPN extensions",
      records(hello({ first: [0, 16, 0, 4, 0, 2, 1, 0x78], alpn: [0, 2, 1, 0x78] }), 16_384),
      50,
    ],
    ["an empty host name", records(hello({ name: "" }), 16_384), 50],
    ["a host name that can't be routed", records(hello({ name: "*.example" }), 16_384), 112],
  ];
  for (const [name, bytes, alert] of faults) {
    it(`is refused with alert ${alert}: ${name}`, () => {
      const { outcome } = read([bytes]);
      assert.ok(outcome.kind === "refused" && outcome.alert === alert, JSON.stringify(outcome));
      assert.equal(outcome.reason, alert === 112 ? "unrecognized_name" : "hello_invalid");
      assert.match(outcome.detail, /^its [\x20-\x7e]+$/);
      // One byte less wouldn't do: what can be judged is judged, and nothing sooner.
      assert.equal(read([bytes.slice(0, -1)]).outcome.kind, "incomplete");
    });
  }

  it("says how long a server name is that is too long", () => {
    const name = `${"a".repeat(60)}.`.repeat(4); // 244 characters
    const outcome = (length: number, end = "") =>
      read([records(hello({ name: name + "b".repeat(length - 244) + end }), 16_384)]).outcome;
    assert.equal(nameIn(outcome(253))?.length, 253);
    assert.equal(nameIn(outcome(253, "."))?.length, 253);
    for (const [length, end, counted] of [[254, "", 254], [254, ".", 255], [300, "", 300]] as const) {
      const refused = outcome(length, end);
      assert.ok(refused.kind === "refused" && refused.alert === 112, JSON.stringify(refused));
      assert.match(
        refused.detail,
        new RegExp(`^its server name "(a{60}\\.)+a*…" .*: it has ${counted} characters`),
      );
    }
  });

  it("survives any change of its bytes, and the outcome doesn't depend on the cut", () => {
    const base = samples.filter(({ must, hex }) => must === "route" && hex.length < 2000).map(bytesOf);
    let names = 0;
    fc.assert(
      fc.property(
        fc.constantFrom(...base),
        fc.array(fc.tuple(fc.nat(), fc.integer({ min: 0, max: 255 })), { minLength: 1, maxLength: 6 }),
        fc.nat(),
        (valid, changes, cut) => {
          const bytes = valid.slice();
          for (const [at, value] of changes) bytes[at % bytes.length] = value;
          const outcome = read([bytes]).outcome;
          assert.deepEqual(read(cutAt(bytes, cut % bytes.length)).outcome, outcome);
          const name = nameIn(outcome);
          if (name === undefined) return;
          names++;
          assert.match(name, /^[a-z0-9_.-]{1,253}$/);
        },
      ),
      { seed: seedOf(7), numRuns: 3000 },
    );
    assert.ok(names > 1000, `${names} names`);
  });

  it("survives bytes put in and taken out", () => {
    const base = samples.filter(({ must, hex }) => must === "route" && hex.length < 1000).map(bytesOf);
    fc.assert(
      fc.property(
        fc.constantFrom(...base),
        fc.nat(),
        fc.nat({ max: 4 }),
        fc.uint8Array({ maxLength: 4 }),
        fc.nat(),
        (valid, at, removed, added, cut) => {
          const from = at % valid.length;
          const bytes = new Uint8Array([...valid.slice(0, from), ...added, ...valid.slice(from + removed)]);
          const { outcome } = read([bytes]);
          assert.deepEqual(read(cutAt(bytes, cut % bytes.length)).outcome, outcome);
        },
      ),
      { seed: seedOf(8), numRuns: 1500 },
    );
  });
});

/** A ClientHello message, without records; `first` is a whole extension, `alpn` is an extension's body, `padding` the length of one more's. */
function hello(parts: { first?: number[]; name?: string; alpn?: number[]; padding?: number }): Bytes {
  const extensions = new ByteWriter(1 << 17);
  if (parts.first !== undefined) extensions.bytes(parts.first);
  if (parts.name !== undefined) {
    const name = Buffer.from(parts.name);
    extensions.u16(0).u16(name.length + 5).u16(name.length + 3).u8(0).u16(name.length).bytes(name);
  }
  if (parts.alpn !== undefined) extensions.u16(16).u16(parts.alpn.length).bytes(parts.alpn);
  if (parts.padding !== undefined) extensions.u16(21).u16(parts.padding).bytes(new Uint8Array(parts.padding));
  const body = new ByteWriter(1 << 17).u16(0x303).bytes(new Uint8Array(32)).u8(0).u16(2).u16(0x1301).u8(1).u8(
    0,
  )
    .u16(extensions.length).bytes(extensions.finish()).finish();
  return new ByteWriter(1 << 17).u8(1).u24(body.length).bytes(body).finish();
}

/** A message in records of at most `size` bytes. */
function records(message: Bytes, size: number): Bytes {
  const out = new ByteWriter(1 << 17);
  for (let at = 0; at < message.length; at += size) {
    const part = message.subarray(at, at + size);
    out.u8(22).u16(0x301).u16(part.length).bytes(part);
  }
  return out.finish();
}

/** What whole records carry. */
function messageOf(bytes: Bytes): Bytes {
  const out = new ByteWriter(1 << 17);
  for (let at = 0; at < bytes.length;) {
    const size = (bytes[at + 3] << 8) | bytes[at + 4];
    out.bytes(bytes.subarray(at + 5, at + 5 + size));
    at += 5 + size;
  }
  return out.finish();
}

/** Runs something and counts the bytes that it copies between arrays. */
function countCopied<T>(run: () => T): { result: T; byteLength: number } {
  const set = Uint8Array.prototype.set;
  let byteLength = 0;
  // Shadows TypedArray's own method until it is deleted.
  Uint8Array.prototype.set = function (this: Uint8Array, source: ArrayLike<number>, at?: number) {
    byteLength += source.length;
    set.call(this, source, at);
  };
  try {
    return { result: run(), byteLength };
  } finally {
    delete (Uint8Array.prototype as { set?: unknown }).set;
  }
}

function judge(sample: Sample, outcome: HelloOutcome): void {
  const name = nameIn(outcome);
  switch (sample.must) {
    case "route":
      assert.equal(name, sample.routing_key);
      assert.deepEqual((outcome as { alpnProtocols?: unknown }).alpnProtocols, sample.alpn ?? []);
      break;
    case "no-sni":
      assert.deepEqual([outcome.kind, name], ["hello", undefined]);
      break;
    case "no-route":
      assert.ok(outcome.kind === "refused" && outcome.alert === 112, JSON.stringify(outcome));
      break;
    case "reject":
      assert.ok(outcome.kind === "refused" && [10, 22, 50].includes(outcome.alert), JSON.stringify(outcome));
      break;
    case "incomplete":
      assert.equal(outcome.kind, "incomplete");
      break;
    case "safe":
      assert.ok(name === undefined || (sample.allowed_names ?? []).includes(name), `${name}`);
  }
}
