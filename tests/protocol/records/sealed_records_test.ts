import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { Bytes } from "../../../src/bytes/bytes.ts";
import { type Aead, NodeAead, SodiumAead } from "../../../src/crypto/aead.ts";
import { systemRandom } from "../../../src/crypto/random.ts";
import { loadSodium, type Sodium } from "../../../src/crypto/sodium.ts";
import { RecordOpener, RecordScratch, RecordSealer } from "../../../src/protocol/records/sealed_records.ts";
import { pattern } from "../../support/seeded.ts";
import { concat } from "../../support/tunnel.ts";
import { assertLooksRandom, flipped } from "../../support/sealed.ts";
import { SEALED_REKEY_RECORDS } from "../../../src/protocol/records/box_chain.ts";
import {
  SEALED_PADDED_RECORDS,
  SEALED_RECORD_MAX_BYTES,
} from "../../../src/protocol/records/sealed_records.ts";
import { TOKEN_MAX_BYTES } from "../../../src/wire/token/token_payload.ts";

const KEY: Bytes = new Uint8Array(32).fill(3);
const HEAD = 22;

function ends(sodium: Sodium, maxBytes = SEALED_RECORD_MAX_BYTES, bulk: Aead = new SodiumAead(sodium)) {
  const scratch = new RecordScratch();
  const sealer = new RecordSealer(
    { sodium, small: new SodiumAead(sodium), bulk, key: KEY },
    scratch,
    systemRandom,
  );
  const opener = new RecordOpener({ sodium, small: new SodiumAead(sodium), bulk, key: KEY }, scratch);
  opener.maxBytes = maxBytes;
  const got: Bytes[] = [];
  const open = (wire: Bytes) => opener.open(wire, (data) => void got.push(data.slice()));
  return { sealer, opener, got, open, seal: (plain: Bytes): Bytes => sealer.seal(plain).slice() };
}

const sizes = [0, 1, 12, 4096, 65_536, SEALED_RECORD_MAX_BYTES];

for (const kind of ["native", "wasm"] as const) {
  describe(`RecordSealer and RecordOpener, libsodium ${kind}`, () => {
    it("hold 68 KiB at most", async () => {
      const { seal } = ends(await loadSodium(kind));
      assert.equal(SEALED_RECORD_MAX_BYTES, 69_632);
      seal(new Uint8Array(69_632));
      assert.throws(() => seal(new Uint8Array(69_633)), RangeError);
    });

    it("lend one buffer for a body that comes in pieces, until it is whole or the session is over", async () => {
      const sodium = await loadSodium(kind);
      const scratch = new RecordScratch();
      const [lent, back] = [[] as Bytes[], [] as Bytes[]];
      const { take, give } = scratch;
      scratch.take = () => {
        const buffer = take.call(scratch);
        lent.push(buffer);
        return buffer;
      };
      scratch.give = (buffer) => {
        back.push(buffer);
        give.call(scratch, buffer);
      };
      const cipher = { sodium, small: new SodiumAead(sodium), bulk: new SodiumAead(sodium), key: KEY };
      const sealer = new RecordSealer(cipher, scratch, systemRandom);
      const opener = new RecordOpener(cipher, scratch);
      const wire = sealer.seal(pattern(100)).slice();
      opener.open(wire.subarray(0, HEAD + 3), () => assert.fail("it isn't whole"));
      assert.deepEqual([lent.length, back.length], [1, 0]);
      opener.open(wire.subarray(HEAD + 3), () => {});
      assert.deepEqual([lent.length, back.length], [1, 1]);
      opener.close();
      assert.equal(back.length, 1, "nothing is held");
      const next = sealer.seal(pattern(100)).slice();
      opener.open(next.subarray(0, HEAD + 3), () => assert.fail("it isn't whole"));
      opener.close();
      opener.close();
      assert.deepEqual([lent.length, back.length, lent[1] === lent[0]], [2, 2, true]);
    });

    it("open in any pieces, one byte at a time, several at once", async () => {
      const sodium = await loadSodium(kind);
      const plain = sizes.map((size) => pattern(size, size & 255));
      for (
        const [step, bulk] of [
          [Infinity, undefined],
          [100_000, undefined],
          [70_001, undefined],
          [1000, undefined],
          [5000, new NodeAead("aes-256-gcm")],
        ] as const
      ) {
        const { seal, got, open } = ends(sodium, undefined, bulk);
        const wire = concat(...plain.map(seal));
        for (let at = 0; at < wire.length; at += step) open(wire.slice(at, at + step));
        assert.deepEqual(got, plain);
      }
      const { seal, got, open } = ends(sodium);
      for (const byte of concat(seal(pattern(300, 1)), seal(pattern(20, 2)))) open(new Uint8Array([byte]));
      assert.deepEqual(got, [pattern(300, 1), pattern(20, 2)]);
    });
  });
}

const sodium = await loadSodium("native");

describe("RecordSealer and RecordOpener", () => {
  it("end the session by one flipped bit, wherever it is", () => {
    for (let at = 0; at < HEAD + 100 + 16; at++) {
      const { seal, open, got } = ends(sodium);
      for (let i = 0; i < SEALED_PADDED_RECORDS; i++) open(seal(pattern(3, i)));
      const record = seal(pattern(100, 1));
      assert.equal(record.length, HEAD + 100 + 16);
      assert.throws(() => open(flipped(record, at, at % 8)), { code: "cipher_failed" });
      assert.equal(got.length, SEALED_PADDED_RECORDS);
    }
  });

  it("the same for large ones, whichever cipher they have", () => {
    for (const bulk of [new SodiumAead(sodium), new NodeAead("aes-256-gcm")]) {
      for (let at = 0; at < HEAD + 5000; at += 97) {
        const { seal, open } = ends(sodium, undefined, bulk);
        const record = seal(pattern(5000, 1));
        assert.throws(() => open(flipped(record, at, at % 8)), { code: "cipher_failed" });
      }
    }
  });

  it("can't be replayed, left out or swapped", () => {
    const { seal, open } = ends(sodium);
    const [first, second] = [seal(pattern(10, 1)), seal(pattern(10, 2))];
    assert.throws(() => ends(sodium).open(second), { code: "cipher_failed" });
    open(first);
    assert.throws(() => open(first), { code: "cipher_failed" });
  });

  it("are judged by their length before a byte of them is taken", () => {
    const { seal } = ends(sodium);
    const record = seal(pattern(TOKEN_MAX_BYTES + 65, 1));
    const { open } = ends(sodium, TOKEN_MAX_BYTES + 64);
    assert.throws(() => open(record.slice(0, HEAD)), /is too long/);
    assert.throws(() => seal(new Uint8Array(SEALED_RECORD_MAX_BYTES + 1)), RangeError);
  });

  it("get new keys after so many, without a word", () => {
    const { seal, open, got } = ends(sodium);
    for (let i = 0; i < SEALED_REKEY_RECORDS + 3; i++) {
      open(seal(new Uint8Array([i & 255])));
      assert.equal(got.pop()![0], i & 255);
    }
  });

  it("look random, and the first ones vary in length", () => {
    const samples: Bytes[] = [];
    const lengths = new Set<number>();
    for (let i = 0; i < 1000; i++) {
      const key = new Uint8Array(32);
      systemRandom.fill(key);
      const sealer = new RecordSealer(
        { sodium, small: new SodiumAead(sodium), bulk: new SodiumAead(sodium), key },
        new RecordScratch(),
        systemRandom,
      );
      const record = sealer.seal(new Uint8Array(12)).slice();
      lengths.add(record.length);
      samples.push(record.slice(0, HEAD + 12 + 16));
    }
    assertLooksRandom(samples);
    assert.ok(lengths.size > 560, `${lengths.size} lengths`);
  });
});
