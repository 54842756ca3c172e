/**
 * Streams waiting for their turn to send.
 *
 * @module
 */

/** A stream with no more than this to send is served before bulk streams, and may exceed a full window. */
export const SMALL_BYTES = 2 * 1024;
/** As many small frames after a large one belong to the same bulk transfer, such as heads and ends of HTTP answers. */
export const SMALL_FRAMES_OF_BULK = 8;

/** The link field used by a {@link Ring}. */
export interface Ringed<Stream> {
  nextReady: Stream | undefined;
}

/** First in, first out, each stream at most once; linked through `nextReady`. */
export class Ring<Stream extends Ringed<Stream>> {
  head: Stream | undefined;
  #tail: Stream | undefined;

  push(stream: Stream): void {
    if (this.#tail === undefined) this.head = stream;
    else this.#tail.nextReady = stream;
    this.#tail = stream;
  }

  shift(): Stream | undefined {
    const stream = this.head;
    if (stream === undefined) return undefined;
    this.head = stream.nextReady;
    if (this.head === undefined) this.#tail = undefined;
    stream.nextReady = undefined;
    return stream;
  }
}
