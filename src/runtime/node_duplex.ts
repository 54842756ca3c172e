/**
 * Adapts a {@link ByteStream} to a Node stream, for libraries that need one, with back-pressure in both directions.
 *
 * @module
 */
import { Duplex } from "node:stream";
import { concat } from "../bytes/bytes.ts";
import type { ByteStream } from "./port.ts";
import type { TlsIntake } from "./tls_intake.ts";

/** Chunks written together are merged into one up to this size. */
export const JOINED_MAX_BYTES = 16 * 1024;

/** Smaller buffers are left to the collector. */
const FREED_MIN_BYTES = 16 * 1024;

/**
 * Wraps the stream in a {@link Duplex}, which takes ownership; its two directions end separately. For a TLS stack,
 * `intake` bounds what it takes in, and the large buffers that it writes are freed at once.
 */
export function toNodeDuplex(stream: ByteStream, intake?: TlsIntake): Duplex {
  let drained: (() => void) | undefined;
  const goOn = () => {
    const done = drained;
    drained = undefined;
    done?.();
  };
  const pass = (chunk: Uint8Array<ArrayBuffer>): boolean => {
    const goesOn = stream.write(chunk);
    if (intake !== undefined) free(chunk);
    return goesOn;
  };
  const duplex = new Duplex({
    allowHalfOpen: true,
    read() {
      if (intake === undefined || !intake.isFull) stream.resume();
    },
    write(chunk: Uint8Array<ArrayBuffer>, _encoding, done) {
      if (pass(chunk)) done();
      else drained = done;
    },
    // Chunks written while the stream was corked: a head and a small body in one system call.
    writev(chunks, done) {
      const parts = chunks.map(({ chunk }) => chunk as Uint8Array<ArrayBuffer>);
      const byteLength = parts.reduce((sum, part) => sum + part.length, 0);
      let goOn = true;
      if (byteLength <= JOINED_MAX_BYTES) goOn = stream.write(concat(parts));
      else for (const part of parts) goOn = pass(part);
      if (goOn) done();
      else drained = done;
    },
    final(done) {
      stream.closeWrite();
      done();
    },
    destroy(error, done) {
      if (error === null) stream.release();
      else stream.abort(error);
      done(null);
    },
  });
  // `close` reports the end; attach another listener to get the reason.
  duplex.on("error", () => {});
  stream.attach({
    // A chunk is valid only during the call.
    data(chunk) {
      intake?.took(chunk.length);
      if (!duplex.push(chunk.slice()) || intake?.isFull) stream.pause();
    },
    end: () => duplex.push(null),
    drain: goOn,
    close: (error) => {
      goOn();
      duplex.destroy(error);
    },
  });
  return duplex;
}

/**
 * Frees a buffer that a TLS stack has made for one write. The collector notices such buffers only by the memory that they
 * take, and then collects everything: with many large answers that was a fifth of the agent's time on Deno.
 */
function free({ byteLength, buffer }: Uint8Array<ArrayBuffer>): void {
  if (byteLength >= FREED_MIN_BYTES && byteLength === buffer.byteLength) buffer.transfer(0);
}
