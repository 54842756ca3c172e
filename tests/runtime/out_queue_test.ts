import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { describe, it } from "node:test";
import fc from "fast-check";
import { BUFFER_SIZES, BufferPool, OutQueue } from "../../src/runtime/out_queue.ts";
import { seedOf } from "../support/seeded.ts";

/** Bytes from any position of the stream that the property pushes: they repeat after 251. */
const PATTERN = Uint8Array.from({ length: 251 + 300_000 }, (_, i) => i % 251);
const patternAt = (position: number, byteLength: number) =>
  PATTERN.subarray(position % 251, (position % 251) + byteLength);

describe("OutQueue", () => {
  it("gives back what was pushed, in order, however it is consumed", () => {
    const step = fc.oneof(
      fc.record({ push: fc.nat(300_000), offset: fc.nat(50) }),
      fc.record({ consume: fc.integer({ min: 0, max: 1000 }) }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const pool = new BufferPool();
        const queue = new OutQueue(pool);
        let pushed = 0;
        let taken = 0;
        const take = (share: number) => {
          const head = queue.head();
          const count = Math.floor((head.length * share) / 1000);
          assert.equal(Buffer.compare(head.subarray(0, count), patternAt(taken, count)), 0);
          queue.consume(count);
          taken += count;
          assert.equal(queue.bytes, pushed - taken);
        };
        for (const step of steps) {
          if ("push" in step) {
            const chunk = new Uint8Array(step.offset + step.push).fill(255);
            chunk.set(patternAt(pushed, step.push), step.offset);
            queue.push(chunk, step.offset);
            pushed += step.push;
            chunk.fill(255);
          } else take(step.consume);
        }
        while (queue.bytes > 0) take(1000);
        assert.equal(taken, pushed);
      }),
      { numRuns: 60, seed: seedOf(1) },
    );
  });

  it("no two queues of a pool ever have a buffer in common, whatever is pushed, consumed and cleared", () => {
    const QUEUES = 5;
    const fills = Array.from(
      { length: QUEUES },
      (_, at) => new Uint8Array(BUFFER_SIZES.at(-1)!).fill(at + 1),
    );
    const step = fc.record({
      at: fc.nat(QUEUES - 1),
      how: fc.constantFrom("push", "push", "consume", "clear", "clear in flight", "release"),
      byteLength: fc.oneof(fc.nat(20_000), fc.nat(300_000)),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60, size: "max" }), (steps) => {
        const pool = new BufferPool();
        const queues = Array.from({ length: QUEUES }, () => new OutQueue(pool));
        for (const { at, how, byteLength } of steps) {
          const queue = queues[at]!;
          if (how === "push") queue.push(new Uint8Array(byteLength).fill(at + 1));
          else if (how === "consume") queue.consume(Math.min(byteLength, queue.head().length));
          else if (how === "release") queue.release();
          else queue.clear(how === "clear in flight");
          for (const [index, other] of queues.entries()) {
            const its = fills[index]!.subarray(0, other.head().length);
            assert.equal(Buffer.compare(other.head(), its), 0, `queue ${index} has another's bytes`);
          }
        }
        for (const queue of queues) queue.clear();
        assert.equal(pool.memory.heldBytes, 0, "each buffer was given back once");
      }),
      { numRuns: 60, seed: seedOf(2) },
    );
  });

  it("a view of the head stays good while more is pushed", () => {
    const queue = new OutQueue(new BufferPool());
    queue.push(new Uint8Array(100).fill(1));
    const head = queue.head();
    queue.push(new Uint8Array(10_000).fill(2));
    assert.ok(head.length === 100 && head.every((byte) => byte === 1));
  });

  it("an empty queue gives its buffers back, one in use is not reused", () => {
    const pool = new BufferPool();
    const queue = new OutQueue(pool);
    queue.push(new Uint8Array(100));
    const used = queue.head().buffer;
    queue.clear(true);
    assert.equal(queue.bytes, 0);
    assert.notEqual(pool.take(0).buffer, used);
    queue.push(new Uint8Array(BUFFER_SIZES[3]));
    const large = queue.head().buffer;
    queue.consume(BUFFER_SIZES[3]);
    queue.release();
    assert.equal(pool.take(3).buffer, large);
  });
});

describe("BufferPool", () => {
  it("lends smaller buffers once many large ones are being read into", () => {
    const pool = new BufferPool();
    const taken = Array.from({ length: 64 }, () => pool.lend(3));
    const large = taken.filter(({ length }) => length === BUFFER_SIZES[3]).length;
    assert.ok(large >= 4 && large < 32, `${large} large ones`);
    assert.equal(pool.memory.heldBytes, taken.reduce((sum, { length }) => sum + length, 0));
    for (const buffer of taken) pool.takeBack(buffer);
    assert.equal(pool.memory.heldBytes, 0);
    assert.equal(pool.lend(3).length, BUFFER_SIZES[3]);
  });

  it("lends large buffers for reading, however many bytes are queued for stalled peers", () => {
    const pool = new BufferPool();
    for (const size of BUFFER_SIZES) {
      for (let bytes = 0; bytes < 2048 * 1024; bytes += size) new OutQueue(pool).push(new Uint8Array(size));
    }
    assert.equal(pool.lend(3).length, BUFFER_SIZES[3]);
  });

  it("reuses what a transfer over many connections gives back", () => {
    const pool = new BufferPool();
    const first = Array.from({ length: 64 }, () => pool.lend(3));
    for (const buffer of first) pool.takeBack(buffer);
    const known = new Set(first);
    assert.ok(Array.from({ length: 64 }, () => pool.lend(3)).every((buffer) => known.has(buffer)));
  });
});
