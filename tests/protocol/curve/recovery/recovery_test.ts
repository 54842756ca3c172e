/** Recovery: loss detection and probes, against RFC 9002, section 6, 7.6 and appendix A. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type {
  AckInfo,
  CongestionControl,
  LossInfo,
} from "../../../../src/protocol/curve/congestion/congestion.ts";
import type { AckRanges } from "../../../../src/wire/curve/curve_frame.ts";
import { Recovery, type SentPacket } from "../../../../src/protocol/curve/recovery/recovery.ts";
import { MAX_ACK_DELAY_MS, RttEstimate } from "../../../../src/protocol/curve/recovery/rtt.ts";

/** A sender that remembers what it was told. */
class Bench {
  readonly rtt = new RttEstimate();
  readonly acked: number[] = [];
  readonly lateAcked: number[] = [];
  readonly lost: number[] = [];
  readonly probed: number[] = [];
  readonly acks: AckInfo[] = [];
  readonly losses: LossInfo[] = [];
  readonly recovery: Recovery<string>;

  constructor() {
    const control = {
      onAck: (info: AckInfo) => void this.acks.push({ ...info }),
      onLoss: (info: LossInfo) => void this.losses.push({ ...info }),
    } as Partial<CongestionControl> as CongestionControl;
    this.recovery = new Recovery<string>(
      {
        packetAcked: ({ number }, late) => void (late ? this.lateAcked : this.acked).push(number),
        packetLost: ({ number }, probe) => void (probe ? this.probed : this.lost).push(number),
      },
      control,
      this.rtt,
    );
  }

  send(nowMs: number, bytes = 1000, { eliciting = true, probe = 0 } = {}): SentPacket<string> {
    const packet = this.recovery.begin();
    packet.probe = probe;
    this.recovery.sent(packet, nowMs, bytes, eliciting);
    return packet;
  }

  /** Sends a packet each ms from `fromMs` on. */
  burst(count: number, fromMs = 0): void {
    for (let i = 0; i < count; i++) this.send(fromMs + i);
  }

  /** Takes an ACK of ranges `[low, high]`, the highest first. */
  ack(nowMs: number, ranges: readonly (readonly [number, number])[], delayMs = 0): void {
    const all = {
      count: ranges.length,
      low: ranges.map(([low]) => low),
      high: ranges.map(([, high]) => high),
    };
    this.recovery.acknowledge(all as unknown as AckRanges, delayMs, nowMs);
  }
}

describe("Recovery: records of packets", () => {
  it("begin() gives an empty record, though it is one that was used before", () => {
    const bench = new Bench();
    const used = new Set<unknown>();
    for (let number = 0; number < 400; number++) {
      const packet = bench.recovery.begin();
      assert.deepEqual(
        [packet.number, packet.acked, packet.probe, packet.part, packet.length, packet.fin, packet.others],
        [number, -1, 0, undefined, 0, false, undefined],
      );
      used.add(packet);
      Object.assign(packet, { acked: 5, probe: 7, part: "x", offset: 1, length: 9, fin: true, others: [] });
      bench.recovery.sent(packet, number, 1_000, true);
      bench.ack(number, [[number, number]]);
    }
    assert.equal(used.size, 64);
  });

  it("keeps what is in flight when it needs more records", () => {
    const bench = new Bench();
    for (let number = 0; number < 1_000; number++) bench.send(0, 10);
    assert.deepEqual([bench.recovery.inFlightPackets, bench.recovery.inFlightBytes], [1_000, 10_000]);
    bench.ack(10, [[0, 999]]);
    assert.deepEqual(new Set(bench.acked), new Set(Array.from({ length: 1_000 }, (_, number) => number)));
    assert.equal(bench.acked.length, 1_000);
    assert.deepEqual([bench.recovery.inFlightPackets, bench.recovery.inFlightBytes], [0, 0]);
  });
});

describe("Recovery: acknowledgements", () => {
  it("sent() counts packets that ask for an acknowledgement as in flight, and no others", () => {
    const bench = new Bench();
    bench.send(0, 1000);
    bench.send(0, 400, { eliciting: false });
    bench.send(0, 500);
    const { inFlightBytes, inFlightPackets, nextNumber, largestAcked } = bench.recovery;
    assert.deepEqual([inFlightBytes, inFlightPackets, nextNumber, largestAcked], [1500, 2, 3, -1]);
  });

  it("acknowledge() tells of each packet once, and the congestion control of all together", () => {
    const bench = new Bench();
    bench.burst(5);
    bench.recovery.limited = true;
    bench.ack(100, [[3, 4], [0, 1]]);
    bench.ack(110, [[3, 4], [0, 1]]);
    assert.deepEqual(bench.acked, [4, 3, 1, 0]);
    assert.deepEqual(bench.acks, [{
      nowMs: 100,
      bytes: 4000,
      packets: 4,
      largest: 4,
      nextNumber: 5,
      rttMs: 96,
      inFlightBytes: 5000,
      limited: true,
    }]);
    assert.deepEqual([bench.recovery.inFlightBytes, bench.recovery.largestAcked], [1000, 4]);
  });

  it("the round trip is measured where the largest is newly acknowledged (5.1), with the peer's delay", () => {
    const bench = new Bench();
    bench.burst(4);
    bench.ack(100, [[1, 1]]);
    assert.deepEqual([bench.rtt.latestMs, bench.rtt.minMs], [99, 99]);
    bench.ack(150, [[1, 1], [0, 0]]);
    assert.equal(bench.rtt.latestMs, 99, "the largest was known");
    assert.ok(Number.isNaN(bench.acks.at(-1)!.rttMs));
    bench.ack(163, [[3, 3]], 10);
    assert.deepEqual([bench.rtt.latestMs, bench.rtt.adjustedMs, bench.acks.at(-1)!.rttMs], [160, 150, 150]);
  });

  it("acknowledge() of a number that wasn't sent throws frame_invalid", () => {
    const bench = new Bench();
    bench.burst(2);
    assert.throws(() => bench.ack(10, [[2, 2]]), { code: "frame_invalid" });
    bench.ack(10, [[0, 1]]);
  });

  it("records are used again only when nothing points to them, for as many packets as there are", () => {
    const bench = new Bench();
    for (let round = 0; round < 50; round++) {
      bench.burst(40, round * 100);
      const next = bench.recovery.nextNumber;
      bench.ack(round * 100 + 60, [[next - 40, next - 1]]);
    }
    assert.equal(bench.acked.length, 2000);
    assert.deepEqual([bench.recovery.inFlightBytes, bench.lost], [0, []]);
    // More at once than there were records.
    bench.burst(500, 10_000);
    bench.ack(10_600, [[2000, 2499]]);
    assert.equal(bench.acked.length, 2500);
    assert.equal(new Set(bench.acked).size, 2500);
  });

  it("full says when 65,536 packets are remembered", () => {
    const bench = new Bench();
    for (let i = 0; i < 65_535; i++) bench.send(0, 1);
    assert.equal(bench.recovery.full, false);
    bench.send(0, 1);
    assert.equal(bench.recovery.full, true);
    bench.ack(1, [[0, 0]]);
    assert.equal(bench.recovery.full, false);
  });
});

describe("Recovery: losses", () => {
  it("a packet three below the largest acknowledged is lost (6.1.1), one two below isn't", () => {
    const bench = new Bench();
    for (let i = 0; i < 4; i++) bench.send(0);
    bench.ack(10, [[3, 3]]);
    assert.deepEqual(bench.lost, [0]);
    assert.deepEqual(
      bench.losses.map(({ bytes, packets, largest, nextNumber, persistent, nowMs }) => {
        return [bytes, packets, largest, nextNumber, persistent, nowMs];
      }),
      [[1000, 1, 0, 4, false, 10]],
    );
    assert.deepEqual([bench.recovery.inFlightBytes, bench.recovery.inFlightPackets], [2000, 2]);
  });

  it("a packet sent 9/8 of a round trip before is lost (6.1.2), at the deadline that was told", () => {
    const bench = new Bench();
    bench.send(0);
    bench.send(8);
    bench.ack(88, [[1, 1]]);
    assert.deepEqual([bench.lost, bench.recovery.deadlineMs], [[], 90]);
    assert.equal(bench.recovery.timeout(89), false);
    assert.deepEqual(bench.lost, []);
    assert.equal(bench.recovery.timeout(90), false, "no probe");
    assert.deepEqual([bench.lost, bench.recovery.deadlineMs], [[0], Infinity]);
  });

  it("packets above the largest acknowledged aren't lost", () => {
    const bench = new Bench();
    bench.send(0);
    bench.send(0);
    bench.ack(10, [[0, 0]]);
    bench.recovery.timeout(1000);
    assert.deepEqual(bench.lost, []);
  });

  it("a packet that comes through after all is told as late, and the threshold doubles", () => {
    const bench = new Bench();
    for (let i = 0; i < 4; i++) bench.send(0);
    bench.ack(10, [[3, 3]]);
    bench.ack(11, [[3, 3], [0, 2]]);
    assert.deepEqual([bench.lost, bench.lateAcked, bench.acked], [[0], [0], [3, 2, 1]]);
    for (let i = 0; i < 7; i++) bench.send(20);
    bench.ack(30, [[9, 9]]);
    assert.deepEqual(bench.lost, [0], "five below");
    bench.ack(30, [[10, 10]]);
    assert.deepEqual(bench.lost, [0, 4], "six below");
    assert.equal(bench.recovery.inFlightPackets, 4);
  });

  it("the threshold grows to 64 and no further", () => {
    const bench = new Bench();
    for (let round = 0; round < 8; round++) {
      const first = bench.recovery.nextNumber;
      for (let i = 0; i < 130; i++) bench.send(round * 1000);
      bench.ack(round * 1000 + 1, [[first + 129, first + 129]]);
      bench.ack(round * 1000 + 1, [[first, first + 129]]);
    }
    bench.lost.length = 0;
    const first = bench.recovery.nextNumber;
    for (let i = 0; i < 130; i++) bench.send(10_000);
    bench.ack(10_001, [[first + 129, first + 129]]);
    assert.deepEqual([bench.lost.length, bench.lost.at(-1)], [66, first + 65]);
  });

  it("a lost MTU probe is given up and isn't the congestion control's affair", () => {
    const bench = new Bench();
    bench.send(0, 1400, { probe: 1400 });
    for (let i = 0; i < 3; i++) bench.send(0);
    bench.ack(10, [[3, 3]]);
    assert.deepEqual([bench.lost, bench.losses], [[0], []]);
  });

  it("losses over more than three probe time-outs with nothing between are persistent congestion (7.6)", () => {
    const build = (spanMs: number, between: boolean) => {
      const bench = new Bench();
      bench.send(0);
      bench.ack(100, [[0, 0]]);
      // Smoothed 100, variation 50: a time-out is 320 ms, three of them 960.
      bench.send(1000);
      if (between) bench.send(1500);
      bench.send(1000 + spanMs);
      for (let i = 0; i < 3; i++) bench.send(1001 + spanMs);
      const last = bench.recovery.nextNumber - 1;
      bench.ack(1000 + spanMs + 20, between ? [[last, last], [2, 2]] : [[last, last]]);
      return bench.losses.at(-1)?.persistent;
    };
    assert.equal(build(1200, false), true);
    assert.equal(build(700, false), false);
    assert.equal(build(1200, true), false);
  });

  it("what was sent before the first measurement doesn't make congestion persistent (7.6.2)", () => {
    const bench = new Bench();
    bench.send(0);
    bench.send(3000);
    for (let i = 0; i < 3; i++) bench.send(3000);
    bench.ack(3100, [[4, 4]]);
    assert.deepEqual([bench.lost, bench.losses[0]!.persistent], [[0, 1], false]);
  });
});

describe("Recovery: probe time-outs", () => {
  it("deadlineMs is a probe time-out after the last packet that asks for an acknowledgement (6.2.1)", () => {
    const bench = new Bench();
    assert.equal(bench.recovery.deadlineMs, Infinity);
    bench.send(10);
    bench.send(30);
    bench.send(40, 100, { eliciting: false });
    assert.equal(bench.recovery.deadlineMs, 30 + bench.rtt.ptoMs(0));
  });

  it("each unanswered time-out doubles the next; an acknowledgement resets it (6.2.1)", () => {
    const bench = new Bench();
    bench.rtt.update(100, 0);
    bench.send(0);
    assert.equal(bench.recovery.deadlineMs, 320);
    assert.equal(bench.recovery.timeout(319), false);
    assert.equal(bench.recovery.timeout(320), true);
    assert.deepEqual([bench.recovery.ptoCount, bench.recovery.deadlineMs], [1, 640]);
    bench.send(320);
    assert.equal(bench.recovery.deadlineMs, 320 + 640);
    assert.equal(bench.recovery.timeout(960), true);
    assert.equal(bench.recovery.deadlineMs, 320 + 1280);
    bench.send(961);
    bench.ack(1000, [[1, 1]]);
    assert.equal(bench.recovery.ptoCount, 0);
  });

  it("a probe sends the two oldest packets' contents again, MTU probes left out, and they stay in flight (6.2.4)", () => {
    const bench = new Bench();
    bench.send(0, 1400, { probe: 1400 });
    bench.burst(3);
    bench.recovery.timeout(10_000);
    assert.deepEqual([bench.probed, bench.lost, bench.recovery.inFlightPackets], [[1, 2], [], 4]);
  });

  it("abandon() gives up everything in flight without a word to the congestion control", () => {
    const bench = new Bench();
    bench.burst(3);
    bench.recovery.timeout(10_000);
    bench.recovery.abandon(10_001);
    assert.deepEqual([bench.lost, bench.losses, bench.recovery.inFlightBytes], [[0, 1, 2], [], 0]);
    assert.deepEqual([bench.recovery.ptoCount, bench.recovery.deadlineMs], [0, Infinity]);
  });

  it("the peer's delay of an acknowledgement is part of the time-out", () => {
    const bench = new Bench();
    bench.rtt.update(100, 0);
    assert.equal(bench.rtt.ptoMs(0) - (100 + 4 * 50), MAX_ACK_DELAY_MS);
  });
});

describe("Recovery: memory", () => {
  it("a lost packet is remembered for two time-outs, so that it may still come through", () => {
    const late = (afterMs: number) => {
      const bench = new Bench();
      bench.rtt.update(100, 0);
      for (let i = 0; i < 4; i++) bench.send(0);
      bench.ack(100, [[3, 3]]);
      // Nothing is measured by it: the largest isn't new.
      bench.ack(100 + afterMs, [[3, 3], [1, 2]]);
      bench.ack(100 + afterMs, [[3, 3], [0, 0]]);
      return bench.lateAcked;
    };
    // Smoothed 100, variation 37.5: 270 ms each.
    assert.deepEqual(late(539), [0]);
    assert.deepEqual(late(540), []);
  });
});
