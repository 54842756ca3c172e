/**
 * A stream whose first bytes somebody looks at on their way.
 *
 * @module
 */
import type { Bytes, ByteStream, ByteStreamHandler } from "../../runtime/port.ts";

/** Tells of the first bytes, or of an end without one; after that it costs nothing. */
export class FirstBytes implements ByteStream {
  readonly #conn: ByteStream;
  readonly #saw: (first: Bytes | undefined) => void;
  #seen = false;

  constructor(conn: ByteStream, saw: (first: Bytes | undefined) => void) {
    this.#conn = conn;
    this.#saw = saw;
  }

  get bufferedBytes(): number {
    return this.#conn.bufferedBytes;
  }

  attach(handler: ByteStreamHandler): void {
    if (this.#seen) return this.#conn.attach(handler);
    this.#conn.attach({
      data: (chunk) => {
        this.#tell(chunk);
        this.#conn.attach(handler);
        handler.data(chunk);
      },
      end: () => {
        this.#tell(undefined);
        handler.end();
      },
      drain: () => handler.drain(),
      close: (error) => handler.close(error),
    });
  }

  write(chunk: Bytes): boolean {
    return this.#conn.write(chunk);
  }

  closeWrite(): void {
    // A visitor that left before the target could answer says nothing about the target.
    this.#seen = true;
    this.#conn.closeWrite();
  }

  abort(error?: Error): void {
    this.#conn.abort(error);
  }

  release(): void {
    this.#conn.release();
  }

  pause(): void {
    this.#conn.pause();
  }

  resume(): void {
    this.#conn.resume();
  }

  #tell(first: Bytes | undefined): void {
    if (this.#seen) return;
    this.#seen = true;
    this.#saw(first);
  }
}
