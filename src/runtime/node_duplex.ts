/**
 * A stream of ours as Node's, for libraries that want one: bytes both ways, back-pressure both ways.
 *
 * @module
 */
import { Duplex } from "node:stream";
import type { ByteStream } from "./port.ts";

/** Chunks that are written together are copied into one up to this size. */
export const JOINED_MAX_BYTES = 16 * 1024;

function joined(parts: readonly Uint8Array<ArrayBuffer>[], byteLength: number): Uint8Array<ArrayBuffer> {
  if (parts.length === 1) return parts[0]!;
  const whole = new Uint8Array(byteLength);
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/**
 * The stream as a {@link Duplex}, to which it belongs from here on; each side's end is its own. While `held` says so the
 * stream stands still, however much is asked for; whoever lets it go on calls `stream.resume`.
 */
export function toNodeDuplex(stream: ByteStream, held: () => boolean = () => false): Duplex {
  let drained: (() => void) | undefined;
  const goOn = () => {
    const done = drained;
    drained = undefined;
    done?.();
  };
  const duplex = new Duplex({
    allowHalfOpen: true,
    read() {
      if (!held()) stream.resume();
    },
    write(chunk: Uint8Array<ArrayBuffer>, _encoding, done) {
      if (stream.write(chunk)) done();
      else drained = done;
    },
    // What was written while the stream was corked: a head and a small body in one call of the system.
    writev(chunks, done) {
      const parts = chunks.map(({ chunk }) => chunk as Uint8Array<ArrayBuffer>);
      const byteLength = parts.reduce((sum, part) => sum + part.length, 0);
      let goOn = true;
      if (byteLength <= JOINED_MAX_BYTES) goOn = stream.write(joined(parts, byteLength));
      else for (const part of parts) goOn = stream.write(part);
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
  // Who has gone is told by `close`; whoever wants the reason attaches a listener of their own.
  duplex.on("error", () => {});
  stream.attach({
    // A chunk is valid during the call alone.
    data(chunk) {
      if (!duplex.push(chunk.slice()) || held()) stream.pause();
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
