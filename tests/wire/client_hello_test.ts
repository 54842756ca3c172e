/** ClientHellos of real stacks and made by hand, cut everywhere (tests/vectors/client-hellos.json, its `about`). */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import type { Bytes } from "../../src/bytes/bytes.ts";
import vectors from "../vectors/client-hellos.json" with { type: "json" };
import { HELLO_MAX_BYTES } from "../../src/limits.ts";
import { ClientHelloReader, type HelloOutcome } from "../../src/wire/client_hello.ts";
import { seeded } from "../mux/harness.ts";

interface Sample {
  name: string;
  must: "route" | "no-sni" | "no-route" | "reject" | "incomplete" | "safe";
  routing_key: string | null;
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

function nameIn(outcome: HelloOutcome): string | undefined {
  return outcome.kind === "hello" ? outcome.serverName : undefined;
}

function* cutAt(bytes: Bytes, ...places: number[]): Generator<Bytes> {
  let from = 0;
  for (const place of [...places, bytes.length]) {
    if (place > from) yield bytes.subarray(from, place) as Bytes;
    from = Math.max(from, place);
  }
}

describe("ClientHello", () => {
  for (const sample of samples) {
    const bytes = bytesOf(sample);
    it(`${sample.name}: ${sample.must}`, () => {
      const whole = read([bytes]);
      judge(sample, whole.outcome);
      if (whole.outcome.kind !== "refused") assert.deepEqual(whole.reader.bytes, bytes);

      const single = read(cutAt(bytes, ...Array.from({ length: bytes.length }, (_, i) => i)));
      assert.deepEqual(single.outcome, whole.outcome);

      const random = seeded(bytes.length);
      for (let i = 0; i < 20; i++) {
        const places = Array.from({ length: 5 }, () => Math.floor(random() * bytes.length)).sort((a, b) =>
          a - b
        );
        assert.deepEqual(read(cutAt(bytes, ...places)).outcome, whole.outcome);
      }
      // Every place; the very long ones at every place of their first and last part, and in steps between.
      const step = bytes.length > 8000 ? 97 : 1;
      for (let at = 1; at < bytes.length; at += at < 600 || at > bytes.length - 600 ? 1 : step) {
        assert.deepEqual(read(cutAt(bytes, at)).outcome, whole.outcome, `cut at ${at}`);
        if (sample.hello_end === null || at < sample.hello_end) {
          assert.equal(nameIn(read([bytes.slice(0, at)]).outcome), undefined, `a prefix of ${at} bytes`);
        }
      }
    });
  }

  it("has all samples before it", () => assert.equal(samples.length, 103));

  it("is read in time linear in its length, one byte at a time", () => {
    // 60 KiB of one-byte records: a parser that began again with each byte would do 2 * 10^9 steps.
    const sample = samples.find(({ name }) => name === "stack-openssl35-alpn-60k-natural-multirecord")!;
    const bytes = bytesOf(sample);
    const reader = new ClientHelloReader();
    for (let i = 0; i < bytes.length; i++) reader.push(bytes.slice(i, i + 1));
    assert.deepEqual(reader.bytes, bytes);
  });

  it("is refused beyond its cap, wherever it is cut", () => {
    const record = new Uint8Array(5 + 16_384);
    record.set([22, 3, 1, 0x40, 0]);
    const first = record.slice();
    first.set([1, 1, 0, 0], 5); // a message of 64 KiB and more
    const bytes = new Uint8Array(5 * record.length);
    bytes.set(first);
    for (let i = 1; i < 5; i++) bytes.set(record, i * record.length);
    assert.ok(bytes.length > HELLO_MAX_BYTES);
    for (const pieces of [[bytes], [...cutAt(bytes, 20_000, 40_000, 65_536)]]) {
      const { outcome } = read(pieces);
      assert.equal(outcome.kind, "refused");
    }
  });

  it("survives any change of its bytes, and the outcome doesn't depend on the cut", () => {
    const base = samples.filter(({ must, hex }) => must === "route" && hex.length < 2000).map(bytesOf);
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
          if (name !== undefined) assert.match(name, /^[a-z0-9_.-]{1,253}$/);
        },
      ),
      { seed: 7, numRuns: 3000 },
    );
  });

  it("says which protocols the client offers", () => {
    const sample = samples.find(({ name }) => name === "stack-openssl35-pq-alpn")!;
    const { outcome } = read([bytesOf(sample)]);
    assert.ok(outcome.kind === "hello" && outcome.alpnProtocols.length > 0);
  });
});

function judge(sample: Sample, outcome: HelloOutcome): void {
  const name = nameIn(outcome);
  switch (sample.must) {
    case "route":
      assert.equal(name, sample.routing_key);
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
