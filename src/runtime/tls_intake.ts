/**
 * Back-pressure below a TLS stack. Deno's stack takes in bytes even while its output isn't read, and keeps them encrypted,
 * where no counter shows them.
 *
 * @module
 */
import { clearImmediate, setImmediate } from "node:timers";
import type { ByteStream } from "./port.ts";

/** Bytes that a TLS stack may take in while its reader is paused. */
export const TLS_INTAKE_MAX_BYTES = 256 * 1024;

/** What a TLS stack takes in from the stream below it. */
export class TlsIntake {
  readonly #stream: ByteStream;
  #started = false;
  /** Whether the reader has been reading for a turn: TLS has passed on all it had. */
  #isRead = false;
  /** Bytes taken in since that was last so. */
  #waitingBytes = 0;
  #turn: ReturnType<typeof setImmediate> | undefined;

  /** `stream` carries the encrypted bytes. */
  constructor(stream: ByteStream) {
    this.#stream = stream;
  }

  /** Whether the stream has to stay paused. */
  get isFull(): boolean {
    return !this.#started || this.#waitingBytes > TLS_INTAKE_MAX_BYTES;
  }

  /** Lets the TLS stack begin. */
  start(): void {
    this.#started = true;
    this.#stream.resume();
  }

  /** The TLS stack has taken in so many bytes. */
  took(byteLength: number): void {
    if (!this.#isRead) this.#waitingBytes += byteLength;
  }

  /** The reader of the decrypted bytes goes on. */
  resume(): void {
    // A reader that soon pauses again takes less than the TLS stack would take in meanwhile.
    this.#turn ??= setImmediate(() => {
      this.#turn = undefined;
      this.#isRead = true;
      this.#waitingBytes = 0;
      this.#stream.resume();
    });
  }

  /** The reader of the decrypted bytes pauses. */
  pause(): void {
    clearImmediate(this.#turn);
    this.#turn = undefined;
    this.#isRead = false;
  }
}
