/**
 * Paces bulk transfers. A connection whose peer is fast always has more to read or to write, and many of them together
 * would keep the process from looking for other events: a visitor needs several, and would wait for each.
 *
 * @module
 */

/** Bytes moved in bulk before the process looks for other events. */
export const PACE_BYTES = 4 * 1024 * 1024;
/** The same while sessions crowd: each may belong to somebody else, and so may those who wait. */
export const CROWDED_PACE_BYTES = 512 * 1024;
/** So many sessions that move bytes in bulk at the same time are a crowd. */
export const CROWD = 4;
/** Smaller reads and writes neither count nor wait. */
export const BULK_MIN_BYTES = 4 * 1024;

/** Most rests in a row while sessions crowd: one in which bytes were moved is none. */
export const RESTS_MAX = 64;

/** Calls `done` once a process that isn't busy has looked for other events; `long` makes sure of it. */
type Rest = (done: () => void, long: boolean) => void;

interface Turn {
  readonly byteLength: number;
  readonly session: object | undefined;
  readonly goOn: () => void;
}

/** Counts the bytes that the connections of one process move. */
export class BulkPace {
  readonly #rest: Rest;
  readonly #paceBytes: number;
  readonly #crowdedBytes: number;
  #leftBytes: number;
  /** Reads and writes in bulk so far. */
  #moves = 0;
  #crowded = false;
  /** Sessions that have moved bytes in bulk since the last rest, or wait. */
  readonly #sessions = new Set<object>();
  /** Those that wait, each with its last number of bytes, which its next will resemble. */
  readonly #waiting: Turn[] = [];

  /** The paces differ where resting costs next to nothing. */
  constructor(rest: Rest, paceBytes = PACE_BYTES, crowdedBytes = CROWDED_PACE_BYTES) {
    this.#rest = rest;
    this.#paceBytes = paceBytes;
    this.#crowdedBytes = crowdedBytes;
    this.#leftBytes = paceBytes;
  }

  /**
   * Counts bytes that a connection has read or written; `session` is the connection if it carries a session, not one
   * visitor. Returns whether it may go on at once; if not, it has to {@link wait}.
   */
  mayGoOn(byteLength: number, session?: object): boolean {
    if (byteLength < BULK_MIN_BYTES) return true;
    this.#moves++;
    this.#leftBytes -= byteLength;
    if (session !== undefined) this.#sessions.add(session);
    return this.#leftBytes > 0 && this.#waiting.length === 0;
  }

  /** Calls `goOn` when the connection may go on. */
  wait(byteLength: number, session: object | undefined, goOn: () => void): void {
    if (this.#waiting.push({ byteLength, session, goOn }) === 1) this.#restSoon();
  }

  /**
   * While many sessions compete, those that still have their turn take longer than a rest, whose end would come before the
   * runtime has looked for events. So short rests are taken until one passes in which nobody moved bytes, then a long one.
   */
  #restSoon(restsLeft = RESTS_MAX, long = false): void {
    const moves = this.#moves;
    this.#rest(() => {
      const quiet = this.#moves === moves;
      if (!this.#crowded || (quiet && long) || restsLeft <= 1) this.#rested();
      else this.#restSoon(restsLeft - 1, quiet);
    }, long);
  }

  #rested(): void {
    this.#crowded = this.#sessions.size >= CROWD;
    this.#leftBytes = this.#crowded ? this.#crowdedBytes : this.#paceBytes;
    let count = 0;
    for (let room = this.#leftBytes; room > 0 && count < this.#waiting.length; count++) {
      room -= this.#waiting[count]!.byteLength;
    }
    const next = this.#waiting.splice(0, count);
    this.#sessions.clear();
    for (const { session } of this.#waiting) if (session !== undefined) this.#sessions.add(session);
    if (this.#waiting.length > 0) this.#restSoon();
    for (const { goOn } of next) goOn();
  }
}
