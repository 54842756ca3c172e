/**
 * One budget for the bytes that wait in a process: in streams, in sockets, in buffers of the runtime. Sessions get shares
 * of what is left of it, so that their peers are held back in time; where that isn't enough, the fullest stream ends.
 *
 * @module
 */

/** A session may hold this part of what is left: one has room, and many who stall share what there is. */
const SHARE = 1 / 4;
/** However little is left, a session may hold this much. */
export const SESSION_SHARE_MIN_BYTES = 256 * 1024;
/** Ending streams goes on until this part of the budget is used, so that it isn't done for every chunk. */
const RELIEVED = 7 / 8;

/** Something that holds bytes and can be ended, such as a visitor's stream with both its sides. */
export interface MemoryHolder {
  /** Bytes of memory that it holds. */
  readonly heldBytes: number;
  /** Ends it at once: the budget is used up, and it holds the most. */
  evict(): void;
}

/** The bytes that wait in a process, and who holds them. Whatever keeps bytes counts them here. */
export class MemoryBudget {
  /** How many bytes may wait. */
  limitBytes = Infinity;
  /** How many wait. */
  heldBytes = 0;
  /** The most that have waited at a time. */
  peakBytes = 0;
  /** Holders that were ended. */
  evictions = 0;
  readonly #soon: (run: () => void) => void;
  readonly #holders = new Set<MemoryHolder>();
  #relieving = false;

  /** @param soon calls back behind what is being handled, since ending a stream calls into sessions. */
  constructor(soon: (run: () => void) => void = queueMicrotask) {
    this.#soon = soon;
  }

  /** So many bytes more wait. */
  hold(byteLength: number): void {
    this.heldBytes += byteLength;
    if (this.heldBytes > this.peakBytes) this.peakBytes = this.heldBytes;
    if (this.heldBytes > this.limitBytes) this.#relieveSoon();
  }

  /** So many bytes don't wait any more. */
  letGo(byteLength: number): void {
    this.heldBytes -= byteLength;
  }

  /** Counts `holder` among those that may have to end. */
  enter(holder: MemoryHolder): void {
    this.#holders.add(holder);
  }

  /** It is over. */
  leave(holder: MemoryHolder): void {
    this.#holders.delete(holder);
  }

  /** What one session may hold now, at most `mostBytes`. */
  share(mostBytes: number): number {
    if (this.limitBytes === Infinity) return mostBytes;
    const share = (this.limitBytes - this.heldBytes) * SHARE;
    return Math.min(mostBytes, Math.max(SESSION_SHARE_MIN_BYTES, share));
  }

  #relieveSoon(): void {
    if (this.#relieving) return;
    this.#relieving = true;
    this.#soon(() => {
      this.#relieving = false;
      this.#relieve();
    });
  }

  /** Ends the fullest, one after another, until there is room. */
  #relieve(): void {
    if (this.heldBytes <= this.limitBytes) return;
    const fullest = [...this.#holders].map((holder) => ({ holder, bytes: holder.heldBytes }))
      .filter(({ bytes }) => bytes > 0)
      .sort((a, b) => b.bytes - a.bytes);
    for (const { holder } of fullest) {
      if (this.heldBytes <= this.limitBytes * RELIEVED) return;
      this.evictions++;
      holder.evict();
    }
  }
}
