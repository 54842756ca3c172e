/**
 * Sinks for a pipe's bytes: a file, which gets its name when complete, or a FIFO, a device or an open descriptor,
 * written to directly.
 *
 * @module
 */
import { close, constants, fstat, fsync, open, write, writeSync } from "node:fs";
import { lstat, readFile, realpath, rename, rm, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import process from "node:process";
import { setImmediate } from "node:timers";
import type { Bytes } from "../bytes/bytes.ts";
import { errorMessage, SallyportError } from "../errors.ts";
import type { Clock } from "../runtime/port.ts";

/** Events of a {@link PipeSink}. Never called from within one of its calls. */
export interface SinkHost {
  /** `bytes` more have been written. */
  stored(bytes: number): void;
  /** Writing failed; nothing more is accepted. */
  failed(error: SallyportError): void;
}

/** A write destination. The caller limits queued bytes: nothing is refused here. */
export interface PipeSink {
  /** Its name, for messages. */
  readonly name: string;
  /** Takes a copy of the bytes. */
  write(chunk: Bytes): void;
  /** Ends writing: resolves when everything is on disk and in its final place. */
  finish(): Promise<void>;
  /** The transfer failed: removes an incomplete file. */
  discard(): Promise<void>;
}

/** Bytes per write. */
const BLOCK_BYTES = 1 << 20;
/** Blocks kept for reuse. */
const SPARE_BLOCKS = 4;
/**
 * On Linux FIFOs are opened non-blocking: on Deno a blocked write stalls the whole program. Writes of up to PIPE_BUF
 * are atomic (pipe(7)); for a larger write Deno doesn't report how much was written before it would have blocked.
 */
const NONBLOCKING: number = constants.O_WRONLY | (constants.O_NONBLOCK ?? 0);
/** Only the receiver's user may read a received file until the user changes its mode. */
const DRAFT_MODE = 0o600;
const PIECE_BYTES = 4096;
/** Pieces written in a row before yielding. */
const PIECES_PER_TURN = 64;
/** Retries on a full FIFO: immediate ones while its reader may be active, then periodic ones. */
const EAGER_RETRIES = 100;
const RETRY_MS = 2;
/** Retry interval for a FIFO without a reader. */
const REOPEN_MS = 100;

/** Options of {@link fileSink}. */
export interface FileSinkOptions {
  readonly path: string;
  /** Whether a file of that name may be replaced. */
  readonly force: boolean;
  readonly clock: Clock;
  /** Random text for the temporary file's name. */
  readonly suffix: string;
}

/**
 * A sink for a path. A file is written under a temporary name in the same folder and renamed when complete; a FIFO or a
 * device is written to directly. Rejects with `config_invalid` if a file already exists without `force`, or the folder
 * is inaccessible.
 */
export async function fileSink(options: FileSinkOptions, host: SinkHost): Promise<PipeSink> {
  const { path, force, clock } = options;
  const found = await stat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return undefined;
    throw unwritable(path, error);
  });
  if (found !== undefined && !found.isFile()) {
    if (found.isDirectory()) throw unwritable(path, new Error("it is a folder"));
    const piecewise = found.isFIFO() && process.platform === "linux";
    const flags = piecewise ? NONBLOCKING : "w";
    return new BlockSink(path, { open: path, flags, piecewise, place: undefined, sync: false, clock }, host);
  }
  if (found !== undefined && !force) throw unwritable(path, new Error("it exists (--force replaces it)"));
  // A symbolic link is kept: its target is replaced.
  const link = await lstat(path).catch(() => undefined);
  const place = found !== undefined && link?.isSymbolicLink() ? await realpath(path) : path;
  const folder = await stat(dirname(place)).catch((error) => {
    throw unwritable(path, error);
  });
  if (!folder.isDirectory()) throw unwritable(path, new Error("its parent isn't a folder"));
  const draft = join(dirname(place), `.${basename(place)}.${options.suffix}.part`);
  return new BlockSink(path, { open: draft, flags: "wx", place, sync: true, clock, force }, host);
}

/** A sink over an open descriptor, such as standard output, which stays open. */
export async function descriptorSink(
  fd: number,
  name: string,
  clock: Clock,
  host: SinkHost,
): Promise<PipeSink> {
  // Other processes share the descriptor and expect it to block, so a pipe is reopened. A file isn't, as that would
  // reset its offset.
  const piped = await new Promise<boolean>((resolve) =>
    fstat(fd, (error, stats) => resolve(!error && stats.isFIFO() && process.platform === "linux"))
  );
  const fresh = !piped ? -1 : await new Promise<number>((resolve) => {
    open(`/dev/fd/${fd}`, NONBLOCKING, (error, opened) => resolve(error ? -1 : opened));
  });
  const piecewise = fresh >= 0 || await isNonblocking(fd);
  const target = { fd: fresh < 0 ? fd : fresh, piecewise, place: undefined, sync: false, clock };
  return new BlockSink(name, target, host);
}

/** Whether an inherited descriptor is non-blocking: Bun gives its children non-blocking sockets. */
async function isNonblocking(fd: number): Promise<boolean> {
  if (process.platform !== "linux") return false;
  const info = await readFile(`/proc/self/fdinfo/${fd}`, "utf8").catch(() => "");
  const flags = /^flags:\s*([0-7]+)$/m.exec(info)?.[1];
  return flags !== undefined && (parseInt(flags, 8) & constants.O_NONBLOCK) !== 0;
}

interface Target {
  /** An open descriptor, or what to open, and how, at the first byte. */
  readonly fd?: number;
  readonly open?: string;
  readonly flags?: string | number;
  /** Whether it is non-blocking, and written to in pieces. */
  readonly piecewise?: boolean;
  /** The file's final path. */
  readonly place: string | undefined;
  readonly sync: boolean;
  readonly clock: Clock;
  readonly force?: boolean;
}

class BlockSink implements PipeSink {
  readonly name: string;
  readonly #target: Target;
  readonly #host: SinkHost;
  #fd = -1;
  #opening = false;
  /** Full blocks and the one being filled, in order; the first is being written. */
  readonly #blocks: Bytes[] = [];
  readonly #spare: Bytes[] = [];
  /** Bytes in the last block, and bytes of the first block that its write covers. */
  #filled = 0;
  #writing = false;
  #from = 0;
  #until = 0;
  #retries = 0;
  #error: SallyportError | undefined;
  #discarded = false;
  #idle: (() => void)[] = [];

  constructor(name: string, target: Target, host: SinkHost) {
    this.name = name;
    this.#target = target;
    this.#host = host;
    if (target.fd !== undefined) this.#fd = target.fd;
  }

  write(chunk: Bytes): void {
    if (this.#error !== undefined || this.#discarded) return;
    for (let at = 0; at < chunk.length;) {
      let block = this.#blocks.at(-1);
      if (block === undefined || this.#filled === block.length) {
        block = this.#spare.pop() ?? new Uint8Array(BLOCK_BYTES);
        this.#blocks.push(block);
        this.#filled = 0;
      }
      const part = chunk.subarray(at, at + block.length - this.#filled);
      block.set(part, this.#filled);
      this.#filled += part.length;
      at += part.length;
    }
    this.#next();
  }

  async finish(): Promise<void> {
    if (this.#fd < 0) this.#open();
    await this.#rest();
    if (this.#error !== undefined) throw this.#error;
    const { place, sync, open: draft, force } = this.#target;
    try {
      if (sync) await call((done) => fsync(this.#fd, done));
      await this.#close();
      if (place === undefined) return;
      if (!force && await lstat(place).then(() => true, () => false)) {
        throw new Error("a file of that name has appeared meanwhile");
      }
      await rename(draft as string, place);
      // The name is durable once the folder is synced; where folders can't be synced, that is up to the system.
      await syncFolder(dirname(place));
    } catch (error) {
      this.#error = broken(this.name, error as Error);
      await this.discard();
      throw this.#error;
    }
  }

  async discard(): Promise<void> {
    if (this.#discarded) return;
    this.#discarded = true;
    const { place, open: draft } = this.#target;
    // A write to a FIFO without a reader may never return: only our own file is awaited.
    if (place === undefined) return;
    await this.#rest();
    await this.#close();
    await rm(draft as string, { force: true });
  }

  #open(): void {
    const { open: path, flags } = this.#target;
    if (this.#opening || this.#fd >= 0 || path === undefined) return;
    this.#opening = true;
    open(path, flags as string | number, DRAFT_MODE, (error, fd) => {
      if (error?.code === "ENXIO" && !this.#discarded) {
        this.#target.clock.after(REOPEN_MS, () => {
          this.#opening = false;
          if (!this.#discarded) this.#open();
        });
        return;
      }
      this.#opening = false;
      if (error) this.#fail(error);
      else this.#fd = fd;
      this.#next();
    });
  }

  /** Resolves when no write or open is in progress. */
  #rest(): Promise<void> {
    if (!this.#writing && !this.#opening) return Promise.resolve();
    return new Promise((resolve) => this.#idle.push(resolve));
  }

  #next(): void {
    if (this.#writing || this.#opening) return;
    const block = this.#blocks[0];
    const until = block === undefined ? 0 : this.#blocks.length > 1 ? block.length : this.#filled;
    if (this.#error !== undefined || this.#discarded || block === undefined || this.#from === until) {
      if (this.#blocks.length === 1 && this.#from === until && this.#error === undefined) {
        this.#from = 0;
        this.#filled = 0;
      }
      for (const resolve of this.#idle.splice(0)) resolve();
      return;
    }
    if (this.#fd < 0) return this.#open();
    this.#writing = true;
    this.#until = until;
    this.#start();
  }

  #start(): void {
    if (this.#target.piecewise) return this.#writePieces();
    write(this.#fd, this.#blocks[0] as Bytes, this.#from, this.#until - this.#from, null, this.#returned);
  }

  readonly #writePieces = (): void => {
    if (this.#discarded) return this.#returned(null, 0);
    const block = this.#blocks[0] as Bytes;
    const until = Math.min(this.#until, this.#from + PIECES_PER_TURN * PIECE_BYTES);
    let at = this.#from;
    try {
      while (at < until) at += writeSync(this.#fd, block, at, Math.min(PIECE_BYTES, until - at));
    } catch (error) {
      const code = (error as { code?: string }).code;
      if (code !== "EAGAIN" && code !== "EWOULDBLOCK") return this.#returned(error as Error, 0);
      if (at === this.#from) {
        if (++this.#retries < EAGER_RETRIES) setImmediate(this.#writePieces);
        else this.#target.clock.after(RETRY_MS, this.#writePieces);
        return;
      }
    }
    this.#retries = 0;
    const count = at - this.#from;
    setImmediate(() => this.#returned(null, count));
  };

  readonly #returned = (error: Error | null, count: number): void => {
    this.#writing = false;
    if (error) {
      this.#fail(error);
      return this.#next();
    }
    this.#from += count;
    const block = this.#blocks[0] as Bytes;
    if (this.#from === block.length && this.#blocks.length > 1) {
      this.#blocks.shift();
      this.#from = 0;
      if (this.#spare.length < SPARE_BLOCKS) this.#spare.push(block);
    }
    if (!this.#discarded) this.#host.stored(count);
    this.#next();
  };

  #fail(error: Error): void {
    if (this.#error !== undefined) return;
    this.#error = broken(this.name, error);
    if (!this.#discarded) this.#host.failed(this.#error);
  }

  async #close(): Promise<void> {
    const fd = this.#fd;
    if (fd < 0 || this.#target.fd !== undefined) return;
    this.#fd = -1;
    await call((done) => close(fd, done));
  }
}

function call(run: (done: (error?: Error | null) => void) => void): Promise<void> {
  return new Promise((resolve, reject) => run((error) => error ? reject(error) : resolve()));
}

async function syncFolder(path: string): Promise<void> {
  const fd = await new Promise<number>((resolve) => open(path, "r", (error, fd) => resolve(error ? -1 : fd)));
  if (fd < 0) return;
  await call((done) => fsync(fd, done)).catch(() => {});
  await call((done) => close(fd, done)).catch(() => {});
}

/** The error for a destination that can't be opened. */
function unwritable(name: string, error: Error): SallyportError {
  return new SallyportError("config_invalid", `Cannot write ${name}: ${errorMessage(error)}`, {
    side: "config",
    cause: error,
  });
}

/** The error for a failure while writing: the disk is full, the reader is gone. */
function broken(name: string, error: Error): SallyportError {
  return new SallyportError("io_failed", `Cannot write ${name}: ${errorMessage(error)}`, {
    side: "local",
    cause: error,
  });
}
