/** NewReno against RFC 9002, section 7 and appendix B. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import {
  type AckInfo,
  type LossInfo,
  WINDOW_MAX_BYTES,
} from "../../../../src/protocol/curve/congestion/congestion.ts";
import { NewReno } from "../../../../src/protocol/curve/congestion/newreno.ts";

const SIZE = 1200;
const ack = (over: Partial<AckInfo> = {}): AckInfo => ({
  nowMs: 0,
  bytes: SIZE,
  packets: 1,
  largest: 0,
  nextNumber: 1,
  rttMs: 10,
  inFlightBytes: 12_000,
  limited: true,
  ...over,
});
const loss = (over: Partial<LossInfo> = {}): LossInfo => ({
  nowMs: 0,
  bytes: SIZE,
  packets: 1,
  largest: 0,
  nextNumber: 10,
  persistent: false,
  ...over,
});

describe("NewReno", () => {
  it("begins with ten datagrams in slow start (7.2)", () => {
    const reno = new NewReno(SIZE);
    assert.deepEqual([reno.windowBytes, reno.slowStart], [12_000, true]);
  });

  it("slow start adds what was acknowledged (7.3.1)", () => {
    const reno = new NewReno(SIZE);
    reno.onAck(ack({ bytes: 3000 }));
    assert.equal(reno.windowBytes, 15_000);
  });

  it("a sender that isn't limited by the window doesn't grow it (7.8)", () => {
    const reno = new NewReno(SIZE);
    reno.onAck(ack({ limited: false }));
    assert.equal(reno.windowBytes, 12_000);
  });

  it("a loss halves the window once a round trip and begins recovery (7.3.2)", () => {
    const reno = new NewReno(SIZE);
    reno.onLoss(loss({ largest: 3, nextNumber: 10 }));
    assert.deepEqual([reno.windowBytes, reno.slowStart], [6000, false]);
    reno.onLoss(loss({ largest: 9, nextNumber: 12 }));
    assert.equal(reno.windowBytes, 6000, "of the same round trip");
    reno.onLoss(loss({ largest: 10, nextNumber: 14 }));
    assert.equal(reno.windowBytes, 3000, "of the next one");
  });

  it("recovery doesn't grow the window, what was sent in it does (7.3.2)", () => {
    const reno = new NewReno(SIZE);
    reno.onLoss(loss({ nextNumber: 10 }));
    reno.onAck(ack({ largest: 9 }));
    assert.equal(reno.windowBytes, 6000);
    reno.onAck(ack({ largest: 10 }));
    assert.ok(reno.windowBytes > 6000);
  });

  it("congestion avoidance adds a datagram a window (7.3.3)", () => {
    const reno = new NewReno(SIZE);
    reno.onLoss(loss({ nextNumber: 1 }));
    reno.onAck(ack({ largest: 5, bytes: 6000 }));
    assert.equal(reno.windowBytes, 7200);
  });

  it("two datagrams are the least (7.2), and persistent congestion leaves no more (7.6.2)", () => {
    const reno = new NewReno(SIZE);
    for (let i = 0; i < 10; i++) reno.onLoss(loss({ largest: 10 * i, nextNumber: 10 * i }));
    assert.equal(reno.windowBytes, 2400);
    const other = new NewReno(SIZE);
    other.onLoss(loss({ nextNumber: 10 }));
    other.onLoss(loss({ persistent: true, largest: 5 }));
    assert.deepEqual([other.windowBytes, other.slowStart], [2400, true]);
    // Recovery is over: the next ACK counts.
    other.onAck(ack({ largest: 6 }));
    assert.equal(other.windowBytes, 3600);
  });

  it("slow start ends at half of the window that lost", () => {
    const reno = new NewReno(SIZE);
    reno.onLoss(loss({ nextNumber: 10 }));
    reno.onLoss(loss({ persistent: true }));
    for (let i = 0; i < 3; i++) reno.onAck(ack({ largest: 20 }));
    assert.deepEqual([reno.windowBytes, reno.slowStart], [6000, false]);
    reno.onAck(ack({ largest: 20 }));
    assert.equal(reno.windowBytes, 6240);
  });

  it("the window has a bound", () => {
    const reno = new NewReno(SIZE);
    reno.onAck(ack({ bytes: 2 * WINDOW_MAX_BYTES }));
    assert.equal(reno.windowBytes, WINDOW_MAX_BYTES);
  });

  it("setDatagramBytes() counts from then on; reset() begins anew with it", () => {
    const reno = new NewReno(SIZE);
    reno.setDatagramBytes(1000);
    assert.equal(reno.windowBytes, 12_000);
    reno.onLoss(loss({ nextNumber: 10 }));
    reno.reset();
    assert.deepEqual([reno.windowBytes, reno.slowStart], [10_000, true]);
    reno.onAck(ack({ largest: 0, bytes: 500 }));
    assert.equal(reno.windowBytes, 10_500);
  });
});
