/** PromiseStream: buffers that the runtime may still read have no second user. */
import assert from "node:assert/strict";
import { it } from "node:test";
import { BUFFER_SIZES } from "../../src/runtime/out_queue.ts";
import { QuicByteStream } from "../../src/runtime/quic_stream.ts";
import { makeShared } from "../support/runtime_shared.ts";

const settled = () => new Promise((resolve) => setImmediate(resolve));

for (const how of ["its reading fails", "its connection is lost", "it is aborted"]) {
  it(`a stream whose write is in progress when ${how} leaves that buffer to nobody else`, async () => {
    const shared = makeShared();
    let inFlight: Uint8Array | undefined;
    const read = Promise.withResolvers<null>();
    const stream = new QuicByteStream(
      {
        read: () => read.promise,
        write: (bytes) => {
          inFlight = bytes;
          return new Promise(() => {});
        },
        closeWrite() {},
        destroy() {},
      },
      shared,
      () => {},
    );
    stream.attach({ data() {}, end() {}, drain() {}, close() {} });
    stream.write(new Uint8Array(3_000).fill(1));
    await settled();
    if (how === "its reading fails") read.reject(new Error("The peer has reset its side"));
    else if (how === "its connection is lost") stream.lost(new Error("lost") as never);
    else stream.abort();
    await settled();
    assert.equal(shared.memory.heldBytes, 0);
    for (const index of BUFFER_SIZES.keys()) {
      assert.notEqual(shared.pool.take(index).buffer, inFlight!.buffer, `size ${BUFFER_SIZES[index]}`);
    }
  });
}
