/**
 * A stream whose first bytes are inspected in passing.
 *
 * @module
 */
import type { Bytes, ByteStream, ByteStreamHandler } from "../../runtime/port.ts";
import { WrappedStream } from "../../runtime/wrapped_stream.ts";

/** Inspects a connection's first bytes. */
export interface FirstBytesWatcher {
  /** Called once: with the first bytes, or with undefined at an end without any. */
  saw(first: Bytes | undefined): void;
}

/** Passes a connection through, and shows its first bytes to the watcher. After that it adds no cost. */
export function watchFirstBytes(conn: ByteStream, watcher: FirstBytesWatcher): ByteStream {
  return new FirstBytes(conn, watcher);
}

class FirstBytes extends WrappedStream {
  readonly #watcher: FirstBytesWatcher;
  #seen = false;

  constructor(conn: ByteStream, watcher: FirstBytesWatcher) {
    super(conn);
    this.#watcher = watcher;
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
    this.#watcher.saw(first);
  }
}
