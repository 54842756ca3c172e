/** How much of a session may be on its way. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { Bytes } from "../../../../src/bytes/bytes.ts";
import { SMALL_BYTES } from "../../../../src/protocol/mux/ring.ts";
import type { Filler } from "../../../../src/wire/snitun/snitun_frame.ts";
import { Recorder, World } from "../harness.ts";
import { pattern } from "../../../support/seeded.ts";
import {
  Flight,
  FLIGHT_MIN_BYTES,
  FLIGHT_PATIENCE_MS,
  FLIGHT_PROBE_MS,
  POLITE_BYTES,
} from "../../../../src/protocol/mux/snitun/flight.ts";

const random: Filler = { fill: (target) => void target.fill(5) };

/** A path of a fixed rate and delay, in virtual time. */
class Path {
  readonly flight = new Flight();
  nowMs = 0;
  sentBytes = 0;
  #freeAtMs = 0;
  #pongs: { id: Bytes; atMs: number }[] = [];

  constructor(readonly bytesPerMs: number, readonly delayMs: number) {}

  /** Sends so many bytes as fast as the window allows; returns when the last of them has been seen. */
  transfer(byteLength: number): number {
    const startMs = this.nowMs;
    for (let leftBytes = byteLength; leftBytes > 0;) {
      while (leftBytes > 0 && !this.flight.full) {
        const size = Math.min(16_384, leftBytes);
        this.flight.staySmall();
        this.flight.sent(size);
        this.sentBytes += size;
        leftBytes -= size;
        this.#freeAtMs = Math.max(this.#freeAtMs, this.nowMs) + size / this.bytesPerMs;
        this.#markIfDue();
      }
      this.#markIfDue();
      if (leftBytes > 0) this.pass(Math.max(0, this.#pongs[0].atMs - this.nowMs));
    }
    this.pass(this.#freeAtMs + this.delayMs - this.nowMs);
    return this.nowMs - startMs;
  }

  pass(durationMs: number): void {
    this.nowMs += durationMs;
    while (this.#pongs.length > 0 && this.#pongs[0].atMs <= this.nowMs) {
      const { id, atMs } = this.#pongs.shift()!;
      this.flight.pong(id, atMs);
    }
  }

  #markIfDue(): void {
    if (!this.flight.markDue) return;
    this.#pongs.push({ id: this.flight.mark(this.nowMs, random), atMs: this.#freeAtMs + this.delayMs });
  }
}

/**
 * Drives a path of a fixed rate and delay as a greedy sender would; says the window and the standing queue. In its pauses,
 * which begin and end at these times, the other end answers nothing.
 */
function run(
  bytesPerMs: number,
  delayMs: number,
  seconds: number,
  polite = true,
  stepMs = 0.25,
  pauses: readonly (readonly [number, number])[] = [],
): { windowBytes: number; sent: number } {
  const flight = new Flight();
  const pongs: { id: Bytes; atMs: number }[] = [];
  let freeAtMs = 0;
  let sent = 0;
  for (let nowMs = 0; nowMs < seconds * 1000; nowMs += stepMs) {
    if (pauses.some(([from, to]) => nowMs >= from && nowMs < to)) continue;
    while (pongs.length > 0 && pongs[0].atMs <= nowMs) flight.pong(pongs.shift()!.id, nowMs);
    if (polite) flight.staySmall();
    while (!flight.full) {
      freeAtMs = Math.max(freeAtMs, nowMs) + 16_384 / bytesPerMs;
      flight.sent(16_384);
      sent += 16_384;
      if (flight.markDue) pongs.push({ id: flight.mark(nowMs, random), atMs: freeAtMs + delayMs });
    }
    if (flight.markDue) pongs.push({ id: flight.mark(nowMs, random), atMs: freeAtMs + delayMs });
  }
  return { windowBytes: flight.windowBytes, sent };
}

describe("Flight", () => {
  it("stays small on a short path, however fast", () => {
    const { windowBytes, sent } = run(1_000_000, 0.1, 5);
    // The test's clock steps by 0.25 ms, so that is the round trip.
    assert.ok(windowBytes <= 1_000_000, `${windowBytes}`);
    assert.ok(sent > 0.5 * 5000 * 1_000_000, `${sent}`);
  });

  it("grows to what a long path holds, and fills it", () => {
    for (const [bytesPerMs, delayMs] of [[12_500, 100], [125_000, 40]] as const) {
      const { windowBytes, sent } = run(bytesPerMs, delayMs, 8);
      const holds = bytesPerMs * delayMs;
      assert.ok(
        windowBytes > holds && windowBytes < 2 * holds + FLIGHT_MIN_BYTES,
        `${windowBytes} for ${holds}`,
      );
      assert.ok(sent > 0.75 * bytesPerMs * 8000, `${sent} of ${bytesPerMs * 8000}`);
    }
  });

  it("doubles with each round trip at first, and is little more than the path holds once it is full", () => {
    // 2.5 MB on the way: 26 times the smallest window, so five round trips until the path is full.
    const path = new Path(125_000, 20);
    const tookMs = path.transfer(10_000_000);
    const leastMs = 10_000_000 / path.bytesPerMs;
    assert.ok(tookMs < leastMs + 7 * path.delayMs, `${tookMs} of ${leastMs}`);
    for (let transfer = 0; transfer < 4; transfer++) {
      const again = path.transfer(10_000_000);
      assert.ok(again < leastMs + 2 * path.delayMs, `${again} of ${leastMs}`);
    }
    const holds = path.bytesPerMs * path.delayMs;
    assert.ok(path.flight.windowBytes < 2 * holds, `${path.flight.windowBytes} for ${holds}`);
  });

  it("knows the path still after an hour of pages, each far smaller than the window, and after a silence", () => {
    const path = new Path(125_000, 20);
    path.transfer(30_000_000);
    const { windowBytes } = path.flight;
    for (let second = 0; second < 3600; second++) {
      path.transfer(100_000);
      path.pass(1000);
    }
    assert.ok(path.flight.windowBytes > 0.9 * windowBytes, `${path.flight.windowBytes} of ${windowBytes}`);
    path.pass(6 * FLIGHT_PROBE_MS);
    // What fits the window comes at once; beyond it, two round trips pass in which the path's is measured anew.
    assert.ok(path.transfer(2_000_000) < 2_000_000 / path.bytesPerMs + 2 * path.delayMs);
    path.pass(6 * FLIGHT_PROBE_MS);
    assert.ok(path.transfer(10_000_000) < 10_000_000 / path.bytesPerMs + 5 * path.delayMs);
    const holds = path.bytesPerMs * path.delayMs;
    assert.ok(path.flight.windowBytes < 2 * holds, `${path.flight.windowBytes} for ${holds}`);
  });

  it("forgets a short path while only small frames pass, so that they wait behind little when bulk comes", () => {
    const path = new Path(1_000_000, 1);
    path.transfer(60_000_000);
    const { windowBytes } = path.flight;
    assert.ok(windowBytes > 500_000, `${windowBytes}`);
    for (let page = 0; page < 1_000; page++) {
      path.transfer(50_000);
      path.pass(10);
    }
    assert.ok(
      path.flight.windowBytes <= 3 * FLIGHT_MIN_BYTES,
      `${path.flight.windowBytes} of ${windowBytes}`,
    );
  });

  it("shrinks for a path that has become slower, while bulk fills it", () => {
    const fast = new Path(125_000, 20);
    fast.transfer(60_000_000);
    const { windowBytes } = fast.flight;
    const slow = new Path(2_500, 20);
    Object.assign(slow, { flight: fast.flight, nowMs: fast.nowMs });
    slow.transfer(60_000_000);
    assert.ok(slow.flight.windowBytes < windowBytes / 8, `${slow.flight.windowBytes} of ${windowBytes}`);
  });

  it("holds a millisecond of pure bulk on a fast path, over many probes, and less than a second on a slow one", () => {
    const seconds = 5 * FLIGHT_PROBE_MS / 1000;
    const fast = run(1_000_000, 0.02, 1, false, 0.02).windowBytes;
    assert.ok(fast >= 950_000 && fast < 2_000_000, `${fast}`);
    const middling = run(100_000, 1, seconds, false).windowBytes;
    assert.ok(middling < 2_000_000, `${middling}`);
    const slow = run(5_000, 1, seconds, false).windowBytes;
    assert.ok(slow < 1_000_000, `${slow}`);
  });

  it("doesn't take its own queue for the path, over many probes", () => {
    const seconds = 5 * FLIGHT_PROBE_MS / 1000;
    const holds = 12_500 * 10;
    const { windowBytes } = run(12_500, 10, seconds);
    assert.ok(windowBytes <= 2 * holds + FLIGHT_MIN_BYTES, `${windowBytes}`);
    // The window of pure bulk has a queue of its own, which must not become the next one's measure.
    const bulk = run(12_500, 10, seconds, false);
    assert.ok(bulk.windowBytes <= 4 * (2 * holds + FLIGHT_MIN_BYTES), `${bulk.windowBytes}`);
    assert.ok(bulk.sent > 0.95 * 12_500 * seconds * 1000, `${bulk.sent}`);
  });

  it("isn't misled by a pause of the other end while it measures the path", () => {
    for (let afterMs = 0; afterMs <= 10; afterMs++) {
      const from = FLIGHT_PROBE_MS + afterMs;
      const seconds = (FLIGHT_PROBE_MS + 1_000) / 1000;
      const { windowBytes } = run(900_000, 0.2, seconds, true, 0.2, [[from, from + 8]]);
      assert.ok(windowBytes < 1_000_000, `a pause ${afterMs} ms after it has begun: ${windowBytes}`);
    }
  });

  it("goes on where no pong comes, and takes a late one for what it is", () => {
    const flight = new Flight();
    const marks: Bytes[] = [];
    const fill = (nowMs: number) => {
      while (!flight.full) {
        flight.sent(10_000);
        if (flight.markDue) marks.push(flight.mark(nowMs, random));
      }
    };
    fill(0);
    assert.equal(flight.tick(FLIGHT_PATIENCE_MS - 1), false);
    assert.equal(flight.tick(FLIGHT_PATIENCE_MS), true);
    assert.equal(flight.full, false);
    for (let i = 0; i < 1000; i++) {
      flight.sent(10_000);
      if (flight.markDue) marks.push(flight.mark(2000, random));
    }
    assert.ok(marks.length <= 64);
    flight.pong(marks[0], 3000);
    assert.equal(flight.full, true);
    flight.pong(marks.at(-1)!, 3001);
    assert.equal(flight.markDue, true, "the bytes after the last mark have to be seen too");
    flight.pong(flight.mark(3001, random), 3002);
    assert.equal(flight.full, false);
  });

  it("isn't moved by pongs that answer no mark", () => {
    const flight = new Flight();
    while (!flight.full) {
      flight.sent(10_000);
      if (flight.markDue) flight.mark(0, random);
    }
    const invented = new Uint8Array(16).fill(5);
    new DataView(invented.buffer).setFloat64(8, 1e15);
    assert.equal(flight.pong(invented, 1), true);
    new DataView(invented.buffer).setFloat64(8, NaN);
    assert.equal(flight.pong(invented, 1), true);
    assert.equal(flight.pong(new Uint8Array(16).fill(6), 1), false);
    assert.equal(flight.full, true);
  });

  it("takes a pong for fewer bytes than the first mark's for what it says, and measures nothing", () => {
    const flight = new Flight();
    let id: Bytes | undefined;
    while (id === undefined) {
      flight.sent(10_000);
      if (flight.markDue) id = flight.mark(0, random);
    }
    const { windowBytes } = flight;
    const early = id.slice();
    new DataView(early.buffer).setFloat64(8, 1);
    assert.equal(flight.pong(early, 1), true);
    assert.equal(flight.windowBytes, windowBytes);
    assert.equal(flight.pong(id, 2), true, "the mark itself is still awaited");
  });

  it("lets a session go on with a peer that answers no ping", () => {
    const world = new World();
    const reader = new Recorder();
    const stream = world.edge.mux.open({ address: "192.0.2.1" });
    world.agent.onStream = (accepted) => accepted.attach(reader);
    const writer = new Recorder();
    stream.attach(writer);
    world.settle();
    // Pongs are lost: nothing of the agent's reaches the edge.
    let goOn = true;
    let written = 0;
    for (let round = 0; round < 400; round++) {
      while (goOn && written < 3_000_000) {
        goOn = stream.write(pattern(50_000, written));
        written += 50_000;
      }
      for (let i = 0; i < 50; i++) {
        world.agent.wire.length = 0;
        world.agent.wireBytes = 0;
        world.step();
      }
      world.nowMs += 20;
      if (world.edge.armedMs <= world.nowMs) {
        world.edge.armedMs = Infinity;
        world.edge.mux.tick();
      }
      if (writer.drains > 0) {
        writer.drains = 0;
        goOn = true;
      }
    }
    assert.equal(reader.byteLength, 3_000_000);
  });
});

describe("FrameSender", () => {
  it("is large for a bulk transfer with small pieces in it, and small once another stream has a small frame", () => {
    const world = new World();
    world.agent.onStream = (accepted) => accepted.attach(new Recorder());
    const open = () => {
      const stream = world.edge.mux.open({ address: "192.0.2.1" });
      stream.attach(new Recorder());
      return stream;
    };
    const [bulk, talk] = [open(), open()];
    const windowBytes = () => world.edge.mux["sender"].flight.windowBytes;
    for (let sentBytes = 0; sentBytes < POLITE_BYTES; sentBytes += 60_000) {
      bulk.write(pattern(60_000, 0));
      world.settle();
      bulk.write(pattern(100, 0));
      world.settle();
    }
    assert.ok(windowBytes() > FLIGHT_MIN_BYTES, `${windowBytes()}`);
    talk.write(pattern(100, 0));
    world.settle();
    assert.equal(windowBytes(), FLIGHT_MIN_BYTES);
  });
});

describe("StreamCore.countFrame()", () => {
  it("tells small frames of a conversation from those that are the head or the rest of bulk", () => {
    const stream = new World().edge.mux.open({ address: "192.0.2.1" });
    const isTalk = (sizes: number[]) => sizes.map((size) => stream.countFrame(size));
    assert.deepEqual(isTalk([1, SMALL_BYTES]), [true, true]);
    assert.deepEqual(isTalk([SMALL_BYTES + 1, ...Array(8).fill(1), 1]), [...Array(9).fill(false), true]);
    assert.deepEqual(isTalk([64 * 1024, 1, 64 * 1024, ...Array(9).fill(1)]), [
      ...Array(11).fill(false),
      true,
    ]);
  });
});

describe("Flight.overfull", () => {
  it("lets small frames go beyond a full window by 64 KiB, whatever the peer has seen before", () => {
    const flight = new Flight();
    // A window's worth that the peer has seen.
    flight.sent(FLIGHT_MIN_BYTES);
    flight.pong(flight.mark(0, random), 1);
    flight.staySmall();
    flight.sent(flight.roomBytes);
    assert.equal(flight.overfull, false);
    flight.sent(64 * 1024 - 1);
    assert.equal(flight.overfull, false);
    flight.sent(1);
    assert.equal(flight.overfull, true);
  });
});
