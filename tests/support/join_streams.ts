/**
 * Joins two streams inside this process; idle timeouts are left to either end.
 *
 * @module
 */
import type { Bytes } from "../../src/bytes/bytes.ts";
import type { ByteStream, ByteStreamHandler } from "../../src/runtime/port.ts";

/** Forwards both directions, until both have ended. */
export function joinStreams(
  one: ByteStream,
  other: ByteStream,
  closed: (error: Error | undefined) => void,
): void {
  const way = (from: ByteStream, to: ByteStream): ByteStreamHandler => ({
    data(chunk: Bytes) {
      if (!to.write(chunk)) from.pause();
    },
    end: () => to.closeWrite(),
    drain: () => to.resume(),
    close(error) {
      if (error === undefined) to.release();
      else to.abort(error);
      closed(error);
    },
  });
  other.attach(way(other, one));
  one.attach(way(one, other));
  one.resume();
}
