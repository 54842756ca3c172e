/**
 * The sessions that a receiver's key has seen. In sodium-tcp nothing expires: a recorded session can be replayed as
 * long as the key is in use. So ids are kept in a file beside the key, for as long as the key.
 *
 * The file is a sequence of 32-byte records: 16 bytes of the session's id, 16 random bytes of the claimant. Several
 * processes may append to it at once; the first record of an id owns it.
 *
 * @module
 */
import { closeSync, fstatSync, fsyncSync, openSync, readSync, writeSync } from "node:fs";
import type { Bytes } from "../bytes/bytes.ts";
import { errorMessage, SallyportError } from "../errors.ts";

/** Sessions remembered per receiver key to prevent replay; beyond it the key must be replaced. 3.2 MB on disk. */
export const PIPE_SESSIONS_PER_KEY_MAX = 100_000;

const RECORD_BYTES = 32;
const HALF_BYTES = 16;

/** A file of claimed sessions. */
export class SessionLog {
  readonly #path: string;
  readonly #random: (into: Bytes) => void;
  readonly #maximum: number;
  /** Owner by id, both as text of 16 bytes. */
  readonly #owners = new Map<string, string>();
  #fd: number;
  #read = 0;

  /**
   * Opens the file, or creates it (readable only by its owner). Throws `config_invalid` if it can't be opened or is
   * damaged. `random` fills the claimant's half of a record.
   */
  constructor(path: string, random: (into: Bytes) => void, maximum: number = PIPE_SESSIONS_PER_KEY_MAX) {
    this.#path = path;
    this.#random = random;
    this.#maximum = maximum;
    try {
      this.#fd = openSync(path, "a+", 0o600);
    } catch (error) {
      throw new SallyportError("config_invalid", `Cannot open ${path}: ${errorMessage(error)}`, {
        side: "config",
        cause: error,
      });
    }
    this.#catchUp();
  }

  /** Number of sessions remembered. */
  get size(): number {
    return this.#owners.size;
  }

  /**
   * Claims the session whose id starts with these 16 bytes; false when it has been claimed before. On return the claim
   * is on disk. Throws `limit_exceeded` when the key has reached its maximum of sessions.
   */
  claim(id: Bytes): boolean {
    const record = new Uint8Array(RECORD_BYTES);
    record.set(id.subarray(0, HALF_BYTES));
    this.#random(record.subarray(HALF_BYTES));
    const key = text(record.subarray(0, HALF_BYTES));
    this.#catchUp();
    if (this.#owners.has(key)) return false;
    if (this.#owners.size >= this.#maximum) {
      throw new SallyportError(
        "limit_exceeded",
        `Cannot remember more than ${this.#maximum} sessions of one key: make a new key`,
        { side: "config" },
      );
    }
    try {
      if (writeSync(this.#fd, record) !== RECORD_BYTES) throw new Error("the disk is full");
      fsyncSync(this.#fd);
    } catch (error) {
      throw new SallyportError("limit_exceeded", `Cannot write ${this.#path}: ${errorMessage(error)}`, {
        side: "local",
        cause: error,
      });
    }
    this.#catchUp();
    return this.#owners.get(key) === text(record.subarray(HALF_BYTES));
  }

  /** Closes the file. */
  close(): void {
    if (this.#fd >= 0) closeSync(this.#fd);
    this.#fd = -1;
  }

  /** Reads new records, appended by this process or another. */
  #catchUp(): void {
    const size = fstatSync(this.#fd).size;
    if (size % RECORD_BYTES !== 0 || size < this.#read) {
      throw new SallyportError(
        "config_invalid",
        `Cannot trust ${this.#path}: ${size} bytes are not whole records. Make a new key`,
        { side: "config" },
      );
    }
    const fresh = new Uint8Array(size - this.#read);
    for (let at = 0; at < fresh.length;) {
      const count = readSync(this.#fd, fresh, at, fresh.length - at, this.#read + at);
      if (count === 0) {
        throw new SallyportError("config_invalid", `Cannot read ${this.#path}`, { side: "local" });
      }
      at += count;
    }
    this.#read = size;
    for (let at = 0; at < fresh.length; at += RECORD_BYTES) {
      const id = text(fresh.subarray(at, at + HALF_BYTES));
      if (!this.#owners.has(id)) {
        this.#owners.set(id, text(fresh.subarray(at + HALF_BYTES, at + RECORD_BYTES)));
      }
    }
  }
}

function text(bytes: Bytes): string {
  return String.fromCharCode(...bytes);
}
