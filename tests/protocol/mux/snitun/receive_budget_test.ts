/** ReceiveBudget: what one session holds of received bytes, its bounds and what happens at each. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { BlockPool } from "../../../../src/bytes/block_pool.ts";
import { ChunkQueue } from "../../../../src/bytes/chunk_queue.ts";
import type { MuxHost } from "../../../../src/protocol/mux/host.ts";
import { DEFAULT_QUEUE_LIMITS } from "../../../../src/protocol/mux/queue_limits.ts";
import type { MuxOptions } from "../../../../src/protocol/mux/snitun/session.ts";
import {
  PAUSE_OVERRUN_BYTES,
  PAUSE_UNSEEN_BYTES,
  ReceiveBudget,
  SESSION_OVERRUN_BYTES,
  THROTTLED_FRAME_BYTES,
} from "../../../../src/protocol/mux/snitun/receive_budget.ts";
import { SESSION_HELD_STALL_MS, SESSION_STALL_MS } from "../../../../src/protocol/mux/stall_watch.ts";
import type { MuxStream } from "../../../../src/protocol/mux/snitun/stream.ts";

const KiB = 1024;
const blocks = new BlockPool();
const BUDGET = 96 * KiB * KiB;

function bench(options: Partial<MuxOptions> = {}, protocolVersion = 2) {
  const events: string[] = [];
  let nowMs = 1_000;
  const host = { nowMs: () => nowMs, arm: (atMs: number) => void events.push(`arm ${atMs}`) };
  const all: MuxStream[] = [];
  const budget = new ReceiveBudget(
    { host: host as MuxHost, receiveBudgetBytes: BUDGET, scratch: { blocks }, ...options } as MuxOptions,
    { ...DEFAULT_QUEUE_LIMITS, incomingMaxBytes: 4_000 * KiB, incomingMaxBytesV0: 5_000 * KiB },
    {
      protocolVersion,
      all,
      holdReading: (hold) => void events.push(hold ? "hold" : "read"),
      changePause: ({ wantsPause }) => void events.push(wantsPause ? "pause" : "resume"),
      drop: (stream, code) => {
        events.push(`drop ${code}`);
        budget.forget(stream);
      },
    },
  );
  const stream = (): MuxStream => {
    const one = {
      incoming: new ChunkQueue(blocks),
      movedAtMs: 0,
      wantsPause: false,
      pauseSent: false,
      pausesUnseen: 0,
      overrunBytes: 0,
    };
    all.push(one as unknown as MuxStream);
    return one as unknown as MuxStream;
  };
  return {
    budget,
    stream,
    events: () => events.splice(0),
    pass: (ms: number) => nowMs += ms,
    now: () => nowMs,
    hold: (one: MuxStream, byteLength: number) => budget.hold(one, new Uint8Array(byteLength)),
    take: (one: MuxStream, byteLength: number) => {
      let left = byteLength;
      while (left > 0) {
        const length = Math.min(left, one.incoming.peek().length);
        one.incoming.drop(length);
        left -= length;
      }
      budget.release(one, byteLength);
    },
  };
}

describe("ReceiveBudget: a stream", () => {
  it("is paused at a 384th of what is left, and resumed at a quarter of that", () => {
    const { hold, take, stream, events } = bench();
    const one = stream();
    // 96 MiB: a share of 256 KiB, less a 384th of what the stream itself holds.
    hold(one, 255 * KiB - 1);
    assert.deepEqual(events(), []);
    hold(one, 2 * KiB);
    assert.deepEqual(events(), ["pause"]);
    hold(one, 10 * KiB);
    take(one, 200 * KiB);
    assert.deepEqual(events(), [], "67 KiB are left");
    take(one, 4 * KiB);
    assert.deepEqual(events(), ["resume"]);
    take(one, 1 * KiB);
    assert.deepEqual(events(), []);
  });

  it("is never paused below 32 KiB, however little is left", () => {
    const { hold, stream, events } = bench({ receiveBudgetBytes: 100 * KiB });
    const one = stream();
    hold(one, 32 * KiB - 1);
    assert.deepEqual(events(), []);
    hold(one, 1);
    assert.deepEqual(events(), ["pause"]);
  });

  it("leaves room for others, though a hundred read nothing and each had 350 KiB in flight", () => {
    const { hold, stream, events } = bench({ receiveBudgetBytes: undefined });
    for (let i = 0; i < 100; i++) {
      const one = stream();
      hold(one, 128 * KiB);
      hold(one, 350 * KiB);
    }
    assert.deepEqual(events(), Array(100).fill("pause"));
    hold(stream(), 500 * KiB);
    assert.deepEqual(events(), ["pause"], "reading goes on");
  });

  it("of version 0 knows no PAUSE, and may hold more", () => {
    const { hold, stream, events } = bench({}, 0);
    const one = stream();
    hold(one, 5_000 * KiB);
    assert.deepEqual(events(), []);
    hold(one, 1);
    assert.deepEqual(events(), ["drop stream_overflow"]);
    const newer = bench({ receiveBudgetBytes: 2 ** 40 });
    const two = newer.stream();
    newer.hold(two, 4_000 * KiB);
    assert.deepEqual(newer.events(), ["pause"]);
    newer.hold(two, 1);
    assert.deepEqual(newer.events(), ["drop stream_overflow"]);
  });

  it("is dropped when its peer sends on after a PAUSE, sooner when it has seen it", () => {
    for (const [pausesUnseen, most] of [[0, PAUSE_OVERRUN_BYTES], [1, PAUSE_UNSEEN_BYTES]] as const) {
      const { hold, stream, events } = bench();
      const one = stream();
      Object.assign(one, { pausesUnseen, overrunBytes: most, wantsPause: true });
      hold(one, 1);
      assert.deepEqual(events(), []);
      one.overrunBytes++;
      hold(one, 1);
      assert.deepEqual(events(), ["drop stream_overflow"], `${pausesUnseen}`);
    }
  });
});

describe("ReceiveBudget: the session", () => {
  it("isn't read from its budget on, until it holds seven eighths of it", () => {
    const { hold, take, stream, events } = bench({ receiveBudgetBytes: 96 * KiB }, 0);
    const one = stream();
    hold(one, 96 * KiB - 1);
    assert.deepEqual(events(), []);
    hold(one, 1);
    assert.deepEqual(events().filter((event) => !event.startsWith("arm")), ["hold"]);
    hold(one, 5);
    take(one, 12 * KiB + 4);
    assert.deepEqual(events(), []);
    take(one, 1);
    assert.deepEqual(events(), ["read"]);
    take(one, 1);
    assert.deepEqual(events(), []);
  });

  it("isn't read while its streams' peer has sent too much after their PAUSEs, and is when it has seen them", () => {
    const { hold, stream, events, budget } = bench();
    const streams = Array.from({ length: 24 }, () => Object.assign(stream(), { wantsPause: true }));
    for (const one of streams) {
      hold(one, 256 * KiB);
      one.pauseSent = true;
    }
    for (const one of streams) hold(one, SESSION_OVERRUN_BYTES / 24);
    assert.deepEqual(events(), []);
    hold(streams[0]!, 1);
    assert.equal(events().at(-1), "hold");
    for (const one of streams.slice(0, 2)) budget.forgive(one);
    assert.deepEqual(events(), []);
    budget.forgive(streams[2]!);
    assert.deepEqual(events(), ["read"]);
    // What came before doesn't count again.
    for (const one of streams.slice(0, 3)) hold(one, SESSION_OVERRUN_BYTES / 24);
    assert.deepEqual(events(), []);
  });

  it("drops streams whose peer ignores their PAUSEs once nobody has read them for 1 s", () => {
    const { budget, hold, stream, events, pass, now } = bench();
    const streams = Array.from({ length: 20 }, () => Object.assign(stream(), { pauseSent: true }));
    for (const one of streams) hold(one, SESSION_OVERRUN_BYTES / 20 + 1);
    pass(SESSION_HELD_STALL_MS);
    events();
    budget.tick(now());
    assert.deepEqual(events(), [...Array(3).fill("drop stream_overflow"), "read"]);
    assert.equal(streams.filter(({ incoming }) => incoming.byteLength > 0).length, 17);
  });

  it("ends what nobody reads after 1 s; after 10 s of not being read itself where the peer knows no PAUSE", () => {
    for (
      const [version, stallMs] of [[0, SESSION_STALL_MS], [1, SESSION_HELD_STALL_MS], [
        2,
        SESSION_HELD_STALL_MS,
      ]]
    ) {
      const { budget, hold, stream, events, pass, now } = bench({ receiveBudgetBytes: 100 * KiB }, version);
      hold(stream(), 100 * KiB);
      assert.equal(events().at(-1), "hold");
      for (let checks = 0; checks < 10; checks++) {
        budget.tick(now());
        assert.deepEqual(events().filter((event) => !event.startsWith("arm")), [], `version ${version}`);
        pass(stallMs! / 10);
      }
      budget.tick(now());
      assert.deepEqual(events(), ["drop stream_overflow", "read"], `version ${version}`);
    }
  });

  it("ends at once what nobody has read for 1 s when it gets full, so that the others don't wait", () => {
    const { budget, hold, stream, events, pass, now } = bench({ receiveBudgetBytes: 160 * KiB });
    const stalled = stream();
    hold(stalled, 31 * KiB);
    pass(SESSION_HELD_STALL_MS);
    const fresh = stream();
    hold(fresh, 129 * KiB);
    assert.deepEqual(events(), ["pause", `arm ${now()}`, "hold"]);
    budget.tick(now());
    assert.deepEqual(events(), ["drop stream_overflow", "read"]);
    assert.deepEqual([stalled.incoming.byteLength, fresh.incoming.byteLength], [0, 129 * KiB]);
  });

  it("ends slow ones too when it has been full for 10 s", () => {
    const { budget, hold, take, stream, events, pass, now } = bench({ receiveBudgetBytes: 100 * KiB });
    const [slow, slower] = [stream(), stream()];
    hold(slow, 50 * KiB);
    hold(slower, 60 * KiB);
    events();
    for (let checks = 0; checks < 100; checks++) {
      budget.tick(now());
      assert.deepEqual(events(), []);
      pass(SESSION_STALL_MS / 100);
      if (checks % 9 === 0) { for (const one of [slow, slower]) take(one, 1); }
    }
    budget.tick(now());
    assert.deepEqual(events(), ["drop stream_overflow", "read"]);
    assert.deepEqual([slow.incoming.byteLength, slower.incoming.byteLength], [50 * KiB - 12, 0]);
  });

  it("forget() gives back what a stream held", () => {
    const { budget, hold, stream, events } = bench({ receiveBudgetBytes: 100 * KiB }, 0);
    const [one, two] = [stream(), stream()];
    hold(one, 60 * KiB);
    hold(two, 40 * KiB);
    assert.equal(events().at(-1), "hold");
    budget.forget(stream());
    assert.deepEqual(events(), []);
    budget.forget(one);
    assert.deepEqual([events(), one.incoming.byteLength], [["read"], 0]);
    hold(two, 60 * KiB - 1);
    assert.deepEqual(events(), []);
  });
});

describe("ReceiveBudget: throttling", () => {
  it("lets a second's worth of large frames through, and reads on when the rest is paid for", () => {
    const { budget, events, pass, now } = bench({ largeFramesPerSecond: 10 });
    for (let i = 0; i < 10; i++) budget.throttle(THROTTLED_FRAME_BYTES);
    assert.deepEqual(events(), []);
    budget.throttle(THROTTLED_FRAME_BYTES - 1);
    assert.deepEqual(events(), [], "small ones are free");
    budget.throttle(THROTTLED_FRAME_BYTES);
    const dueMs = now() + 100;
    assert.deepEqual(events(), ["hold", `arm ${dueMs}`]);
    assert.equal(budget.tick(dueMs - 1), dueMs);
    assert.deepEqual(events(), []);
    pass(100);
    assert.equal(budget.tick(now()), Infinity);
    assert.deepEqual(events(), ["read"]);
    pass(60_000);
    for (let i = 0; i < 10; i++) budget.throttle(THROTTLED_FRAME_BYTES);
    assert.deepEqual(events(), [], "a quiet minute earns no more than a second");
    budget.throttle(THROTTLED_FRAME_BYTES);
    assert.equal(events()[0], "hold");
  });

  it("isn't done where no rate is set", () => {
    const { budget, events } = bench();
    for (let i = 0; i < 1_000; i++) budget.throttle(1_000_000);
    assert.deepEqual([events(), budget.tick(0)], [[], Infinity]);
  });
});
