/** MtuSearch: the largest datagram that a path carries (RFC 8899). */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { MtuSearch } from "../../../../src/protocol/curve/recovery/mtu.ts";

const BASE = 1_088;
const AGAIN_MS = 600_000;
const AFTER_FALL_MS = 60_000;

/** Probes until nothing more is to be tried; `carries` says which sizes come through. */
function search(mtu: MtuSearch, carries: (size: number) => boolean, nowMs = 0): number[] {
  const tried: number[] = [];
  for (let size = mtu.probe(nowMs); size > 0; size = mtu.probe(nowMs)) {
    tried.push(size);
    mtu.sent();
    if (carries(size)) mtu.acked(size);
    else mtu.lost(nowMs);
  }
  return tried;
}

describe("MtuSearch", () => {
  it("begins with the size that every path carries, and tries the sizes in turn up to the limit", () => {
    const mtu = new MtuSearch(16_384);
    assert.equal(mtu.bytes, BASE);
    assert.deepEqual(search(mtu, () => true), [1_232, 1_372, 1_432, 1_452, 4_352, 8_952, 16_332]);
    assert.equal(mtu.bytes, 16_332);
  });

  it("cap() bounds it by what the peer accepts, and never raises it", () => {
    const mtu = new MtuSearch(1_452);
    mtu.cap(1_400);
    mtu.cap(9_000);
    assert.deepEqual(search(mtu, () => true), [1_232, 1_372]);
    const exact = new MtuSearch(16_384);
    exact.cap(1_232);
    assert.deepEqual(search(exact, () => true), [1_232]);
  });

  it("one probe at a time", () => {
    const mtu = new MtuSearch(1_452);
    assert.equal(mtu.probe(0), 1_232);
    assert.equal(mtu.probe(0), 1_232, "not sent yet");
    mtu.sent();
    assert.equal(mtu.probe(0), 0);
  });

  it("a size that is lost three times is left for ten minutes", () => {
    const mtu = new MtuSearch(1_452);
    assert.deepEqual(search(mtu, (size) => size < 1_372), [1_232, 1_372, 1_372, 1_372]);
    assert.equal(mtu.bytes, 1_232);
    assert.equal(mtu.probe(AGAIN_MS - 1), 0);
    assert.deepEqual(search(mtu, () => true, AGAIN_MS), [1_372, 1_432, 1_452]);
  });

  it("a probe that comes through between losses counts", () => {
    const mtu = new MtuSearch(1_300);
    for (const outcome of ["lost", "lost", "acked"] as const) {
      assert.equal(mtu.probe(0), 1_232);
      mtu.sent();
      if (outcome === "lost") mtu.lost(0);
      else assert.equal(mtu.acked(1_232), true);
    }
    assert.equal(mtu.bytes, 1_232);
  });

  it("each size has three tries of its own, and again when it is tried anew", () => {
    const mtu = new MtuSearch(1_372);
    const lose = (times: number, nowMs = 0) => {
      for (let i = 0; i < times; i++) {
        mtu.sent();
        mtu.lost(nowMs);
      }
      return mtu.probe(nowMs);
    };
    assert.equal(lose(2), 1_232);
    mtu.sent();
    mtu.acked(1_232);
    assert.equal(lose(2), 1_372);
    assert.equal(lose(1), 0);
    assert.equal(lose(2, AGAIN_MS), 1_372);
    assert.equal(lose(1, AGAIN_MS), 0);
  });

  it("acked() of a size that isn't larger changes nothing", () => {
    const mtu = new MtuSearch(1_452);
    search(mtu, () => true);
    assert.equal(mtu.acked(1_452), false);
    assert.equal(mtu.acked(1_232), false);
    assert.equal(mtu.bytes, 1_452);
  });

  it("acked() of a size from outside the table goes on with the next larger one", () => {
    const mtu = new MtuSearch(1_452);
    mtu.acked(1_400);
    assert.equal(mtu.probe(0), 1_432);
    mtu.acked(20_000);
    assert.equal(mtu.probe(0), 0);
    const small = new MtuSearch(1_452);
    small.acked(1_100);
    assert.equal(small.probe(0), 1_232);
  });

  it("fall() goes back to the base size once, and waits a minute before it searches again", () => {
    const mtu = new MtuSearch(1_452);
    assert.equal(mtu.fall(0), false);
    search(mtu, () => true);
    assert.equal(mtu.fall(1000), true);
    assert.deepEqual([mtu.bytes, mtu.fall(1000)], [BASE, false]);
    assert.equal(mtu.probe(1000 + AFTER_FALL_MS - 1), 0);
    assert.equal(mtu.probe(1000 + AFTER_FALL_MS), 1_232);
  });

  it("reset() searches another path at once, tries and a probe on its way forgotten", () => {
    const mtu = new MtuSearch(1_452);
    mtu.probe(0);
    mtu.sent();
    mtu.lost(0);
    mtu.lost(0);
    mtu.sent();
    mtu.reset();
    assert.deepEqual([mtu.bytes, mtu.probe(0)], [BASE, 1_232]);
    mtu.lost(0);
    assert.equal(mtu.probe(0), 1_232, "the first of three again");
  });
});
