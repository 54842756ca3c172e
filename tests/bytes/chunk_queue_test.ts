import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { describe, it } from "node:test";
import fc from "fast-check";
import { type Block, BLOCK_BYTES, BlockPool } from "../../src/bytes/block_pool.ts";
import { ChunkQueue } from "../../src/bytes/chunk_queue.ts";
import { ByteReader, OutOfBounds } from "../../src/bytes/reader.ts";
import { seedOf } from "../support/seeded.ts";

describe("ChunkQueue", () => {
  it("behaves as one string of bytes, whatever is pushed, moved and dropped", () => {
    const action = fc.oneof(
      fc.record({ push: fc.uint8Array({ maxLength: 300 }) }),
      fc.record({
        push: fc.integer({ min: 3000, max: 200_000 }).map((n) => new Uint8Array(n).fill(n & 255)),
      }),
      fc.record({ push: fc.integer({ min: 0, max: 70_000 }).map((n) => new Uint8Array(n).fill(~n & 255)) }),
      fc.record({ drop: fc.integer({ min: 0, max: 150_000 }) }),
      fc.record({ move: fc.integer({ min: 0, max: 150_000 }) }),
    );
    fc.assert(
      fc.property(fc.array(action, { maxLength: 60 }), (actions) => {
        const queue = new ChunkQueue();
        let model = Buffer.alloc(0);
        for (const step of actions) {
          if ("push" in step) {
            const chunk = new Uint8Array(step.push);
            queue.push(chunk);
            model = Buffer.concat([model, chunk]);
            chunk.fill(0xaa); // the queue has copied it
          } else if ("move" in step) {
            const size = Math.min(step.move, model.length);
            const target = new Uint8Array(size + 7);
            queue.moveTo(target, 5, size);
            assert.ok(model.subarray(0, size).equals(target.subarray(5, 5 + size)));
            assert.deepEqual([...target.subarray(0, 5), ...target.subarray(5 + size)], [0, 0, 0, 0, 0, 0, 0]);
            model = model.subarray(size);
          } else {
            queue.drop(step.drop);
            model = model.subarray(step.drop);
          }
          assert.equal(queue.byteLength, model.length);
          const first = queue.peek();
          assert.equal(first.length > 0, model.length > 0);
          assert.ok(model.subarray(0, first.length).equals(first));
        }
        const rest: Uint8Array[] = [];
        while (queue.byteLength > 0) {
          rest.push(queue.peek().slice());
          queue.drop(rest.at(-1)!.length);
        }
        assert.ok(Buffer.concat(rest).equals(model));
        assert.equal(queue.peek().length, 0);
      }),
      { seed: seedOf(11), numRuns: 200 },
    );
  });

  it("holds blocks from 256 bytes to 64 KiB that grow with what waits", () => {
    const queue = new ChunkQueue();
    const sizes = new Set<number>();
    const chunk = new Uint8Array(1000);
    queue.push(Uint8Array.of(1));
    assert.equal(queue.peek().buffer.byteLength, 256);
    for (let i = 0; i < 300; i++) queue.push(chunk);
    while (queue.byteLength > 0) {
      sizes.add(queue.peek().buffer.byteLength);
      queue.drop(queue.peek().length);
    }
    assert.equal(Math.max(...sizes), 64 * 1024);
    queue.push(Uint8Array.of(1));
    assert.equal(queue.peek().buffer.byteLength, 256, "a new start after it has been empty");
    queue.clear();
    assert.deepEqual([queue.byteLength, queue.peek().length, queue.peek().buffer.byteLength], [0, 0, 0]);
  });

  it("gives full blocks that were dropped to the next queue of its pool, with nothing of theirs to be seen", () => {
    const pool = new BlockPool();
    const first = new ChunkQueue(pool);
    const second = new ChunkQueue(pool);
    first.push(new Uint8Array(200_000).fill(1));
    const block = first.peek().buffer;
    first.drop(100_000);
    second.push(new Uint8Array(65_536).fill(2));
    assert.equal(second.peek().buffer, block);
    assert.ok(second.peek().every((byte) => byte === 2));
    second.push(new Uint8Array(10).fill(3));
    second.drop(65_536);
    assert.deepEqual([second.byteLength, ...second.peek()], [10, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3]);
    assert.equal(first.byteLength, 100_000);
    assert.ok(first.peek().every((byte) => byte === 1));
    const seen = first.peek();
    first.clear();
    second.push(new Uint8Array(300_000).fill(4));
    assert.ok(seen.every((byte) => byte === 1), "what is cleared may still be read");
  });

  it("no two queues of a pool ever have a block in common, whatever is pushed, dropped, moved and cleared", () => {
    const QUEUES = 5;
    const fills = Array.from({ length: QUEUES }, (_, at) => new Uint8Array(BLOCK_BYTES).fill(at + 1));
    const step = fc.record({
      at: fc.nat(QUEUES - 1),
      how: fc.constantFrom("push", "push", "drop", "move", "clear"),
      byteLength: fc.oneof(fc.nat(2_000), fc.nat(100_000)),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60, size: "max" }), (steps) => {
        const pool = new BlockPool();
        const queues = Array.from({ length: QUEUES }, () => new ChunkQueue(pool));
        for (const { at, how, byteLength } of steps) {
          const queue = queues[at]!;
          if (how === "push") queue.push(new Uint8Array(byteLength).fill(at + 1));
          else if (how === "drop") queue.drop(byteLength);
          else if (how === "clear") queue.clear();
          else {
            const size = Math.min(byteLength, queue.byteLength);
            queue.moveTo(new Uint8Array(size), 0, size);
          }
          // A block of two queues would show one's bytes to the other.
          for (const [index, other] of queues.entries()) {
            const piece = other.peek();
            const its = fills[index]!.subarray(0, piece.length);
            assert.equal(Buffer.compare(piece, its), 0, `queue ${index} has another's bytes`);
          }
        }
        const held = queues.reduce((sum, queue) => sum + queue.byteLength, 0);
        assert.ok(pool.memory.heldBytes >= held);
        for (const queue of queues) queue.drop(queue.byteLength);
        assert.equal(pool.memory.heldBytes, 0, "each block was given back once");
      }),
      { seed: seedOf(12), numRuns: 60 },
    );
  });

  it("keeps as many blocks as are in use, so that those of dropped streams are used again", () => {
    const pool = new BlockPool();
    const takeBlocks = (count: number) => Array.from({ length: count }, () => pool.take());
    const countOf = (blocks: Block[], mark: number) => blocks.filter(({ bytes }) => bytes[0] === mark).length;
    const others = takeBlocks(200);
    const dropped = new ChunkQueue(pool);
    dropped.push(new Uint8Array(151 * BLOCK_BYTES).fill(7));
    dropped.clear();
    const again = takeBlocks(151);
    assert.equal(countOf(again, 7), 150, "all but the first, which may still be read");
    for (const block of [...others, ...again]) {
      block.bytes.fill(9);
      pool.give(block);
    }
    assert.equal(countOf(takeBlocks(351), 9), 64, "4 MiB when nothing is in use");
  });

  it("puts small chunks together, so that many of them aren't as many buffers", () => {
    const queue = new ChunkQueue();
    for (let i = 0; i < 100_000; i++) queue.push(Uint8Array.of(i & 255));
    let pieces = 0;
    while (queue.byteLength > 0) {
      queue.drop(queue.peek().length);
      pieces++;
    }
    assert.ok(pieces < 50, `${pieces} pieces`);
  });
});

describe("ByteReader", () => {
  it("reads big-endian fields and stops at its end, or its part's", () => {
    const reader = new ByteReader(Uint8Array.of(1, 2, 3, 4, 5, 6, 0xff, 0xff, 0xff, 0xff, 7, 8));
    assert.deepEqual([reader.u8(), reader.u16(), reader.u24(), reader.u32()], [
      1,
      0x203,
      0x40506,
      0xffffffff,
    ]);
    const part = reader.sub(1);
    assert.equal(part.u8(), 7);
    assert.throws(() => part.u8(), OutOfBounds);
    assert.throws(() => reader.bytes(2), OutOfBounds);
    for (const length of [-1, NaN]) assert.throws(() => reader.bytes(length), OutOfBounds);
    assert.deepEqual([...reader.bytes(1)], [8]);
    assert.equal(reader.left, 0);
    assert.throws(() => reader.sub(1), OutOfBounds);
  });
});
