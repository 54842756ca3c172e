/**
 * A stream of ours as Node's, for libraries that want one: bytes both ways, back-pressure both ways.
 *
 * @module
 */
import { Duplex } from "node:stream";
import type { ByteStream } from "./port.ts";

/** The stream as a {@link Duplex}, to which it belongs from here on; each side's end is its own. */
export function toNodeDuplex(stream: ByteStream): Duplex {
  let drained: (() => void) | undefined;
  const goOn = () => {
    const done = drained;
    drained = undefined;
    done?.();
  };
  const duplex = new Duplex({
    allowHalfOpen: true,
    read: () => stream.resume(),
    write(chunk: Uint8Array<ArrayBuffer>, _encoding, done) {
      if (stream.write(chunk)) done();
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
    data: (chunk) => duplex.push(chunk.slice()) || stream.pause(),
    end: () => duplex.push(null),
    drain: goOn,
    close: (error) => {
      goOn();
      duplex.destroy(error);
    },
  });
  return duplex;
}
