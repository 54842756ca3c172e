/** The multiplexer in virtual time: many streams, random pieces, interleaving, pausing and closing. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { describe, it } from "node:test";
import type { MuxStream } from "../../../src/protocol/mux/snitun/stream.ts";
import { Recorder, World } from "./harness.ts";
import { pattern, seeded, seedOf } from "../../support/seeded.ts";
import { DEFAULT_QUEUE_LIMITS } from "../../../src/protocol/mux/queue_limits.ts";

const sha = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");

interface Writer {
  stream: MuxStream;
  left: Uint8Array<ArrayBuffer>;
  waiting: boolean;
  sent: Uint8Array<ArrayBuffer>;
}

/** Writes as the contract asks: no further than the first false, until drain. */
function pump(writer: Writer, random: () => number): void {
  if (writer.waiting || writer.left.length === 0) return;
  const size = Math.min(writer.left.length, 1 + Math.floor(random() ** 3 * 200_000));
  const chunk = writer.left.slice(0, size);
  writer.left = writer.left.slice(size);
  if (!writer.stream.write(chunk)) writer.waiting = true;
  chunk.fill(0xee); // the caller may reuse its buffer on return
  if (writer.left.length === 0) writer.stream.closeWrite();
}

describe("MuxSession: simulated sessions", () => {
  for (const cipher of ["aes-cbc", "aes-gcm", "aes-gcm-siv"] as const) {
    for (const protocolVersion of [0, 1, 2] as const) {
      for (let run = 1; run <= 3; run++) {
        const seed = seedOf(run);
        it(`loses and reorders nothing: ${cipher}, version ${protocolVersion}, seed ${seed}`, () => {
          simulate(cipher, protocolVersion, seed);
        });
      }
    }
  }
});

function simulate(
  cipher: "aes-cbc" | "aes-gcm" | "aes-gcm-siv",
  protocolVersion: 0 | 1 | 2,
  seed: number,
): void {
  const random = seeded(seed * 1000 + protocolVersion);
  const budget = 512 * 1024;
  const queueLimits = { ...DEFAULT_QUEUE_LIMITS, incomingHighBytes: 96 * 1024, incomingLowBytes: 16 * 1024 };
  const world = new World({
    cipher,
    protocolVersion,
    random,
    windowBytes: 64 * 1024,
    pieceBytes: 1 + Math.floor(random() * 30_000),
    edge: { queueLimits, receiveBudgetBytes: budget },
    agent: { queueLimits, receiveBudgetBytes: budget },
  });
  const writers: Writer[] = [];
  const readers = new Map<MuxStream, { recorder: Recorder; expected: () => string }>();
  const paused = new Set<MuxStream>();
  const expectedByAgent = new Map<string, Uint8Array<ArrayBuffer>>();
  let maxHeld = 0;

  const join = (stream: MuxStream, bytes: Uint8Array<ArrayBuffer>, expected: () => string) => {
    const writer: Writer = { stream, left: bytes, waiting: false, sent: bytes };
    const recorder = new Recorder();
    recorder.onData = () => {
      if (random() < 0.3) {
        stream.pause();
        paused.add(stream);
      }
    };
    const drain = recorder.drain.bind(recorder);
    recorder.drain = () => {
      drain();
      writer.waiting = false;
    };
    stream.attach(recorder);
    writers.push(writer);
    readers.set(stream, { recorder, expected });
  };

  // The agent's CLOSE ends both ways, so it writes nothing before the visitor's bytes are all there.
  const answers = new Map<string, Uint8Array<ArrayBuffer>>();
  world.agent.onStream = (stream) => {
    const id = stream.id.join();
    const recorder = new Recorder();
    const question = expectedByAgent.get(id)!;
    recorder.onData = () => {
      if (random() < 0.3) {
        stream.pause();
        paused.add(stream);
      }
      if (recorder.byteLength === question.length) {
        const answer = answers.get(id)!;
        const writer: Writer = { stream, left: answer, waiting: false, sent: answer };
        const drain = recorder.drain.bind(recorder);
        recorder.drain = () => {
          drain();
          writer.waiting = false;
        };
        writers.push(writer);
      }
    };
    stream.attach(recorder);
    readers.set(stream, { recorder, expected: () => sha(question) });
  };

  const total = 24;
  let opened = 0;
  for (let step = 0; step < 400_000; step++) {
    if (opened < total && random() < 0.02) {
      const stream = world.edge.mux.open({ address: random() < 0.5 ? "192.0.2.7" : "2001:db8::7" });
      const question = pattern(1 + Math.floor(random() ** 2 * 400_000), opened);
      const answer = pattern(1 + Math.floor(random() ** 2 * 400_000), opened + 100);
      expectedByAgent.set(stream.id.join(), question);
      answers.set(stream.id.join(), answer);
      join(stream, question, () => sha(answer));
      opened++;
    }
    const choice = random();
    if (choice < 0.3 && writers.length > 0) {
      pump(writers[Math.floor(random() * writers.length)], random);
    } else if (choice < 0.4 && paused.size > 0) {
      const stream = [...paused][Math.floor(random() * paused.size)];
      paused.delete(stream);
      stream.resume();
    } else if (
      !world.step() && opened === total && paused.size === 0 && writers.every((w) => w.left.length === 0)
    ) {
      break;
    }
    let held = 0;
    for (const stream of readers.keys()) held += stream.incoming.byteLength;
    maxHeld = Math.max(maxHeld, held);
  }
  world.settle();

  assert.equal(opened, total);
  assert.equal(world.edge.endedWith, undefined);
  assert.equal(world.agent.endedWith, undefined);
  assert.deepEqual([...world.edge.refusals, ...world.agent.refusals], []);
  for (const { recorder, expected } of readers.values()) {
    assert.equal(sha(recorder.bytes), expected());
    assert.deepEqual([recorder.ends, recorder.closes, recorder.error], [1, 1, undefined]);
    assert.deepEqual(recorder.events.slice(-2), ["end", "close"]);
  }
  assert.equal(world.edge.mux.streams + world.agent.mux.streams, 0);
  // Both sides together; each may go over its budget by what was on the wire when it stopped reading.
  assert.ok(maxHeld <= 2 * (budget + 128 * 1024), `held ${maxHeld}`);
}
