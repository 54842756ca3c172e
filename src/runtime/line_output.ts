/**
 * Writes lines to standard output and error without ever blocking the program: they wait in a bounded buffer while the
 * reader stalls (`| less`, a stalled collector), and are dropped and counted if it is full or the output can't be
 * written (a full disk, a closed pipe).
 *
 * @module
 */
import { write } from "node:fs";
import { denoWrite } from "./deno/deno_output.ts";

/** Bytes of a long-running program's lines waiting to be written. Beyond it new lines are dropped and counted. */
export const OUTPUT_WAITING_MAX_BYTES = 1024 * 1024;
/** Bytes handed to the system in one call, at least one line. */
const BATCH_BYTES = 64 * 1024;
/** Retry delay after a pipe wasn't ready. */
const RETRY_MS = 50;

/** Writes some of the bytes, at least one, and returns how many. */
export type OutputWrite = (bytes: Uint8Array<ArrayBuffer>) => Promise<number>;

/** Writes lines without blocking. */
export class LineOutput {
  /** Bytes of lines that may wait. */
  waitingMaxBytes = OUTPUT_WAITING_MAX_BYTES;
  readonly #write: OutputWrite;
  /** Called after a loss, once lines are written again, with the number lost. */
  readonly #recovered: (lost: number) => void;
  #waiting: string[] = [];
  #waitingBytes = 0;
  #writing = false;
  /** Lines lost in total, and how many of them have been reported. */
  #lost = 0;
  #told = 0;
  #idle: (() => void)[] = [];

  constructor(write: OutputWrite, recovered: (lost: number) => void = () => {}) {
    this.#write = write;
    this.#recovered = recovered;
  }

  /** Lines that were lost. */
  get lost(): number {
    return this.#lost;
  }

  /** Writes a line, which ends in a newline; returns at once. */
  write(line: string): void {
    // In UTF-16 units, accurate enough for a limit.
    if (this.#waitingBytes + line.length > this.waitingMaxBytes) {
      this.#lost++;
      return;
    }
    this.#waiting.push(line);
    this.#waitingBytes += line.length;
    if (this.#writing) return;
    this.#writing = true;
    // After this turn, so that lines of one turn are written together.
    queueMicrotask(() => void this.#writeAll());
  }

  /** Resolves when everything has been written, or after `graceMs`, so that exiting loses nothing. */
  async flushed(graceMs: number): Promise<void> {
    if (!this.#writing) return;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<void>((resolve) => {
      if (graceMs !== Infinity) timer = setTimeout(resolve, graceMs);
    });
    await Promise.race([new Promise<void>((resolve) => this.#idle.push(resolve)), late]);
    clearTimeout(timer);
  }

  /** Never rejects. */
  async #writeAll(): Promise<void> {
    while (this.#waiting.length > 0) {
      let count = 0;
      let length = 0;
      while (count < this.#waiting.length && (count === 0 || length < BATCH_BYTES)) {
        length += this.#waiting[count++]!.length;
      }
      const batch = this.#waiting.splice(0, count);
      const written = await this.#writeBatch(batch.join(""));
      this.#waitingBytes -= length;
      if (written) this.#tell();
      else this.#lost += batch.length;
    }
    this.#writing = false;
    for (const done of this.#idle.splice(0)) done();
  }

  async #writeBatch(text: string): Promise<boolean> {
    let left = new TextEncoder().encode(text);
    while (left.length > 0) {
      try {
        left = left.subarray(await this.#write(left));
      } catch (error) {
        // Another process has made the pipe non-blocking.
        if ((error as { code?: unknown }).code !== "EAGAIN") return false;
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      }
    }
    return true;
  }

  #tell(): void {
    const lost = this.#lost - this.#told;
    if (lost === 0) return;
    this.#told = this.#lost;
    this.#recovered(lost);
  }
}

/** Writes to standard output (1) or error (2) without blocking the program. */
export function processWrite(fd: 1 | 2): OutputWrite {
  if ("Deno" in globalThis) return denoWrite(fd);
  return (bytes) =>
    new Promise((resolve, reject) => {
      write(fd, bytes, 0, bytes.length, null, (error, count) =>
        error === null ? resolve(count) : reject(error));
    });
}
