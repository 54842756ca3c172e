/**
 * A stream whose first bytes are inspected in passing.
 *
 * @module
 */
import type { Bytes, ByteStream, ByteStreamHandler } from "../../runtime/port.ts";

/**
 * Passes a connection through, and calls `saw` with its first bytes, or with undefined at an end without any. After that
 * it adds no cost.
 */
export function watchFirstBytes(conn: ByteStream, saw: (first: Bytes | undefined) => void): ByteStream {
  return new FirstBytes(conn, saw);
}

class FirstBytes implements ByteStream, ByteStreamHandler {
  readonly #conn: ByteStream;
  readonly #saw: (first: Bytes | undefined) => void;
  #handler: ByteStreamHandler | undefined;
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
    this.#handler = handler;
    this.#conn.attach(this);
  }

  write(chunk: Bytes): boolean {
    return this.#conn.write(chunk);
  }

  closeWrite(): void {
    // A visitor leaving before the target could answer says nothing about the target.
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

  // Called by the connection, until its first bytes have arrived.

  data(chunk: Bytes): void {
    this.#tell(chunk);
    this.#conn.attach(this.#handler!);
    this.#handler!.data(chunk);
  }
  end(): void {
    this.#tell(undefined);
    this.#handler!.end();
  }
  drain(): void {
    this.#handler!.drain();
  }
  close(error?: Error): void {
    this.#handler!.close(error);
  }

  #tell(first: Bytes | undefined): void {
    if (this.#seen) return;
    this.#seen = true;
    this.#saw(first);
  }
}
