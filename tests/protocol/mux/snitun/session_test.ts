/** One rule of the multiplexer a test; every fault of the reference that is the multiplexer's (docs/protocols/snitun.md). */
import assert from "node:assert/strict";
import { RandomPool } from "../../../../src/crypto/random.ts";
import {
  AGENT_OPEN_COST,
  IDLE_FRAMES_BURST,
  IDLE_FRAMES_PER_WINDOW,
  IDLE_WINDOW_MS,
  WASTE_BURST_BYTES,
  WASTE_BYTES_PER_SECOND,
} from "../../../../src/protocol/mux/frame_budget.ts";
import { describe, it } from "node:test";
import { errorCode, SallyportError } from "../../../../src/errors.ts";
import type { Bytes } from "../../../../src/bytes/bytes.ts";
import { createSealer, type Sealer } from "../../../../src/crypto/header_cipher.ts";
import {
  encodePing,
  FrameType,
  HEADER_BYTES,
  newChannelId,
  writeHeader,
} from "../../../../src/wire/snitun/snitun_frame.ts";
import type { RandomSource } from "../../../../src/crypto/random.ts";
import { SendScratch } from "../../../../src/protocol/mux/snitun/sender.ts";
import type { MuxStream } from "../../../../src/protocol/mux/snitun/stream.ts";
import { Recorder, World, type WorldOptions } from "../harness.ts";
import { pattern } from "../../../support/seeded.ts";
import { HALF_CLOSE_ANSWERED_MS, HALF_CLOSE_GRACE_MS } from "../../../../src/protocol/mux/endings.ts";
import { IDLE_TICK_MS, SILENCE_MAX_MS } from "../../../../src/protocol/mux/heartbeat.ts";
import {
  DEFAULT_QUEUE_LIMITS,
  SESSION_WRITE_STALL_MS,
  STREAMS_PER_SESSION_MAX,
} from "../../../../src/protocol/mux/queue_limits.ts";
import { CONTROL_FRAMES_QUEUED_MAX } from "../../../../src/protocol/mux/session_core.ts";
import {
  PAUSE_OVERRUN_BYTES,
  PAUSE_UNSEEN_BYTES,
} from "../../../../src/protocol/mux/snitun/receive_budget.ts";
import { SESSION_HELD_STALL_MS, SESSION_STALL_MS } from "../../../../src/protocol/mux/stall_watch.ts";

const V4 = { address: "192.0.2.1" };
/** Queued bytes at which a stream is paused at the latest. */
const PAUSE_MOST_BYTES = 256 * 1024;
const zeros: RandomSource = { fill: (target) => void target.fill(0) };

/** Writes frames as a hostile or careless peer would. */
class Peer {
  readonly sealer: Sealer;
  constructor(role: "agent" | "edge", cipher: "aes-cbc" | "aes-gcm" = "aes-gcm") {
    this.sealer = createSealer(cipher, new Uint8Array(32).fill(7), new Uint8Array(16).fill(9), role);
  }
  frame(type: number, id: Bytes, size = 0, extra: Bytes = new Uint8Array(11)): Bytes {
    const header = new Uint8Array(HEADER_BYTES);
    writeHeader(header, 0, id, type, size, extra);
    return this.sealer.seal(header, HEADER_BYTES).slice();
  }
}

/** Lets time pass for the edge alone, whose peer is a {@link Peer}. */
function pass(world: World, ms: number): void {
  world.nowMs += ms;
  if (world.edge.armedMs > world.nowMs) return;
  world.edge.armedMs = Infinity;
  world.edge.mux.tick();
  world.edge.mux.turn();
}

function open(options: WorldOptions = {}) {
  const world = new World(options);
  const visitor = new Recorder();
  const endpoint = new Recorder();
  const edge = world.edge.mux.open(V4);
  edge.attach(visitor);
  world.agent.onStream = (stream) => stream.attach(endpoint);
  world.settle();
  const agent = world.agent.streams[0];
  return { world, visitor, endpoint, edge, agent };
}

describe("MuxSession: streams", () => {
  it("that wait for their session's turn aren't settled by another session's", () => {
    const [one, two] = [open(), open()];
    one.edge.abort();
    two.edge.abort();
    two.world.settle();
    assert.equal(one.visitor.closes, 0);
    one.world.settle();
    assert.equal(one.visitor.closes, 1);
  });

  it("carry the caller's address in every version", () => {
    for (
      const [version, address, seen] of [
        [0, "192.0.2.1", "192.0.2.1"],
        [1, "2001:db8::1", "0.0.0.0"],
        [2, "192.0.2.1", "192.0.2.1"],
        [2, "2001:db8::1", "2001:db8::1"],
      ] as const
    ) {
      const world = new World({ protocolVersion: version });
      world.edge.mux.open({ address });
      world.settle();
      assert.equal(world.agent.streams[0].caller.address, seen);
    }
  });

  it("deliver everything before a CLOSE to a reader that was paused above the high watermark", () => {
    for (const protocolVersion of [0, 1, 2] as const) {
      const { world, visitor, edge, agent } = open({ protocolVersion });
      const bytes = pattern(6 * 1024 * 1024, 3);
      edge.pause();
      let from = 0;
      const write = () => {
        while (from < bytes.length) {
          const chunk = bytes.slice(from, from + 300_000);
          from += chunk.length;
          const goOn = agent.write(chunk);
          if (from === bytes.length) agent.closeWrite();
          if (!goOn) return;
        }
      };
      write();
      for (let i = 0; i < 40; i++) {
        world.settle();
        if (agent.bufferedBytes === 0 && from < bytes.length) write();
        if (i > 20) edge.resume(), edge.pause();
      }
      edge.resume();
      for (let i = 0; i < 40; i++) {
        world.settle();
        if (from < bytes.length) write();
      }
      assert.equal(visitor.byteLength, bytes.length);
      assert.deepEqual(visitor.bytes, bytes);
      assert.deepEqual(visitor.events.slice(-2), ["end", "close"]);
    }
  });

  it("keep the answer's direction open after the visitor's FIN, as long as bytes come", () => {
    const { world, visitor, endpoint, edge, agent } = open();
    edge.write(pattern(10, 1));
    edge.closeWrite();
    for (let i = 0; i < 5; i++) {
      world.advance(HALF_CLOSE_GRACE_MS * 0.9);
      agent.write(pattern(1000, i));
    }
    world.advance(HALF_CLOSE_GRACE_MS * 0.9);
    assert.equal(visitor.byteLength, 5000);
    assert.equal(visitor.closes + endpoint.closes, 0);
    world.advance(HALF_CLOSE_GRACE_MS * 2.2);
    assert.deepEqual([visitor.ends, visitor.closes, endpoint.ends, endpoint.closes], [1, 1, 1, 1]);
  });

  it("don't wait long after the FIN of a visitor who has been answered", () => {
    const { world, visitor, endpoint, edge, agent } = open();
    edge.write(pattern(10, 1));
    world.settle();
    agent.write(pattern(1000, 2));
    world.settle();
    edge.closeWrite();
    world.advance(HALF_CLOSE_ANSWERED_MS * 0.9);
    assert.equal(visitor.closes, 0);
    world.advance(HALF_CLOSE_ANSWERED_MS * 0.2);
    assert.deepEqual([visitor.ends, visitor.closes, endpoint.ends, endpoint.closes], [1, 1, 1, 1]);
  });

  it("end by the agent's CLOSE right after the answer", () => {
    const { world, visitor, edge, agent } = open();
    edge.write(pattern(10, 1));
    edge.closeWrite();
    world.settle();
    agent.write(pattern(5000, 2));
    agent.closeWrite();
    world.settle();
    assert.equal(visitor.byteLength, 5000);
    assert.deepEqual([visitor.ends, visitor.closes], [1, 1]);
    assert.equal(world.edge.mux.streams + world.agent.mux.streams, 0);
  });

  it("may be opened by the thousand in one turn: their frames go out in several writes", () => {
    for (const protocolVersion of [1, 2] as const) {
      const world = new World({ protocolVersion, windowBytes: 4_000_000 });
      // A frame of another size in front, so that the buffer ends within one of those after it.
      world.edge.mux.sendPing("ping", newChannelId(zeros));
      for (let i = 0; i < STREAMS_PER_SESSION_MAX; i++) world.edge.mux.open(V4).attach(new Recorder());
      world.settle();
      assert.equal(world.edge.endedWith, undefined);
      assert.equal(world.agent.streams.length, STREAMS_PER_SESSION_MAX);
    }
  });

  it("are told to the owner once when they are over, however they end", () => {
    const ends: [string, (sides: ReturnType<typeof open>) => void][] = [
      ["by both sides", ({ edge, agent }) => {
        edge.closeWrite();
        agent!.closeWrite();
      }],
      ["by abort()", ({ edge }) => edge.abort()],
      ["by release() of both", ({ edge, agent }) => {
        edge.release();
        agent!.release();
      }],
    ];
    for (const [name, end] of ends) {
      const sides = open();
      end(sides);
      sides.world.settle();
      sides.world.advance(3 * HALF_CLOSE_GRACE_MS);
      const { edge, agent } = sides.world;
      assert.deepEqual([edge.closedStreams, agent.closedStreams], [[sides.edge], [sides.agent]], name);
      assert.deepEqual([edge.mux.streams, agent.mux.streams], [0, 0], name);
    }
  });

  it("drop what is queued when aborted, and tell the peer", () => {
    const { world, visitor, endpoint, edge } = open({ windowBytes: 1000 });
    edge.write(pattern(100_000, 1));
    edge.abort(new Error("visitor reset"));
    world.settle();
    assert.equal(visitor.error?.message, "visitor reset");
    assert.deepEqual([endpoint.ends, endpoint.closes, endpoint.error], [1, 1, undefined]);
  });

  it("send what was written when released, and drop what comes in", () => {
    const { world, visitor, endpoint, edge, agent } = open({ windowBytes: 1000 });
    const bytes = pattern(200_000, 1);
    edge.write(bytes);
    edge.release();
    agent.write(pattern(5000, 2));
    world.settle();
    assert.deepEqual(endpoint.bytes, bytes);
    assert.deepEqual([endpoint.ends, endpoint.closes], [1, 1]);
    assert.deepEqual([visitor.byteLength, visitor.closes], [0, 1]);
  });

  it("go when released towards a peer that pauses for ever", () => {
    const { world, edge, agent, visitor } = open();
    agent.pause();
    let i = 0;
    while (edge.write(pattern(100_000, i)) && i++ < 100) world.settle();
    edge.release();
    world.advance(HALF_CLOSE_GRACE_MS * 2.5);
    assert.equal(visitor.closes, 1);
    assert.equal(world.edge.mux.streams, 0);
  });

  it("lose their handler's fault, not the session", () => {
    const { world, endpoint, edge, agent } = open();
    endpoint.onData = () => {
      throw new Error("handler's fault");
    };
    edge.write(pattern(10, 1));
    world.settle();
    assert.equal(errorCode(endpoint.error), "internal");
    assert.equal(world.agent.endedWith, undefined);
    assert.equal(agent.closed, true);
  });
});

describe("MuxSession: flow control", () => {
  it("says PAUSE at the high watermark and RESUME at the low one, each once", () => {
    const { world, visitor, edge, agent } = open({ pieceBytes: 10_000 });
    edge.pause();
    let written = 0;
    while (agent.write(pattern(100_000, 0)) && written < 40e6) {
      written += 100_000;
      world.settle();
    }
    world.settle();
    assert.ok(agent.peerPaused);
    const { incomingHighBytes, outgoingHighBytes } = DEFAULT_QUEUE_LIMITS;
    assert.ok(
      edge.incoming.byteLength <= incomingHighBytes + 2 * 256 * 1024,
      `held ${edge.incoming.byteLength}`,
    );
    assert.ok(agent.bufferedBytes <= outgoingHighBytes + 100_000);
    edge.resume();
    world.settle();
    assert.ok(!agent.peerPaused);
    assert.equal(visitor.byteLength, written + 100_000);
  });

  it("never loses a RESUME, however often a reader changes its mind", () => {
    const { world, visitor, edge, agent } = open({ windowBytes: 2000, pieceBytes: 300 });
    let written = 0;
    for (let i = 0; i < 300; i++) {
      if (world.random() < 0.5) edge.pause();
      else edge.resume();
      if (agent.bufferedBytes < 500_000) {
        agent.write(pattern(50_000, i));
        written += 50_000;
      }
      for (let k = 0; k < 200; k++) world.step();
    }
    edge.resume();
    world.settle();
    assert.equal(visitor.byteLength, written);
  });

  for (
    const [name, acknowledges, allowed] of [
      ["has seen", true, PAUSE_OVERRUN_BYTES],
      ["doesn't say whether it has seen", false, PAUSE_UNSEEN_BYTES],
    ] as const
  ) {
    it(`closes a stream whose peer ignores a PAUSE that it ${name}, and no other`, () => {
      const world = new World({ protocolVersion: 1 });
      const visitor = new Recorder();
      const stream = world.edge.mux.open(V4);
      stream.attach(visitor);
      const other = world.edge.mux.open(V4);
      other.attach(new Recorder());
      world.edge.mux.turn();
      stream.pause();
      const peer = new Peer("agent");
      const chunk = new Uint8Array(1024 * 1024);
      let afterPause = 0;
      for (let i = 0; i < 40 && !stream.dead; i++) {
        if (stream.pauseSent) afterPause += chunk.length;
        world.edge.mux.receive(peer.frame(FrameType.DATA, stream.id, chunk.length));
        world.edge.mux.receive(chunk);
        world.edge.mux.turn();
        if (acknowledges && stream.pausesUnseen > 0) {
          world.edge.mux.receive(peer.frame(FrameType.PING, stream.id, 0, encodePing("pong", zeros)));
        }
        // What comes after a PAUSE is read slowly.
        pass(world, 50);
      }
      assert.equal(afterPause, allowed + chunk.length);
      assert.match(visitor.error?.message ?? "", /after PAUSE/);
      assert.deepEqual(world.edge.refusals, ["stream_overflow"]);
      assert.equal(other.dead, false);
      assert.equal(world.edge.endedWith, undefined);
    });
  }

  it("stops reading the session at its budget, version 0 too, and goes on when there is room", () => {
    for (const protocolVersion of [0, 2] as const) {
      const { world, visitor, edge, agent } = open({
        protocolVersion,
        edge: { receiveBudgetBytes: 300_000 },
      });
      edge.pause();
      let i = 0;
      while (i < 100 && agent.write(pattern(100_000, i++))) world.settle();
      // From version 1 on, PAUSE stops the stream before the session must stop.
      assert.equal(world.edge.holding, protocolVersion === 0);
      assert.ok(edge.incoming.byteLength < 300_000 + 96 * 1024);
      edge.resume();
      world.settle();
      assert.equal(world.edge.holding, false);
      assert.equal(visitor.byteLength, i * 100_000);
    }
  });

  it("counts bytes once that waited for a handler that releases the stream with the first of them", () => {
    const world = new World({ edge: { receiveBudgetBytes: 300_000 } });
    const pausedWithBytes = (round: number, handler: Recorder) => {
      const stream = world.edge.mux.open(V4);
      stream.attach(handler);
      stream.pause();
      world.settle();
      const sender = world.agent.streams.at(-1)!;
      sender.attach(new Recorder());
      sender.write(pattern(30_000, round));
      world.settle();
      return stream;
    };
    for (let round = 0; round < 20; round++) {
      const releasing = new Recorder();
      const stream = pausedWithBytes(round, releasing);
      releasing.data = () => stream.release();
      stream.resume();
      world.settle();
    }
    for (let round = 0; round < 12; round++) pausedWithBytes(round, new Recorder());
    assert.ok(world.edge.holding);
  });

  it("drops a stream that takes nothing while it keeps its neighbours from being read", () => {
    const world = new World({ protocolVersion: 0, edge: { receiveBudgetBytes: 300_000 } });
    const stuck = world.edge.mux.open(V4);
    const slow = world.edge.mux.open(V4);
    const [a, b] = [new Recorder(), new Recorder()];
    stuck.attach(a);
    slow.attach(b);
    world.settle();
    const [toStuck, toSlow] = world.agent.streams;
    toStuck.attach(new Recorder());
    toSlow.attach(new Recorder());
    stuck.pause();
    toStuck.write(pattern(400_000, 1));
    world.settle();
    assert.ok(world.edge.holding);
    toSlow.write(pattern(1000, 2));
    world.settle();
    assert.equal(b.byteLength, 0);
    world.advance(SESSION_STALL_MS + 1);
    assert.equal(a.closes, 1);
    assert.equal(b.byteLength, 1000);
    assert.deepEqual(world.edge.refusals, ["stream_overflow"]);
  });

  it("shares the budget, so that a hundred stalled readers don't stop the hundred-and-first", () => {
    const world = new World();
    const streams = Array.from({ length: 100 }, () => world.edge.mux.open(V4));
    const fast = world.edge.mux.open(V4);
    const reader = new Recorder();
    for (const stream of streams) {
      stream.attach(new Recorder());
      stream.pause();
    }
    fast.attach(reader);
    world.settle();
    const senders = world.agent.streams;
    for (const sender of senders) sender.attach(new Recorder());
    for (let round = 0; round < 30; round++) {
      for (const sender of senders.slice(0, 100)) {
        if (sender.bufferedBytes < 200_000) sender.write(pattern(100_000, round));
      }
      world.settle();
    }
    assert.equal(world.edge.holding, false);
    senders[100].write(pattern(500_000, 9));
    world.settle();
    assert.equal(reader.byteLength, 500_000);
  });

  it("ends stalled readers instead of stopping, however many come, as long as they fill it in more than 1 s", () => {
    const world = new World({ edge: { receiveBudgetBytes: 4 * 1024 * 1024 } });
    const stopped: number[] = [];
    for (let second = 0; second < 20; second++) {
      const stalled = Array.from({ length: 10 }, () => world.edge.mux.open(V4));
      for (const stream of stalled) {
        stream.attach(new Recorder());
        stream.pause();
      }
      world.settle();
      for (const sender of world.agent.streams.slice(-stalled.length)) {
        sender.attach(new Recorder());
        sender.write(pattern(100_000, second));
      }
      world.settle();
      // The watch has its turn.
      world.advance(1);
      if (world.edge.holding) stopped.push(second);
      world.advance(SESSION_HELD_STALL_MS);
    }
    assert.deepEqual(stopped, []);
    assert.ok(world.edge.refusals.length > 100, `${world.edge.refusals.length} were ended`);
  });

  it("are read slowly once they are closed or paused and the peer sends on, all sessions together", () => {
    const scratch = new SendScratch();
    const worlds = Array.from({ length: 4 }, () => new World({ edge: { scratch } }));
    const closed = new Uint8Array(16).fill(5);
    const read = worlds.map((world, index) => {
      const stream = world.edge.mux.open(V4);
      stream.attach(new Recorder());
      stream.pause();
      world.edge.mux.turn();
      const peer = new Peer("agent");
      const frame = (size: number) => peer.frame(FrameType.DATA, index % 2 === 0 ? stream.id : closed, size);
      return { world, frame, bytes: 0 };
    });
    const chunk = new Uint8Array(64 * 1024);
    for (let ms = 0; ms < 500; ms++) {
      for (const one of read) {
        for (let turn = 0; turn < 1_000 && !one.world.edge.holding; turn++) {
          one.world.edge.mux.receive(new Uint8Array(Buffer.concat([one.frame(chunk.length), chunk])));
          one.world.edge.mux.turn();
          one.bytes += chunk.length;
        }
        pass(one.world, 1);
      }
    }
    const most = WASTE_BYTES_PER_SECOND / 2 + worlds.length * (WASTE_BURST_BYTES + PAUSE_MOST_BYTES);
    const sum = read.reduce((all, { bytes }) => all + bytes, 0);
    assert.ok(sum <= 1.05 * most, `${sum} of ${most}: ${read.map(({ bytes }) => bytes)}`);
    assert.ok(read.every(({ bytes }) => bytes > 2 * WASTE_BURST_BYTES), `${read.map(({ bytes }) => bytes)}`);
    assert.deepEqual(worlds.map(({ edge }) => edge.endedWith), worlds.map(() => undefined));
  });

  it("what came before a PAUSE isn't held against the stream", () => {
    const { world, visitor, edge, agent } = open();
    for (let sent = 0; sent < PAUSE_UNSEEN_BYTES + 1_000_000; sent += 1_000_000) {
      agent.write(new Uint8Array(1_000_000));
      world.settle();
    }
    edge.pause();
    for (let i = 0; i < 4; i++) {
      agent.write(new Uint8Array(1_000_000));
      world.settle();
    }
    assert.deepEqual([visitor.closes, world.edge.refusals], [0, []]);
  });

  it("drops a stream that holds more than its version allows, and not one byte sooner", () => {
    const queueLimits = { ...DEFAULT_QUEUE_LIMITS, incomingMaxBytes: 100_000, incomingMaxBytesV0: 200_000 };
    for (const [protocolVersion, most] of [[0, 200_000], [1, 100_000]] as const) {
      const world = new World({ protocolVersion, edge: { queueLimits } });
      const visitor = new Recorder();
      const stream = world.edge.mux.open(V4);
      stream.attach(visitor);
      stream.pause();
      world.edge.mux.turn();
      const peer = new Peer("agent");
      const say = (size: number) => {
        world.edge.mux.receive(peer.frame(FrameType.DATA, stream.id, size));
        world.edge.mux.receive(new Uint8Array(size));
        world.edge.mux.turn();
      };
      say(most);
      assert.equal(visitor.closes, 0, `${protocolVersion}`);
      say(1);
      assert.match(visitor.error?.message ?? "", new RegExp(`at most ${most}`));
    }
  });

  it("reads on exactly when the throttled frames have been paid for, a second ahead", () => {
    const { world, agent } = open({ edge: { largeFramesPerSecond: 10 } });
    for (let i = 0; i < 13; i++) {
      agent.write(pattern(20_000, i));
      world.settle();
      if (world.edge.holding) break;
    }
    assert.ok(world.edge.holding);
    // Eleven frames cost 1,100 ms, of which a second may stand out.
    world.advance(99);
    assert.ok(world.edge.holding);
    world.advance(1);
    assert.equal(world.edge.holding, false);
  });

  it("throttles frames from THROTTLED_FRAME_BYTES on", () => {
    for (const [size, all] of [[8_192, false], [8_191, true]] as const) {
      const { world, visitor, agent } = open({ edge: { largeFramesPerSecond: 10 } });
      for (let i = 0; i < 40; i++) {
        agent.write(pattern(size, i));
        world.settle();
      }
      assert.equal(visitor.byteLength === 40 * size, all, `${size}`);
    }
  });

  it("throttles large frames and no small ones", () => {
    const { world, visitor, agent } = open({ edge: { largeFramesPerSecond: 10 } });
    for (let i = 0; i < 30; i++) {
      agent.write(pattern(20_000, i));
      world.settle();
    }
    assert.ok(visitor.byteLength >= 10 * 20_000 && visitor.byteLength < 16 * 20_000, `${visitor.byteLength}`);
    world.advance(3000);
    assert.equal(visitor.byteLength, 30 * 20_000);
    for (let i = 0; i < 100; i++) {
      agent.write(pattern(500, i));
      world.settle();
    }
    assert.equal(visitor.byteLength, 30 * 20_000 + 100 * 500);
  });

  it("sends what was written while the connection was full, of any size", () => {
    for (const size of [1, 2_047, 2_048, 2_049, 65_536, 65_537, 200_000]) {
      const { world, endpoint, edge } = open();
      world.edge.mux.turn();
      world.edge.blocked = true;
      edge.write(pattern(size, 1));
      world.settle();
      world.edge.blocked = false;
      world.edge.mux.writable();
      world.settle();
      assert.equal(endpoint.byteLength, size);
      assert.equal(world.edge.endedWith, undefined);
    }
  });

  it("serves streams in turn: a bulk transfer doesn't delay its neighbour by more than a write", () => {
    const { world, agent } = open({ windowBytes: 200_000 });
    const visitor2 = new Recorder();
    const second = world.edge.mux.open(V4);
    second.attach(visitor2);
    world.settle();
    const agent2 = world.agent.streams[1];
    agent2.attach(new Recorder());
    const before = world.agent.mux.bytesSent;
    while (agent.write(pattern(300_000, 1)));
    agent.write(pattern(900_000, 1));
    agent2.write(pattern(64, 2));
    let sentWhenServed = Infinity;
    visitor2.onData = () => sentWhenServed = world.agent.mux.bytesSent - before;
    world.settle();
    assert.equal(visitor2.byteLength, 64);
    assert.ok(sentWhenServed < 900_000, `served after ${sentWhenServed} bytes`);
  });
});

describe("MuxSession: hostile peers", () => {
  const sizes: [string, number, number, 0 | 1 | 2][] = [
    ["DATA beyond 8 MiB", FrameType.DATA, 8 * 1024 * 1024 + 1, 2],
    ["4 GiB of DATA", FrameType.DATA, 0xffffffff, 2],
    ["PING with payload", FrameType.PING, 1, 2],
    ["CLOSE with payload", FrameType.CLOSE, 1, 2],
    ["PAUSE with payload", FrameType.PAUSE, 1, 1],
    ["RESUME with payload", FrameType.RESUME, 1, 1],
    ["NEW with payload in version 1", FrameType.NEW, 16, 1],
    ["NEW of 17 bytes", FrameType.NEW, 17, 2],
    ["NEW of 48 bytes", FrameType.NEW, 48, 2],
    ["NEW without payload in version 2", FrameType.NEW, 0, 2],
    ["an unknown flag with 4 GiB", 0x77, 0xffffffff, 2],
  ];
  for (const [name, type, size, protocolVersion] of sizes) {
    it(`end the session by an impossible header: ${name}`, () => {
      const world = new World({ protocolVersion });
      world.agent.mux.receive(new Peer("edge").frame(type, newChannelId(zeros), size));
      assert.equal(world.agent.endedWith?.code, "frame_invalid");
    });
  }

  it("end the session by one flipped bit under aes-gcm", () => {
    const world = new World();
    const frame = new Peer("edge").frame(FrameType.PING, newChannelId(zeros));
    frame[20] ^= 1;
    world.agent.mux.receive(frame);
    assert.equal(world.agent.endedWith?.code, "cipher_failed");
  });

  it("may name unknown channels: their payload is dropped as it arrives, and nothing is held", () => {
    const world = new World();
    const peer = new Peer("agent");
    const id = newChannelId(zeros);
    world.edge.mux.receive(peer.frame(FrameType.DATA, id, 3_000_000));
    for (let i = 0; i < 30; i++) world.edge.mux.receive(new Uint8Array(100_000));
    for (const type of [FrameType.CLOSE, FrameType.PAUSE, FrameType.RESUME]) {
      world.edge.mux.receive(peer.frame(type, id));
    }
    world.edge.mux.receive(peer.frame(0x77, id, 10));
    world.edge.mux.receive(new Uint8Array(10));
    world.edge.mux.receive(peer.frame(FrameType.PING, id, 0, encodePing("ping", zeros)));
    world.edge.mux.turn();
    assert.equal(world.edge.endedWith, undefined);
    assert.equal(world.edge.wire.length, 1); // the pong
  });

  it("lose one channel by a NEW with an id in use, not the session", () => {
    const world = new World({ protocolVersion: 1 });
    const peer = new Peer("edge");
    const extra = new Uint8Array(11);
    extra.set([0x34, 192, 0, 2, 1]);
    const [a, b] = [new Uint8Array(16).fill(1), new Uint8Array(16).fill(2)];
    const recorders = [new Recorder(), new Recorder()];
    world.agent.onStream = (stream) => stream.attach(recorders[stream.id[0] - 1]);
    for (const id of [a, b, a]) world.agent.mux.receive(peer.frame(FrameType.NEW, id, 0, extra));
    world.agent.mux.turn();
    assert.equal(world.agent.endedWith, undefined);
    assert.deepEqual(recorders.map((r) => r.closes), [1, 0]);
    assert.deepEqual(world.agent.refusals, ["frame_invalid"]);
    // What was meant for the second visitor of that id reaches nobody.
    for (const id of [a, b]) {
      world.agent.mux.receive(peer.frame(FrameType.DATA, id, 3));
      world.agent.mux.receive(pattern(3));
    }
    assert.deepEqual(recorders.map((r) => r.byteLength), [0, 3]);
  });

  it("are refused a NEW without an address, by a CLOSE", () => {
    const agent = new World({ protocolVersion: 1 });
    agent.agent.mux.receive(new Peer("edge").frame(FrameType.NEW, new Uint8Array(16)));
    assert.deepEqual([agent.agent.refusals, agent.agent.mux.streams], [["frame_invalid"], 0]);
    agent.agent.mux.turn();
    assert.equal(agent.agent.wire.length, 1);
  });

  it("are forgotten when they are given up unattached, whichever side has ended them", () => {
    const world = new World();
    for (const ends of ["abort", "release"] as const) {
      const opened: MuxStream[] = [];
      world.agent.onStream = (stream) => opened.push(stream);
      const [first, second] = [world.edge.mux.open(V4), world.edge.mux.open(V4)];
      for (const stream of [first, second]) stream.attach(new Recorder());
      world.settle();
      second.abort();
      world.settle();
      for (const stream of opened) stream[ends]();
      world.settle();
      first.closeWrite();
      world.advance(20_000);
      assert.deepEqual([world.edge.mux.streams, world.agent.mux.streams], [0, 0], ends);
    }
  });

  it("get no more streams than the cap", () => {
    const world = new World();
    for (let i = 0; i < STREAMS_PER_SESSION_MAX; i++) world.edge.mux.open(V4);
    assert.throws(() => world.edge.mux.open(V4), { code: "limit_exceeded" });
  });

  for (
    const [name, type, size] of [
      ["stray PONG", FrameType.PING, 0],
      ["PAUSE", FrameType.PAUSE, 0],
      ["CLOSE of an unknown channel", FrameType.CLOSE, 0],
      ["DATA for an unknown channel", FrameType.DATA, 1],
    ] as const
  ) {
    it(`that flood ${name} lose their session at the budget for frames that do nothing`, () => {
      const world = new World();
      const peer = new Peer("agent");
      const id = newChannelId(zeros);
      const send = () => {
        const extra = type === FrameType.PING ? encodePing("pong", zeros) : undefined;
        world.edge.mux.receive(peer.frame(type, id, size, extra));
        if (size > 0) world.edge.mux.receive(new Uint8Array(size));
      };
      let sent = 0;
      for (; sent < 3 * IDLE_FRAMES_BURST && world.edge.endedWith === undefined; sent++) {
        send();
        if (sent % IDLE_FRAMES_PER_WINDOW !== 0) continue;
        world.nowMs += IDLE_WINDOW_MS;
        world.edge.mux.tick();
        world.edge.mux.turn();
      }
      assert.equal(world.edge.endedWith?.code, "limit_exceeded");
      assert.ok(sent > IDLE_FRAMES_BURST, `${sent} frames`);
    });
  }

  it("that flood NEW lose their session, long before it has the streams that it may have", () => {
    const world = new World({ protocolVersion: 1 });
    const peer = new Peer("agent");
    world.edge.onStream = (stream) => stream.abort();
    let opened = 0;
    for (; opened < IDLE_FRAMES_BURST && world.edge.endedWith === undefined; opened++) {
      world.edge.mux.receive(peer.frame(FrameType.NEW, newChannelId(new RandomPool())));
      world.nowMs += 0.1;
      world.edge.mux.tick();
      world.edge.mux.turn();
    }
    assert.equal(world.edge.endedWith?.code, "limit_exceeded");
    assert.ok(opened >= IDLE_FRAMES_BURST / AGENT_OPEN_COST, `${opened} streams`);
  });

  it("that flood are read so many frames at a time, and not at all in between", () => {
    const world = new World();
    const peer = new Peer("agent");
    const id = newChannelId(zeros);
    const frames = IDLE_FRAMES_PER_WINDOW * 3;
    const flood = new Uint8Array(
      Buffer.concat(Array.from({ length: frames }, () => peer.frame(FrameType.PAUSE, id, 0))),
    );
    world.edge.mux.receive(flood);
    const answered = peer.frame(FrameType.PING, id, 0, encodePing("ping", zeros));
    world.edge.mux.receive(answered);
    assert.equal(world.edge.holding, true);
    const rest = () => {
      world.nowMs += IDLE_WINDOW_MS;
      world.edge.mux.tick();
    };
    world.edge.mux.turn();
    rest();
    world.edge.mux.tick();
    assert.equal(world.edge.holding, true);
    rest();
    rest();
    assert.equal(world.edge.holding, false, "all that came is read");
  });

  it("that ping and never read are cut off, and so are those that never read at all", () => {
    const world = new World({ windowBytes: 1000 });
    const peer = new Peer("agent");
    const id = newChannelId(zeros);
    for (let i = 0; i <= CONTROL_FRAMES_QUEUED_MAX + 100; i++) {
      world.edge.mux.receive(peer.frame(FrameType.PING, id, 0, encodePing("ping", zeros)));
      world.edge.mux.turn();
      world.nowMs += 0.1;
      world.edge.mux.tick();
    }
    assert.equal(world.edge.endedWith?.code, "session_stalled");
    assert.ok(world.edge.wireBytes < 3000);

    const deaf = new World({ windowBytes: 1000 });
    const stream = deaf.edge.mux.open(V4);
    stream.attach(new Recorder());
    stream.write(pattern(5000, 1));
    deaf.edge.mux.turn();
    deaf.nowMs += SESSION_WRITE_STALL_MS;
    deaf.edge.mux.tick();
    assert.equal(deaf.edge.endedWith?.code, "session_stalled");
  });
});

describe("MuxSession: clocks", () => {
  it("keep a quiet session alive by pings, and measure the round trip", () => {
    const world = new World();
    world.advance(1_000_000);
    assert.equal(world.edge.endedWith, undefined);
    assert.equal(world.agent.endedWith, undefined);
    assert.equal(world.agent.mux.rttMs, 0);
  });

  for (const role of ["agent", "edge"] as const) {
    it(`end the ${role}'s session when nothing has been heard for SILENCE_MAX_MS, whatever it says itself`, () => {
      const world = new World();
      const side = world[role];
      const fromMs = world.nowMs;
      while (side.endedWith === undefined) {
        assert.ok(world.nowMs < fromMs + SILENCE_MAX_MS + 1000);
        world.nowMs += 1000;
        side.mux.tick();
        side.mux.turn();
        side.wire.length = side.wireBytes = 0;
      }
      assert.equal(side.endedWith.code, "pong_missing");
    });
  }

  it("don't count a silence that this side brings about by not reading", () => {
    const world = new World();
    world.agent.mux.holdReading(true);
    for (let ms = 0; ms < 4 * SILENCE_MAX_MS; ms += 1000) {
      world.nowMs += 1000;
      world.agent.mux.tick();
    }
    assert.equal(world.agent.endedWith, undefined);
    world.agent.mux.holdReading(false);
    for (let ms = 0; ms < SILENCE_MAX_MS; ms += 1000) {
      world.nowMs += 1000;
      world.agent.mux.tick();
    }
    const { endedWith } = world.agent as { readonly endedWith: { readonly code: string } | undefined };
    assert.equal(endedWith?.code, "pong_missing");
  });

  it("give a process that was stopped time to read what has come meanwhile", () => {
    const world = new World();
    world.nowMs += 10 * SILENCE_MAX_MS;
    world.agent.mux.tick();
    assert.equal(world.agent.endedWith, undefined);
    world.settle();
    assert.equal(world.agent.mux.rttMs, 0);
  });

  it("count what comes in as life, and what goes out", () => {
    const world = new World();
    const stream = world.edge.mux.open(V4);
    stream.attach(new Recorder());
    world.agent.onStream = (other) => other.attach(new Recorder());
    world.settle();
    for (let i = 0; i < 40; i++) {
      world.agent.streams[0]!.write(pattern(10, i));
      world.settle();
      // The edge alone lives: its clock is called, its peer's isn't.
      world.nowMs += 10_000;
      world.edge.mux.tick();
    }
    assert.equal(world.edge.endedWith, undefined);
    assert.equal(world.edge.mux.bytesReceived, 400);
    assert.equal(world.agent.mux.bytesSent, 400);
  });

  it("say why no stream is opened any more when they go away; streams that are open go on", () => {
    const { world, visitor, edge, agent } = open();
    const why = new SallyportError("shutdown", "The edge stops", { side: "local" });
    world.edge.mux.goAway(why);
    world.edge.mux.goAway(new SallyportError("replaced", "Later", { side: "local" }));
    assert.throws(() => world.edge.mux.open(V4), why);
    agent.write(pattern(10, 1));
    edge.write(pattern(10, 1));
    world.settle();
    assert.equal(visitor.byteLength, 10);
  });

  it("tell every stream when the session ends, and deliver first what a CLOSE had completed", () => {
    const { world, visitor, edge, agent } = open();
    const other = new Recorder();
    const second = world.edge.mux.open(V4);
    second.attach(other);
    world.settle();
    edge.pause();
    agent.write(pattern(50_000, 1));
    agent.closeWrite();
    world.settle();
    world.edge.mux.receive(new Uint8Array(60)); // no frame of the key's
    edge.resume();
    world.edge.mux.turn();
    assert.equal(world.edge.endedWith?.code, "cipher_failed");
    assert.deepEqual([visitor.byteLength, visitor.ends, visitor.closes, visitor.error], [
      50_000,
      1,
      1,
      undefined,
    ]);
    assert.deepEqual([other.closes, (other.error as { code?: string }).code], [1, "cipher_failed"]);
    assert.throws(() => world.edge.mux.open(V4), { code: "cipher_failed" });
  });

  it("let go of their ciphers at each turn's end while there are no streams, and when nothing goes any more", () => {
    let parked = 0;
    const sealer = createSealer("aes-cbc", new Uint8Array(32).fill(7), new Uint8Array(16).fill(9), "edge");
    const counting: Sealer = {
      overheadBytes: 0,
      seal: (plain, unitBytes) => sealer.seal(plain, unitBytes),
      park: () => void parked++,
    };
    const world = new World({ cipher: "aes-cbc", edge: { sealer: counting } });
    world.agent.mux.sendPing("ping", new Uint8Array(16));
    world.settle();
    const idle = parked;
    assert.ok(idle > 0, "behind the pong");
    const stream = world.edge.mux.open(V4);
    stream.attach(new Recorder());
    world.settle();
    stream.write(pattern(10_000, 1));
    world.settle();
    assert.equal(parked, idle, "not while streams come and go");
    stream.abort();
    world.settle();
    assert.equal(parked, idle);
    world.advance(3 * IDLE_TICK_MS);
    assert.ok(parked > idle, "when it has been idle for a while");
  });
});
