/**
 * A stream of ours as Node's, for libraries that want one: bytes both ways, back-pressure both ways.
 *
 * @module
 */
import { Duplex } from "node:stream";
import type { ByteStream } from "./port.ts";

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
