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

/** What a file counts for beside its bytes: empty ones fill a disk too. */
const FILE_BYTES = 4096;
/** Files that are looked at together. */
const LOOKS = 64;

/** A transfer's share of the folder. */
interface Share {
  bytes: number;
  /** Nothing more comes: its file counts as any other from the next look on. */
  over: boolean;
}

/** Counts what lies in a folder, and what is on its way there. Folders inside it aren't looked into. */
export class FolderSpace {
  readonly #folder: string;
  readonly #maxBytes: number;
  /** By the text that the names of a transfer's files have in them. */
  readonly #shares = new Map<string, Share>();
  /** All files but those of #shares, when last looked at. */
  #foundBytes = 0;
  #looked: Promise<void> = Promise.resolve();

  constructor(folder: string, maxBytes: number) {
    this.#folder = folder;
    this.#maxBytes = maxBytes;
  }

  /**
   * A sink whose bytes are counted from here on, for a transfer whose files have `mark` in their names. What is too much
   * isn't written, and `host` hears of it. Rejects with `limit_exceeded` where the folder is full already.
   */
  async sink(mark: string, host: SinkHost, open: () => Promise<PipeSink>): Promise<PipeSink> {
    const share: Share = { bytes: FILE_BYTES, over: false };
    this.#shares.set(mark, share);
    try {
      // Measured for each transfer: files that have been taken out of the folder make room.
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

  /** One look behind the other, so that none undoes what a later one found. */
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
        // A file that is gone meanwhile takes no room.
        lstat(join(this.#folder, name)).then((found) => found.size + FILE_BYTES, () => 0)
      );
      for (const size of await Promise.all(sizes)) bytes += size;
    }
    this.#foundBytes = bytes;
    for (const mark of over) this.#shares.delete(mark);
  }
}

interface Account {
  /** Whether there is room for so many bytes more; they are taken then. */
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
