/**
 * Sources of a pipe's bytes: a file, a FIFO or an open file descriptor.
 *
 * @module
 */
import { close, fstat, open, read } from "node:fs";
import type { Bytes } from "../bytes/bytes.ts";
import { errorMessage, SallyportError } from "../errors.ts";
import type { Clock } from "../runtime/port.ts";

/** A byte source, one read at a time. */
export interface ByteSource {
  /** Total bytes, if known. */
  readonly sizeBytes: number | undefined;
  /**
   * Reads some bytes into `into`; `done` gets the count (0: the end) or the error, and is never called from within the
   * call.
   */
  read(into: Bytes, done: (error: SallyportError | undefined, count: number) => void): void;
  /** Stops reading. */
  close(): void;
}

/** Retry delay when a non-blocking descriptor has no data yet. */
const RETRY_MS = 10;

/** Opens a file or FIFO; rejects with `config_invalid` if that fails. A FIFO opens when it has a writer. */
export function openSource(path: string, clock: Clock): Promise<ByteSource> {
  return new Promise((resolve, reject) => {
    open(path, "r", (error, fd) => {
      if (error) return reject(unreadable(path, error));
      describe(fd, path, clock, true).then(resolve, reject);
    });
  });
}

/** A source over an open descriptor, such as standard input, which stays open. */
export function sourceOf(fd: number, name: string, clock: Clock): Promise<ByteSource> {
  return describe(fd, name, clock, false);
}

function describe(fd: number, name: string, clock: Clock, own: boolean): Promise<ByteSource> {
  return new Promise((resolve, reject) => {
    fstat(fd, (error, stats) => {
      if (error) return reject(unreadable(name, error));
      if (stats.isDirectory()) return reject(unreadable(name, new Error("it is a folder")));
      // If a file grows or shrinks meanwhile, its actual end counts; the size is only for progress.
      const size = stats.isFile() ? stats.size : undefined;
      resolve(new FdSource(fd, name, size, clock, own));
    });
  });
}

class FdSource implements ByteSource {
  readonly sizeBytes: number | undefined;
  readonly #fd: number;
  readonly #name: string;
  readonly #clock: Clock;
  readonly #own: boolean;
  #into: Bytes = new Uint8Array(0);
  #done: (error: SallyportError | undefined, count: number) => void = () => {};
  #closed = false;
  #reading = false;

  constructor(fd: number, name: string, sizeBytes: number | undefined, clock: Clock, own: boolean) {
    this.#fd = fd;
    this.#name = name;
    this.sizeBytes = sizeBytes;
    this.#clock = clock;
    this.#own = own;
  }

  read(into: Bytes, done: (error: SallyportError | undefined, count: number) => void): void {
    this.#into = into;
    this.#done = done;
    this.#reading = true;
    this.#start();
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    // A read in progress uses the descriptor until it returns; its callback then closes it.
    if (!this.#reading) this.#release();
  }

  #start = (): void => {
    if (this.#closed) return this.#release();
    read(this.#fd, this.#into, 0, this.#into.length, null, this.#returned);
  };

  readonly #returned = (error: Error | null, count: number): void => {
    if (this.#closed) return this.#release();
    const code = (error as { code?: string } | null)?.code;
    if (code === "EAGAIN" || code === "EWOULDBLOCK") {
      this.#clock.after(RETRY_MS, this.#start);
      return;
    }
    this.#reading = false;
    // Windows reports EOF for a pipe that ended.
    if (code === "EOF") this.#done(undefined, 0);
    else if (error) this.#done(broken(this.#name, error), 0);
    else this.#done(undefined, count);
  };

  #release(): void {
    this.#reading = false;
    if (this.#own) close(this.#fd, () => {});
  }
}

function unreadable(name: string, error: Error): SallyportError {
  return new SallyportError("config_invalid", `Cannot read ${name}: ${errorMessage(error)}`, {
    side: "config",
    cause: error,
  });
}

function broken(name: string, error: Error): SallyportError {
  return new SallyportError("io_failed", `Cannot read ${name}: ${errorMessage(error)}`, {
    side: "local",
    cause: error,
  });
}
