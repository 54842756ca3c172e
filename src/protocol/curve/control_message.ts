/**
 * The other side's part of stream 0: the client's credential, the server's welcome. The stream's credit bounds it.
 *
 * @module
 */
import type { Bytes } from "../../bytes/bytes.ts";
import type { ByteStreamHandler } from "../../runtime/port.ts";

/** Collects the bytes. */
export class ControlMessage implements ByteStreamHandler {
  #bytes: Bytes = new Uint8Array(0);
  /** All of it has come. */
  ready = false;

  data(chunk: Bytes): void {
    const all = new Uint8Array(this.#bytes.length + chunk.length);
    all.set(this.#bytes);
    all.set(chunk, this.#bytes.length);
    this.#bytes = all;
  }
  end(): void {
    this.ready = true;
  }
  drain(): void {}
  close(): void {}

  /** The bytes, once: they aren't kept. */
  take(): Bytes {
    const bytes = this.#bytes;
    this.#bytes = new Uint8Array(0);
    return bytes;
  }
}
