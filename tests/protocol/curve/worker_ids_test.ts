/** Connection ids that name a worker. */
import assert from "node:assert/strict";
import { it } from "node:test";
import fc from "fast-check";
import { halfSipHash, WORKER_KEY_BYTES, WorkerIds } from "../../../src/protocol/curve/worker_ids.ts";
import { ID_BYTES } from "../../../src/wire/curve/curve_packet.ts";
import { pattern, seededSource } from "../../support/seeded.ts";

it("halfSipHash gives the values of the reference implementation", () => {
  // vectors.h of the authors' SipHash, HalfSipHash with 32 bits: key 00…07, messages of 4 to 7 bytes 00, 01…
  const expected = { 4: 0x89466e2a, 5: 0x69b6fac5, 6: 0x23fc6358, 7: 0xc563cf8b };
  const tails = { 4: 0, 5: 0x04, 6: 0x0504, 7: 0x060504 };
  for (const size of [4, 5, 6, 7] as const) {
    const last = (size << 24) | tails[size];
    assert.equal(halfSipHash(0x03020100, 0x07060504, 0x03020100, last), expected[size]);
  }
});

it("an id names its worker to those who have the key", () => {
  fc.assert(fc.property(
    fc.uint8Array({ minLength: WORKER_KEY_BYTES, maxLength: WORKER_KEY_BYTES }),
    fc.integer({ min: 0, max: 0xffff }),
    fc.integer(),
    (key, worker, seed) => {
      const ids = new WorkerIds(key as Uint8Array<ArrayBuffer>);
      const id = ids.draw(seededSource(seed), worker);
      assert.equal(id.length, ID_BYTES);
      const packet = new Uint8Array(4 + ID_BYTES);
      packet.set(id, 4);
      assert.equal(ids.workerOf(packet, 4), worker);
    },
  ));
});

it("ids of one worker look random: every bit is set in about half of them", () => {
  const ids = new WorkerIds(pattern(WORKER_KEY_BYTES));
  const random = seededSource(1);
  const drawn = Array.from({ length: 4_000 }, () => ids.draw(random, 1));
  for (let bit = 0; bit < 8 * ID_BYTES; bit++) {
    const set = drawn.filter((id) => (id[bit >> 3]! >> (bit & 7)) & 1).length;
    // Six standard deviations of 31.6.
    assert.ok(Math.abs(set - 2_000) < 190, `bit ${bit} is set in ${set} of 4000`);
  }
});
