import assert from "node:assert/strict";
import { test } from "node:test";
import type { Bytes } from "../../../src/bytes/bytes.ts";
import { MemoryBudget } from "../../../src/bytes/memory_budget.ts";
import { ByteRing } from "../../../src/protocol/curve/streams/byte_ring.ts";
import { ReceiveBuffer } from "../../../src/protocol/curve/streams/receive_buffer.ts";
import { SendBuffer } from "../../../src/protocol/curve/streams/send_buffer.ts";
import { pattern, seeded, seedOf } from "../../support/seeded.ts";

test("a send buffer gives every byte until it is acknowledged, whatever is lost", () => {
  const random = seeded(seedOf(3));
  for (let run = 0; run < 30; run++) {
    const data = pattern(60_000, run);
    const buffer = new SendBuffer();
    const arrived: Bytes = new Uint8Array(data.length);
    const sentPieces: [number, number][] = [];
    let written = 0;
    for (let step = 0; buffer.held > 0 || written < data.length; step++) {
      assert.ok(step < 20_000, "it doesn't come to an end");
      if (written < data.length && random() < 0.3) {
        const size = Math.ceil(random() * 9_000);
        buffer.write(data.subarray(written, written + size));
        written = Math.min(data.length, written + size);
      }
      const offset = buffer.hasLost ? buffer.lostStart : buffer.next;
      const length = Math.min(
        1 + Math.floor(random() * 1_400),
        buffer.hasLost ? buffer.lostLength : buffer.unsent,
      );
      if (length > 0) {
        const piece = new Uint8Array(length);
        buffer.copy(offset, piece);
        buffer.sent(offset, length);
        arrived.set(piece, offset);
        sentPieces.push([offset, length]);
      }
      if (sentPieces.length > 0 && random() < 0.7) {
        const [at, size] = sentPieces.splice(Math.floor(random() * sentPieces.length), 1)[0]!;
        if (random() < 0.3) buffer.lost(at, size);
        else buffer.acked(at, size);
      }
    }
    assert.deepEqual(arrived, data);
    assert.equal(buffer.hasLost, false);
  }
});

test("what was acknowledged is never lost", () => {
  const buffer = new SendBuffer();
  buffer.write(pattern(1_000));
  buffer.sent(0, 1_000);
  buffer.acked(200, 300);
  buffer.lost(100, 500);
  assert.deepEqual([buffer.lostStart, buffer.lostLength], [100, 100]);
  buffer.sent(100, 100);
  assert.deepEqual([buffer.lostStart, buffer.lostLength], [500, 100]);
  buffer.acked(0, 1_000);
  assert.equal(buffer.hasLost, false);
  assert.equal(buffer.held, 0);
});

test("a receive buffer puts pieces in order, overlaps and copies included", () => {
  const random = seeded(seedOf(4));
  for (let run = 0; run < 30; run++) {
    const data = pattern(50_000, run);
    const buffer = new ReceiveBuffer();
    const out: Bytes = new Uint8Array(data.length);
    while (buffer.offset < data.length) {
      const offset = Math.max(
        0,
        Math.min(data.length - 1, buffer.offset + Math.floor((random() - 0.2) * 6_000)),
      );
      buffer.add(offset, data.subarray(offset, offset + 1 + Math.floor(random() * 1_400)));
      while (buffer.ready && random() < 0.8) {
        const at = buffer.offset;
        out.set(buffer.take(), at);
      }
    }
    assert.deepEqual(out, data);
    assert.ok(buffer.empty);
  }
});

test("a receive buffer says when a piece brings nothing new", () => {
  const buffer = new ReceiveBuffer();
  assert.equal(buffer.add(10, pattern(10)), true);
  assert.equal(buffer.add(12, pattern(5)), false);
  buffer.skip(30);
  assert.equal(buffer.empty, true);
  assert.equal(buffer.add(5, pattern(20)), false);
});

test("a ring keeps its bytes as it doubles, and counts its memory", () => {
  const memory = new MemoryBudget();
  const ring = new ByteRing(memory);
  const data = pattern(20_000);
  // It wraps: the first 8 KiB begin in the middle.
  ring.reserve(5_000, 8_192);
  ring.put(5_000, data.subarray(0, 8_192));
  assert.deepEqual([ring.view(5_000, 8_192).length, ring.byteLength, memory.heldBytes], [
    3_192,
    8_192,
    8_192,
  ]);
  ring.reserve(5_000, 8_192);
  assert.equal(ring.byteLength, 8_192);
  ring.reserve(5_000, 20_000);
  ring.put(13_192, data.subarray(8_192));
  assert.deepEqual([ring.byteLength, memory.heldBytes], [32_768, 32_768]);
  const view = ring.view(5_000, 20_000);
  ring.drop();
  assert.deepEqual([ring.byteLength, memory.heldBytes], [0, 0]);
  assert.deepEqual(view, data);
});
