/** Vegas, rule by rule: its window after single epochs of known round trips. Windows in packets of 1,000 bytes. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { WINDOW_MAX_BYTES } from "../../../../src/protocol/curve/congestion/congestion.ts";
import { Vegas } from "../../../../src/protocol/curve/congestion/vegas.ts";

const PACKET = 1_000;

/** Drives a Vegas; every {@link Bench.epoch} is one ACK that ends an epoch. */
class Bench {
  readonly vegas = new Vegas(PACKET);
  nowMs = 0;
  #next = 0;

  get packets(): number {
    return Math.round(this.vegas.windowBytes / PACKET * 1000) / 1000;
  }

  /** An ACK; of the current epoch where `ends` is false. */
  ack(
    rttMs: number,
    more: { bytes?: number; packets?: number; limited?: boolean; ends?: boolean } = {},
  ): void {
    const { bytes = 0, packets = 0, limited = false, ends = true } = more;
    const largest = ends ? this.#next++ : this.#next - 1;
    this.vegas.onAck({
      ...{ nowMs: this.nowMs, bytes, packets, limited, rttMs, largest, nextNumber: this.#next },
      inFlightBytes: 0,
    });
  }

  /** An epoch in which the window was used up. */
  epoch(rttMs: number, acked = 0): number {
    this.ack(rttMs, { limited: true, packets: acked });
    return this.packets;
  }

  /** A loss; within the round trip of the last one where `again` is false. */
  lose(packets: number, more: { persistent?: boolean; again?: boolean } = {}): number {
    const { persistent = false, again = true } = more;
    const largest = again ? this.#next : this.#next - 1;
    if (again) this.#next++;
    this.vegas.onLoss({
      ...{ nowMs: this.nowMs, bytes: packets * PACKET, packets, persistent, largest },
      nextNumber: this.#next,
    });
    return this.packets;
  }
}

/** One that has left slow start with this window, on a path of `baseMs` without a queue. */
function avoiding(packets: number, baseMs = 50): Bench {
  const bench = new Bench();
  const queued = 1.2 * baseMs;
  for (let i = 0; i < 7; i++) bench.ack(baseMs);
  // Slow start's window becomes what the path held, and two packets.
  bench.ack(baseMs, { bytes: ((packets - 2) * 1.2 - 10) * PACKET, limited: true });
  for (let i = 0; i < 8; i++) bench.ack(queued, { ends: false });
  bench.ack(baseMs);
  assert.deepEqual([bench.vegas.slowStart, bench.packets], [false, packets]);
  return bench;
}

describe("Vegas: slow start", () => {
  it("begins with ten packets, and grows by what is acknowledged where the window is used up", () => {
    const bench = new Bench();
    assert.deepEqual([bench.packets, bench.vegas.slowStart, bench.vegas.competing], [10, true, false]);
    bench.ack(50, { bytes: 3_000, limited: true });
    assert.equal(bench.packets, 13);
    bench.ack(50, { bytes: 3_000 });
    assert.equal(bench.packets, 13);
    bench.ack(50, { bytes: 2 * WINDOW_MAX_BYTES, limited: true });
    assert.equal(bench.vegas.windowBytes, WINDOW_MAX_BYTES);
  });

  // Base, and the round trips that still count as no queue, and that end it: an eighth of the base, 3 to 16 ms.
  for (const [base, stays, leaves] of [[50, 56.25, 56.3], [8, 11, 11.1], [400, 416, 416.1]] as const) {
    it(`over ${base} ms ends after eight round trips above ${stays} ms in a row`, () => {
      const bench = new Bench();
      for (let i = 0; i < 8; i++) bench.ack(base);
      const within = (rttMs: number, count: number) => {
        for (let i = 0; i < count; i++) bench.ack(rttMs, { ends: false });
      };
      within(stays, 8);
      within(leaves, 7);
      within(stays, 1);
      within(leaves, 7);
      assert.equal(bench.vegas.slowStart, true);
      within(leaves, 1);
      assert.equal(bench.vegas.slowStart, false);
      assert.equal(bench.packets, Math.round((10 * base / leaves + 2) * 1000) / 1000);
    });

    it(`over ${base} ms ends with an epoch whose smallest round trip is above ${stays} ms`, () => {
      for (const [rttMs, slowStart] of [[stays, true], [leaves, false]] as const) {
        const bench = new Bench();
        bench.ack(base);
        bench.ack(rttMs + 9, { ends: false });
        bench.ack(rttMs);
        assert.equal(bench.vegas.slowStart, slowStart);
      }
    });
  }
});

describe("Vegas: an epoch after slow start", () => {
  // Window, round trip over a base of 50 ms, and the window after it.
  const table: [string, number, number, number][] = [
    ["grows by a packet where none of its own are queued", 20, 50, 21],
    ["grows by a 32nd where that is more", 40, 50, 41.25],
    ["grows while fewer than two of its packets are queued", 40, 52.6, 41.25],
    ["holds from two of them on", 40, 52.7, 40],
    ["holds up to four of them", 40, 55.5, 40],
    ["shrinks above four of them, by one at least", 40, 55.6, 39],
    ["shrinks by half of what is too much", 40, 70, 36.286],
    ["shrinks by an eighth at most", 40, 200, 35],
    ["shrinks by an eighth of ten packets", 10, 500, 8.75],
    ["grows while they stand for less than a millisecond", 400, 50.9, 412.5],
    ["holds from a millisecond on", 400, 51.1, 400],
    ["holds up to two milliseconds", 400, 51.9, 400],
    ["shrinks above two milliseconds", 400, 52.1, 399],
  ];
  for (const [name, packets, rttMs, behind] of table) {
    it(`${name}: ${packets} packets at ${rttMs} ms`, () => {
      assert.equal(avoiding(packets).epoch(rttMs), behind);
    });
  }

  it("holds where the window wasn't used up", () => {
    const bench = avoiding(40);
    bench.ack(50);
    assert.equal(bench.packets, 40);
    bench.ack(50, { limited: true, ends: false });
    bench.ack(50);
    assert.equal(bench.packets, 41.25, "at any time of the epoch");
    bench.ack(50);
    assert.equal(bench.packets, 41.25);
  });

  it("goes by the smallest round trip of the epoch, and doesn't end without one", () => {
    const bench = avoiding(40);
    bench.ack(50, { ends: false });
    assert.equal(bench.epoch(200), 41.25);
    assert.equal(bench.epoch(NaN), 41.25);
    assert.equal(bench.epoch(200), 36.094);
  });

  it("never goes below eight packets or beyond WINDOW_MAX_BYTES", () => {
    const small = avoiding(9);
    for (let i = 0; i < 5; i++) small.epoch(500);
    assert.equal(small.packets, 8);
    const large = avoiding(13_900);
    for (let i = 0; i < 8; i++) large.epoch(50);
    assert.equal(large.vegas.windowBytes, WINDOW_MAX_BYTES);
  });
});

describe("Vegas: the path's base", () => {
  it("is the smallest round trip of the last 30 to 60 s", () => {
    const table: [number[], number][] = [
      // Times of round trips of 60 ms after one of 50 ms at 0; what the last one does to 40 packets.
      [[30_000], 38.667],
      [[30_001], 38.667],
      [[30_001, 60_001], 38.667 - 1.222],
      [[30_001, 60_002], 38.667 + 1.208],
    ];
    for (const [times, behind] of table) {
      const bench = avoiding(40);
      for (const atMs of times) {
        bench.nowMs = atMs;
        bench.epoch(60);
      }
      assert.ok(Math.abs(bench.packets - behind) < 0.01, `${times}: ${bench.packets}, not ${behind}`);
    }
  });

  it("falls at once with a smaller round trip", () => {
    const bench = avoiding(40);
    bench.epoch(40);
    assert.equal(bench.epoch(50), 39.125);
  });
});

describe("Vegas: losses without a queue", () => {
  // Acknowledged and lost in an epoch, over a base of 50 ms with 40 packets, and the window after it.
  const table: [string, number, number, number][] = [
    ["below a twentieth the window grows", 381, 19, 41.25],
    ["from a twentieth on it holds", 380, 20, 40],
    ["up to a tenth it holds", 360, 40, 40],
    ["above a tenth it falls by that share", 359, 41, 35.9],
    ["it falls by half at most", 100, 300, 20],
    ["of 200 packets half the share counts", 150, 50, 35],
    ["of 800 packets all of it", 718, 82, 35.9],
  ];
  for (const [name, acked, lost, behind] of table) {
    it(`${name}: ${lost} of ${acked + lost}`, () => {
      const bench = avoiding(40);
      assert.equal(bench.lose(lost), 40, "a loss alone is noise");
      assert.equal(bench.epoch(50, acked), behind);
    });
  }

  it("their share is forgotten over 400 packets", () => {
    const bench = avoiding(40);
    bench.lose(41);
    assert.equal(bench.epoch(50, 359), 35.9);
    // A share of 10.25 % falls by a quarter each time: 7.7, 5.8, 4.3.
    assert.equal(bench.epoch(50, 100), 35.9);
    assert.equal(bench.epoch(50, 100), 35.9);
    assert.equal(bench.epoch(50, 100), 37.022);
  });

  it("end slow start above a tenth", () => {
    const bench = new Bench();
    bench.ack(50);
    bench.lose(40);
    bench.epoch(50, 360);
    assert.equal(bench.vegas.slowStart, true);
    bench.lose(100);
    bench.epoch(50, 300);
    assert.equal(bench.vegas.slowStart, false);
    assert.equal(bench.packets, 8, "ten, less a quarter, and no less than eight");
  });
});

describe("Vegas: losses that count", () => {
  it("a loss with a queue above an eighth of the round trip costs a quarter, once a round trip", () => {
    const bench = avoiding(40);
    bench.epoch(57);
    const before = bench.packets;
    assert.equal(bench.lose(1), 0.75 * before);
    assert.equal(bench.lose(1, { again: false }), 0.75 * before);
    assert.equal(bench.lose(1), Math.round(0.75 * 0.75 * before * 1000) / 1000);
  });

  it("the queue of the last epoch counts, or of this one as far as it is known", () => {
    for (
      const [last, now, congested] of [[56.2, NaN, false], [56.3, NaN, true], [57, 50, true], [
        50,
        56.2,
        false,
      ], [
        50,
        56.3,
        true,
      ]] as const
    ) {
      const bench = avoiding(40);
      bench.ack(last);
      bench.ack(now, { ends: false });
      const before = bench.packets;
      assert.equal(bench.lose(1) < before, congested, `${last}, ${now}`);
    }
  });

  it("below a round trip of 5 ms every loss counts, and none before the first measurement", () => {
    for (const [baseMs, congested] of [[4.9, true], [5, false]] as const) {
      const bench = new Bench();
      bench.ack(baseMs, { bytes: 30_000, limited: true });
      assert.equal(bench.lose(1), congested ? 30 : 40);
      assert.equal(bench.vegas.slowStart, !congested);
    }
    assert.equal(new Bench().lose(1), 10);
  });

  it("persistent congestion leaves eight packets, and ends slow start", () => {
    const bench = new Bench();
    assert.deepEqual([bench.lose(3, { persistent: true }), bench.vegas.slowStart], [8, false]);
    assert.equal(avoiding(40).lose(3, { persistent: true }), 8);
  });
});

describe("Vegas: beside other traffic", () => {
  /** One whose window fell after seven epochs at 100 ms, the last at `lastMs`. */
  function crowded(packets: number, lastMs = 100): Bench {
    const bench = avoiding(packets);
    for (let i = 0; i < 6; i++) {
      bench.epoch(100);
      assert.equal(bench.vegas.competing, false);
    }
    bench.epoch(lastMs);
    return bench;
  }

  it("competes when the window fell seven times and the queue didn't", () => {
    assert.equal(crowded(1_000).vegas.competing, true);
    assert.equal(crowded(1_000, 95).vegas.competing, true, "it fell by a tenth");
    assert.equal(crowded(1_000, 94.9).vegas.competing, false, "it fell by more");
  });

  it("counts only epochs in a row", () => {
    const bench = avoiding(1_000);
    for (let i = 0; i < 6; i++) bench.epoch(100);
    bench.ack(51.5);
    bench.epoch(100);
    assert.equal(bench.vegas.competing, false);
    for (let i = 0; i < 6; i++) bench.epoch(100);
    assert.equal(bench.vegas.competing, true);
  });

  it("grows by a packet each epoch then, where the window is used up", () => {
    const bench = crowded(1_000);
    const before = bench.vegas.windowBytes;
    bench.epoch(100);
    assert.equal(bench.vegas.windowBytes, before + PACKET);
    bench.ack(100);
    assert.equal(bench.vegas.windowBytes, before + PACKET);
    assert.equal(bench.vegas.competing, true);
  });

  it("stops when the queue has fallen to a tenth of the largest seen", () => {
    for (
      const [largest, rttMs, competing] of [
        [100, 55.1, true],
        [100, 54.9, false],
        [200, 65.1, true],
        [
          200,
          64.9,
          false,
        ],
        [70, 55.1, true],
        [70, 54.9, false],
      ] as const
    ) {
      const bench = crowded(1_000);
      bench.epoch(largest);
      const before = bench.vegas.windowBytes;
      bench.epoch(rttMs);
      assert.equal(bench.vegas.competing, competing, `${largest}, ${rttMs}`);
      assert.equal(bench.vegas.windowBytes, before + (competing ? PACKET : 0));
    }
  });

  it("stops when few of its own packets are queued", () => {
    // 100 packets have become 39.27, of which four are queued at 55.67 ms.
    for (const [rttMs, competing] of [[55.8, true], [55.5, false]] as const) {
      const bench = crowded(100);
      bench.epoch(rttMs);
      assert.equal(bench.vegas.competing, competing, `${rttMs}`);
    }
  });

  it("begins anew after the end of the competition", () => {
    const bench = crowded(1_000);
    bench.epoch(51);
    for (let i = 0; i < 6; i++) bench.epoch(100);
    assert.equal(bench.vegas.competing, false);
    bench.epoch(100);
    assert.equal(bench.vegas.competing, true);
  });
});

describe("Vegas: another path, other datagrams", () => {
  it("reset() forgets everything", () => {
    const bench = avoiding(1_000);
    for (let i = 0; i < 7; i++) bench.epoch(100);
    bench.lose(100);
    bench.vegas.reset();
    assert.deepEqual([bench.packets, bench.vegas.slowStart, bench.vegas.competing], [10, true, false]);
    // The old base of 50 ms would end slow start here, and the old losses with it.
    bench.epoch(100, 400);
    assert.deepEqual([bench.packets, bench.vegas.slowStart], [10, true]);
    assert.equal(bench.lose(1), 10, "the old queue of 50 ms would make it count");
  });

  it("setDatagramBytes() keeps the window, of eight datagrams at least", () => {
    const { vegas } = new Bench();
    vegas.setDatagramBytes(500);
    assert.equal(vegas.windowBytes, 10_000);
    vegas.setDatagramBytes(2_000);
    assert.equal(vegas.windowBytes, 16_000);
    vegas.reset();
    assert.equal(vegas.windowBytes, 20_000);
  });
});
