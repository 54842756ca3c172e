/**
 * The space that transfers may use in a folder, so that a client with the passphrase cannot fill the disk.
 *
 * @module
 */
import { lstat, readdir } from "node:fs/promises";
import { join } from "node:path";
import type { Bytes } from "../bytes/bytes.ts";
import { SallyportError } from "../errors.ts";
import type { PipeSink, SinkHost } from "./sink.ts";

/** Overhead counted per file besides its bytes: empty files fill a disk too. */
const FILE_BYTES = 4096;
/** Files examined in parallel. */
const LOOKS = 64;

/** A transfer's share of the folder. */
interface Share {
  bytes: number;
  /** Whether the transfer is over: from the next scan on its file counts as any other. */
  over: boolean;
}

/** Counts the files in a folder and the transfers in progress to it. Subfolders aren't scanned. */
export class FolderSpace {
  readonly #folder: string;
  readonly #maxBytes: number;
  /** By the text contained in the names of a transfer's files. */
  readonly #shares = new Map<string, Share>();
  /** Size of all files except those of #shares, at the last scan. */
  #foundBytes = 0;
  #looked: Promise<void> = Promise.resolve();

  constructor(folder: string, maxBytes: number) {
    this.#folder = folder;
    this.#maxBytes = maxBytes;
  }

  /**
   * A sink whose bytes are counted from now on, for a transfer whose files have `mark` in their names. Excess bytes
   * aren't written, and `host` is notified. Rejects with `limit_exceeded` if the folder is already full.
   */
  async sink(mark: string, host: SinkHost, open: () => Promise<PipeSink>): Promise<PipeSink> {
    const share: Share = { bytes: FILE_BYTES, over: false };
    this.#shares.set(mark, share);
    try {
      // Measured for each transfer: files removed from the folder make room.
      await this.#look();
      if (this.#usedBytes > this.#maxBytes) throw full();
      return new CountedSink(await open(), host, {
        take: (bytes) => {
          if (this.#usedBytes + bytes > this.#maxBytes) return false;
          share.bytes += bytes;
          return true;
        },
        finished: () => share.over = true,
        removed: () => this.#shares.delete(mark),
      });
    } catch (error) {
      this.#shares.delete(mark);
      throw error;
    }
  }

  get #usedBytes(): number {
    let bytes = this.#foundBytes;
    for (const share of this.#shares.values()) bytes += share.bytes;
    return bytes;
  }

  /** Scans run one after another, so that none overwrites the result of a later one. */
  #look(): Promise<void> {
    return this.#looked = this.#looked.catch(() => {}).then(() => this.#find());
  }

  async #find(): Promise<void> {
    const over = [...this.#shares].filter(([, share]) => share.over).map(([mark]) => mark);
    const counted = (name: string): boolean =>
      ![...this.#shares.keys()].some((mark) => !over.includes(mark) && name.includes(mark));
    const names = await readdir(this.#folder);
    let bytes = 0;
    for (let at = 0; at < names.length; at += LOOKS) {
      const sizes = names.slice(at, at + LOOKS).filter(counted).map((name) =>
        // A file removed meanwhile takes no space.
        lstat(join(this.#folder, name)).then((found) => found.size + FILE_BYTES, () => 0)
      );
      for (const size of await Promise.all(sizes)) bytes += size;
    }
    this.#foundBytes = bytes;
    for (const mark of over) this.#shares.delete(mark);
  }
}

interface Account {
  /** Whether there is room for this many more bytes; if so, reserves them. */
  take(bytes: number): boolean;
  finished(): void;
  removed(): void;
}

class CountedSink implements PipeSink {
  readonly name: string;
  readonly #sink: PipeSink;
  readonly #host: SinkHost;
  readonly #account: Account;
  #full = false;

  constructor(sink: PipeSink, host: SinkHost, account: Account) {
    this.name = sink.name;
    this.#sink = sink;
    this.#host = host;
    this.#account = account;
  }

  write(chunk: Bytes): void {
    if (this.#full) return;
    if (this.#account.take(chunk.length)) return this.#sink.write(chunk);
    this.#full = true;
    queueMicrotask(() => this.#host.failed(full()));
  }

  async finish(): Promise<void> {
    if (this.#full) throw full();
    try {
      await this.#sink.finish();
    } finally {
      this.#account.finished();
    }
  }

  async discard(): Promise<void> {
    this.#account.finished();
    await this.#sink.discard();
    this.#account.removed();
  }
}

function full(): SallyportError {
  return new SallyportError("limit_exceeded", "Cannot receive transfer: there is no room for more", {
    side: "local",
  });
}
