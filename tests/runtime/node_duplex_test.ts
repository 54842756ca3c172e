import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { describe, it } from "node:test";
import { toNodeDuplex } from "../../src/runtime/node_duplex.ts";
import type { ByteStream } from "../../src/runtime/port.ts";
import { TlsIntake } from "../../src/runtime/tls_intake.ts";

const BYTE_LENGTH = 64 * 1024;

/** A stream that keeps a copy of what is written, as all streams do. */
function listeningStream() {
  const written: number[] = [];
  const stream = {
    attach() {},
    resume() {},
    write: (chunk: Uint8Array) => written.push(chunk.length, chunk[0]!, chunk.at(-1)!) > 0,
  } as unknown as ByteStream;
  return { stream, written };
}

describe("a stream for Node's libraries", () => {
  it("frees the large buffers of a TLS stack once they have been passed on", () => {
    const { stream, written } = listeningStream();
    const duplex = toNodeDuplex(stream, new TlsIntake(stream));
    const chunk = new Uint8Array(BYTE_LENGTH).fill(7);
    duplex.write(chunk);
    assert.deepEqual(written, [BYTE_LENGTH, 7, 7]);
    assert.ok(chunk.buffer.detached);
  });

  it("leaves a buffer alone of which only a part was written, or which others own", () => {
    const { stream, written } = listeningStream();
    const whole = Buffer.alloc(BYTE_LENGTH, 7);
    toNodeDuplex(stream, new TlsIntake(stream)).write(whole.subarray(1));
    toNodeDuplex(stream).write(whole);
    assert.deepEqual(written, [BYTE_LENGTH - 1, 7, 7, BYTE_LENGTH, 7, 7]);
    assert.equal(whole.length, BYTE_LENGTH);
  });
});
