/** Arrays that are used again, and arrays carved out of larger ones. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { BLOCK_BYTES, BlockPool } from "../../src/bytes/block_pool.ts";
import { Slab } from "../../src/bytes/slab.ts";
import { BufferPool, IDLE_BUFFER_BYTES } from "../../src/runtime/out_queue.ts";

describe("Slab", () => {
  it("gives arrays that share memory and no byte", () => {
    const slab = new Slab(64);
    const parts = Array.from({ length: 20 }, (_, i) => slab.copy(new Uint8Array(1 + i % 16).fill(i + 1)));
    for (const [i, part] of parts.entries()) {
      assert.deepEqual(part, new Uint8Array(1 + i % 16).fill(i + 1));
    }
    assert.equal(parts[0]!.buffer, parts[1]!.buffer);
    assert.ok(new Set(parts.map(({ buffer }) => buffer)).size < parts.length / 4);
  });
});

describe("BlockPool", () => {
  it("gives the smallest power of two with room, counts it, and gives it again", () => {
    const pool = new BlockPool();
    const sizes = [[1, 256], [256, 256], [257, 512], [5_000, 8_192], [BLOCK_BYTES, BLOCK_BYTES], [
      BLOCK_BYTES + 1,
      BLOCK_BYTES,
    ]] as const;
    for (const [wanted, got] of sizes) {
      const block = pool.take(wanted);
      assert.equal(block.bytes.length, got);
      assert.equal(pool.memory.heldBytes, got);
      pool.give(block);
      assert.equal(pool.memory.heldBytes, 0);
      assert.equal(pool.take(wanted), block);
      pool.drop(block);
      assert.notEqual(pool.take(wanted), block);
      pool.memory.letGo(got);
    }
  });

  it("gives a block again as if it were new, but for the bytes in it", () => {
    const pool = new BlockPool();
    const block = pool.take(1);
    Object.assign(block, { readAt: 3, writtenTo: 7, next: pool.take(1) });
    pool.give(block);
    const { readAt, writtenTo, next } = pool.take(1);
    assert.deepEqual([readAt, writtenTo, next], [0, 0, undefined]);
  });

  it("frees what it doesn't keep, at once: a collector would let megabytes pile up", () => {
    const pool = new BlockPool();
    const blocks = Array.from({ length: 1_000 }, () => pool.take());
    for (const block of blocks) pool.give(block);
    const left = blocks.filter(({ bytes }) => bytes.length > 0);
    assert.ok(left.length > 10 && left.length < 100, `${left.length} blocks are kept`);
    assert.ok(left.includes(pool.take()));
  });
});

describe("BufferPool", () => {
  it("gives the buffers of idle connections again, and counts none of them", () => {
    const pool = new BufferPool();
    const idle = pool.takeIdle();
    assert.equal(idle.length, IDLE_BUFFER_BYTES);
    pool.give(idle);
    assert.equal(pool.takeIdle(), idle);
    assert.notEqual(pool.takeIdle(), idle);
    assert.equal(pool.memory.heldBytes, 0);
  });
});
