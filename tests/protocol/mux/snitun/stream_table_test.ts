import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { NO_PLACE } from "../../../../src/bytes/roster.ts";
import type { MuxStream } from "../../../../src/protocol/mux/snitun/stream.ts";
import { StreamTable } from "../../../../src/protocol/mux/snitun/stream_table.ts";

/** A stream whose id begins and ends with these bytes. */
function stream(first: number, last: number): MuxStream {
  const id = new Uint8Array(16);
  id[0] = first;
  id[15] = last;
  return { id, tablePlace: NO_PLACE, nextAlike: undefined as MuxStream | undefined } as MuxStream;
}
/** A frame's header with the stream's id. */
const headerOf = ({ id }: MuxStream) => Uint8Array.from([...id, ...new Uint8Array(16).fill(9)]);

describe("StreamTable", () => {
  it("find() compares all 16 bytes", () => {
    const table = new StreamTable();
    const one = stream(1, 0);
    table.add(one);
    assert.equal(table.find(headerOf(one)), one);
    for (let at = 0; at < 16; at++) {
      for (const bit of [1, 0x80]) {
        const header = headerOf(one);
        header[at]! ^= bit;
        assert.equal(table.find(header), undefined, `byte ${at}`);
      }
    }
  });

  // Ids that start alike share a chain, the one added last in front.
  for (const [name, order] of [["front", 2], ["middle", 1], ["end", 0]] as const) {
    it(`unname() takes the ${name} of a chain out, and no other`, () => {
      const table = new StreamTable();
      const alike = [stream(1, 1), stream(1, 2), stream(1, 3)];
      for (const one of alike) table.add(one);
      const gone = alike[order]!;
      table.unname(gone);
      assert.equal(gone.nextAlike, undefined);
      assert.deepEqual(
        alike.map((one) => table.find(headerOf(one)) === one),
        alike.map((one) => one !== gone),
      );
      assert.equal([...table.all].includes(gone), true, "it still delivers");
      for (const one of alike) table.unname(one);
      assert.deepEqual(alike.map((one) => table.find(headerOf(one))), [undefined, undefined, undefined]);
    });
  }

  it("a name may be given again once it is free", () => {
    const table = new StreamTable();
    const [old, next] = [stream(1, 1), stream(1, 1)];
    table.add(old);
    table.unname(old);
    table.add(next);
    table.unname(old);
    assert.equal(table.find(headerOf(next)), next);
    assert.equal(table.remove(old), true);
    assert.equal(table.find(headerOf(next)), next);
  });

  it("finds each of many streams, with and without others of its chain", () => {
    const table = new StreamTable();
    const many = Array.from({ length: 600 }, (_, i) => {
      const one = stream(i & 0xff, i >> 8);
      one.id[3] = i & 0x7f;
      return one;
    });
    for (const one of many) table.add(one);
    for (const one of many) assert.equal(table.find(headerOf(one)), one);
    for (const one of many.filter((_, i) => i % 3 > 0)) table.remove(one);
    for (const [i, one] of many.entries()) {
      assert.equal(table.find(headerOf(one)), i % 3 === 0 ? one : undefined);
    }
  });

  it("remove() forgets a stream, and says whether it was there", () => {
    const table = new StreamTable();
    const one = stream(1, 1);
    assert.equal(table.remove(one), false);
    assert.equal(table.all.size, 0);
    table.add(one);
    assert.deepEqual([...table.all], [one]);
    assert.equal(table.remove(one), true);
    assert.equal(table.remove(one), false);
    assert.deepEqual([table.find(headerOf(one)), table.all.size], [undefined, 0]);
  });
});
