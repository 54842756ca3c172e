/**
 * A stream whose first bytes are inspected in passing.
 *
 * @module
 */
import type { Bytes, ByteStream, ByteStreamHandler } from "../../runtime/port.ts";
import { WrappedStream } from "../../runtime/wrapped_stream.ts";

/**
 * Passes a connection through, and calls `saw` with its first bytes, or with undefined at an end without any. After that
 * it adds no cost.
 */
export function watchFirstBytes(conn: ByteStream, saw: (first: Bytes | undefined) => void): ByteStream {
  return new FirstBytes(conn, saw);
}

class FirstBytes extends WrappedStream {
  readonly #saw: (first: Bytes | undefined) => void;
  #seen = false;

  constructor(conn: ByteStream, saw: (first: Bytes | undefined) => void) {
    super(conn);
    this.#saw = saw;
  }

  override attach(handler: ByteStreamHandler): void {
    if (this.#seen) return this.inner.attach(handler);
    super.attach(handler);
  }

  override closeWrite(): void {
    // A visitor leaving before the target could answer says nothing about the target.
    this.#seen = true;
    this.inner.closeWrite();
  }

  override data(chunk: Bytes): void {
    this.#tell(chunk);
    this.inner.attach(this.handler!);
    this.handler!.data(chunk);
  }

  override end(): void {
    this.#tell(undefined);
    this.handler!.end();
  }

  #tell(first: Bytes | undefined): void {
    if (this.#seen) return;
    this.#seen = true;
    this.#saw(first);
  }
}
