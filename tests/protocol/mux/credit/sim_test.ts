/** The credit dialect in virtual time: many streams both ways at once, random pieces, pausing, half-closing. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { describe, it } from "node:test";
import type { Bytes } from "../../../../src/bytes/bytes.ts";
import { SallyportError } from "../../../../src/errors.ts";
import { systemRandom } from "../../../../src/crypto/random.ts";
import { CreditScratch } from "../../../../src/protocol/mux/credit/sender.ts";
import {
  type CreditOptions,
  CreditSession,
  type NumberedStream,
} from "../../../../src/protocol/mux/credit/session.ts";
import { Recorder, type WireOptions, WireWorld } from "../harness.ts";
import { pattern, seeded, seedOf } from "../../../support/seeded.ts";

const sha = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");
const MiB = 1024 * 1024;
const shutdown = new SallyportError("shutdown", "The edge stops", { side: "local" });

class World extends WireWorld<CreditSession, NumberedStream> {
  constructor(options: WireOptions & { each?: Partial<CreditOptions> } = {}) {
    const scratch = new CreditScratch();
    super(
      options,
      (role, host) => new CreditSession({ role, host, scratch, random: systemRandom, ...options.each }),
    );
  }

  /** A stream with a recorder at each end. */
  join(caller = { address: "192.0.2.7", port: 4242, serverName: "a.test" }) {
    const stream = this.edge.mux.open(caller);
    const near = new Recorder();
    stream.attach(near);
    this.settle();
    const other = this.agent.streams.at(-1)!;
    const far = new Recorder();
    other.attach(far);
    return { stream, near, other, far };
  }
}

interface Writer {
  stream: NumberedStream;
  left: Bytes;
  waiting: boolean;
}

function simulate(seed: number): void {
  const random = seeded(seed);
  const budget = MiB;
  const world = new World({
    random,
    windowBytes: 64 * 1024,
    pieceBytes: 1 + Math.floor(random() * 30_000),
    each: { receiveBudgetBytes: budget },
  });
  const writers: Writer[] = [];
  const readers = new Map<NumberedStream, { recorder: Recorder; expected: string }>();
  const paused = new Set<NumberedStream>();
  const join = (stream: NumberedStream, sends: Bytes, expects: Bytes) => {
    const writer: Writer = { stream, left: sends, waiting: false };
    const recorder = new Recorder();
    recorder.onData = () => {
      if (random() < 0.3) {
        stream.pause();
        paused.add(stream);
      }
    };
    recorder.drain = () => void (writer.waiting = false);
    stream.attach(recorder);
    writers.push(writer);
    readers.set(stream, { recorder, expected: sha(expects) });
  };
  const size = () => Math.floor(random() ** 2 * 400_000);
  const questions = Array.from({ length: 24 }, (_, i) => pattern(size(), i));
  const answers = Array.from({ length: 24 }, (_, i) => pattern(size(), 100 + i));
  world.agent.onStream = (stream) => join(stream, answers[stream.lane - 1]!, questions[stream.lane - 1]!);

  let opened = 0;
  let maxHeld = 0;
  for (let step = 0; step < 400_000; step++) {
    if (opened < 24 && random() < 0.02) {
      const stream = world.edge.mux.open({ address: "2001:db8::7", port: opened, serverName: "a.test" });
      join(stream, questions[opened]!, answers[opened]!);
      opened++;
    }
    const choice = random();
    if (choice < 0.3 && writers.length > 0) {
      const at = Math.floor(random() * writers.length);
      const writer = writers[at]!;
      if (!writer.waiting) {
        const chunk = writer.left.slice(0, 1 + Math.floor(random() ** 3 * 200_000));
        writer.left = writer.left.slice(chunk.length);
        if (!writer.stream.write(chunk)) writer.waiting = true;
        chunk.fill(0xee);
        if (writer.left.length === 0) {
          writer.stream.closeWrite();
          writers.splice(at, 1);
        }
      }
    } else if (choice < 0.4 && paused.size > 0) {
      const stream = [...paused][Math.floor(random() * paused.size)]!;
      paused.delete(stream);
      stream.resume();
    } else if (!world.step() && opened === 24 && paused.size === 0 && writers.length === 0) {
      break;
    }
    let held = 0;
    for (const stream of readers.keys()) held += stream.incoming.byteLength;
    maxHeld = Math.max(maxHeld, held);
  }
  world.settle();
  assert.deepEqual([world.edge.endedWith, world.agent.endedWith], [undefined, undefined]);
  assert.deepEqual([...world.edge.refusals, ...world.agent.refusals], []);
  assert.equal(readers.size, 48);
  for (const { recorder, expected } of readers.values()) {
    assert.equal(sha(recorder.bytes), expected);
    assert.deepEqual([recorder.ends, recorder.closes, recorder.error], [1, 1, undefined]);
    assert.deepEqual(recorder.events.slice(-2), ["end", "close"]);
  }
  assert.equal(world.edge.mux.streams + world.agent.mux.streams, 0);
  // Both sides together.
  assert.ok(maxHeld <= 2 * budget, `held ${maxHeld}`);
}

describe("CreditSession: simulated sessions", () => {
  for (let run = 1; run <= 6; run++) {
    const seed = seedOf(run);
    it(`loses and reorders nothing, seed ${seed}`, () => simulate(seed));
  }

  it("carries the caller's address, port and name", () => {
    const world = new World();
    const callers = [
      { address: "192.0.2.7", port: 65_535, serverName: "a.test" },
      { address: "2001:db8::7", port: 0, serverName: `${"a".repeat(63)}.`.repeat(3) + "b".repeat(61) },
    ];
    for (const caller of callers) assert.deepEqual(world.join(caller).other.caller, caller);
    assert.deepEqual(world.join({ address: "::ffff:192.0.2.7", port: 1, serverName: "" }).other.caller, {
      address: "192.0.2.7",
      port: 1,
    });
  });

  it("ends each direction by itself, and the stream after both", () => {
    const world = new World();
    const { stream, near, other, far } = world.join();
    stream.write(pattern(100_000, 1));
    stream.closeWrite();
    world.advance(60_000);
    assert.deepEqual([far.byteLength, far.ends, far.closes], [100_000, 1, 0]);
    for (let i = 0; i < 10; i++) {
      other.write(pattern(50_000, i));
      world.advance(40_000);
    }
    other.closeWrite();
    world.settle();
    assert.deepEqual([near.byteLength, near.ends, near.closes, near.error], [500_000, 1, 1, undefined]);
    assert.deepEqual([far.closes, far.error, world.edge.mux.streams, world.agent.mux.streams], [
      1,
      undefined,
      0,
      0,
    ]);
  });

  it("resets with a reason that the other side hears", () => {
    const world = new World();
    const { other, near, far } = world.join();
    const reason = new SallyportError("endpoint_unreachable", "Cannot reach endpoint", { side: "peer" });
    other.abort(reason);
    world.settle();
    assert.equal((near.error as { code?: string }).code, "endpoint_unreachable");
    assert.deepEqual([near.closes, far.closes, far.error], [1, 1, reason]);
    const second = world.join();
    second.stream.abort();
    world.settle();
    assert.equal((second.far.error as { code?: string }).code, "aborted");
    assert.equal(world.edge.mux.streams + world.agent.mux.streams, 0);
  });

  it("stops a sender whose reader takes nothing, and lets its neighbours go on", () => {
    const world = new World();
    const stalled = world.join();
    stalled.other.pause();
    let taken = 0;
    while (taken < 64 && stalled.stream.write(new Uint8Array(256 * 1024))) {
      taken++;
      world.settle();
    }
    world.settle();
    assert.ok(taken < 64, "the writer is told to wait");
    assert.equal(stalled.other.incoming.byteLength, 128 * 1024);
    const free = world.join();
    const bytes = pattern(3 * MiB, 5);
    free.stream.write(bytes);
    world.settle();
    assert.equal(sha(free.far.bytes), sha(bytes));
    stalled.other.resume();
    world.settle();
    assert.ok(stalled.near.drains > 0);
    assert.ok(stalled.far.byteLength > taken * 256 * 1024);
  });

  it("drops the streams that stall when they use up the session's memory", () => {
    const world = new World({ each: { receiveBudgetBytes: MiB } });
    const stalled = Array.from({ length: 8 }, () => {
      const pair = world.join();
      pair.other.pause();
      pair.stream.write(new Uint8Array(512 * 1024));
      return pair;
    });
    world.settle();
    const free = world.join();
    free.stream.write(pattern(300_000, 1));
    world.advance(25_000);
    assert.equal(free.far.byteLength, 300_000);
    assert.ok(world.agent.refusals.length > 0);
    assert.ok(world.agent.refusals.every((code) => code === "stream_overflow"));
    assert.ok(stalled.some(({ near }) => (near.error as { code?: string })?.code === "stream_overflow"));
    assert.equal(world.edge.endedWith, undefined);
  });

  it("goes away: no new streams, the old ones finish", () => {
    const world = new World();
    const { stream, far } = world.join();
    world.edge.mux.goAway(shutdown);
    assert.throws(() => world.edge.mux.open({ address: "192.0.2.1" }), { code: "shutdown" });
    world.settle();
    assert.equal(world.agent.wentAway, "shutdown");
    stream.write(pattern(100_000, 3));
    stream.closeWrite();
    world.settle();
    assert.deepEqual([far.byteLength, far.ends], [100_000, 1]);
    const other = new World();
    other.agent.mux.goAway(shutdown);
    other.settle();
    assert.equal(other.edge.wentAway, "shutdown");
    assert.throws(() => other.edge.mux.open({ address: "192.0.2.1" }), { code: "shutdown" });
  });

  it("ends what is released once its bytes are out, and doesn't wait for a peer that goes on", () => {
    const world = new World();
    const { stream, near, other, far } = world.join();
    stream.write(pattern(40_000, 1));
    stream.release();
    world.settle();
    assert.deepEqual([far.byteLength, far.ends, far.closes], [40_000, 1, 0]);
    for (let i = 0; i < 20; i++) {
      other.write(new Uint8Array(100_000));
      world.advance(1000);
    }
    assert.deepEqual([near.byteLength, near.closes, far.closes], [0, 1, 1]);
  });

  it("finds a peer that is gone: no pong, or no byte", () => {
    const world = new World();
    // The edge hears nothing any more, so its agent gets no pong.
    world.edge.mux.receive = () => {};
    world.edge.mux.end = () => {};
    world.advance(141_000);
    assert.equal(world.agent.endedWith?.code, "pong_missing");
    const silent = new World();
    silent.agent.wake = () => {};
    silent.advance(121_000);
    assert.equal(silent.edge.endedWith?.code, "pong_missing");
  });

  const header = (type: number, size: number, stream: number) =>
    new Uint8Array([type, size >>> 16, size >>> 8, size, 0, 0, stream >>> 8, stream]);
  const hostile: [string, "edge" | "agent", Uint8Array<ArrayBuffer>][] = [
    ["DATA for a stream that was never opened", "agent", header(2, 10, 9)],
    ["a frame that is too long", "agent", header(2, 65_537, 1)],
    ["a CREDIT of another length", "agent", header(3, 5, 0)],
    [
      "an OPEN by the agent with a number of the edge's",
      "edge",
      new Uint8Array([...header(1, 8, 9), 0, 0, 0, 0, 0, 0, 0, 0]),
    ],
    ["an OPEN without its parts", "agent", new Uint8Array([...header(1, 3, 2), 0, 0, 0])],
    [
      "an OPEN with a number that was used",
      "agent",
      new Uint8Array([...header(1, 8, 1), 0, 0, 0, 0, 0, 0, 0, 0]),
    ],
    ["a second FIN", "agent", new Uint8Array([...header(4, 0, 1), ...header(4, 0, 1)])],
    ["DATA after a FIN", "agent", new Uint8Array([...header(4, 0, 1), ...header(2, 1, 1), 0])],
    [
      "a control character in a name",
      "agent",
      new Uint8Array([...header(1, 9, 2), 0, 0, 0, 0, 0, 0, 0, 1, 10]),
    ],
  ];
  for (const [what, role, bytes] of hostile) {
    it(`ends the session for ${what}`, () => {
      for (const step of [bytes.length, 1]) {
        const world = new World();
        world.join();
        for (let at = 0; at < bytes.length; at += step) world[role].mux.receive(bytes.slice(at, at + step));
        assert.equal(world[role].endedWith?.code, "frame_invalid");
      }
    });
  }

  it("ends the session of a peer that sends more than it may", () => {
    const world = new World();
    world.join().other.pause();
    for (let i = 0; i < 3; i++) {
      world.agent.mux.receive(new Uint8Array([...header(2, 60_000, 1), ...new Uint8Array(60_000)]));
    }
    assert.match(world.agent.endedWith?.message ?? "", /more on the stream than the 131072 bytes/);
  });

  it("passes over frames of later days", () => {
    const world = new World();
    const { stream, far } = world.join();
    world.agent.mux.receive(new Uint8Array([...header(77, 3, 0), 1, 2, 3]));
    stream.write(pattern(10, 1));
    world.settle();
    assert.equal(far.byteLength, 10);
  });
});
