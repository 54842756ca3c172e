/**
 * One budget for the bytes buffered in a process: in streams, in sockets, in buffers of the runtime. Each session gets
 * a share of the remaining budget, so that its peers are throttled in time; if that isn't enough, the fullest stream is
 * reset.
 *
 * @module
 */
import { Roster } from "./roster.ts";

/**
 * The share of the remaining budget that a session may hold: a single session has room, and many stalled ones share the
 * rest.
 */
const SHARE = 1 / 4;
/** Bytes a session may always buffer, however little of the memory budget is left. */
export const SESSION_SHARE_MIN_BYTES = 256 * 1024;
/** Streams are reset until usage is below this part of the budget, so that it isn't done for every chunk. */
const RELIEVED = 7 / 8;

/** Something that holds bytes and can be reset, such as a visitor's stream with both its sides. */
export interface MemoryHolder {
  /** Its place among the budget's holders, {@link NO_PLACE} at first. */
  holderPlace: number;
  /** Bytes of memory held. */
  readonly heldBytes: number;
  /** Resets it at once: the budget is used up, and this holder has the largest backlog. */
  evict(): void;
}

/** The bytes buffered in a process, and their holders. Everything that buffers bytes counts them here. */
export class MemoryBudget {
  /** Maximum number of buffered bytes. */
  limitBytes = Infinity;
  /** Bytes buffered now. */
  heldBytes = 0;
  /** Holders that were evicted. */
  evictions = 0;
  readonly #soon: (run: () => void) => void;
  readonly #holders = new Roster<"holderPlace", MemoryHolder>("holderPlace");
  #relieving = false;

  /** @param soon defers a callback until the current work is done, since resetting a stream calls into sessions. */
  constructor(soon: (run: () => void) => void = queueMicrotask) {
    this.#soon = soon;
  }

  /** Counts `byteLength` more buffered bytes. */
  hold(byteLength: number): void {
    this.heldBytes += byteLength;
    if (this.heldBytes > this.limitBytes) this.#relieveSoon();
  }

  /** Releases `byteLength` buffered bytes. */
  letGo(byteLength: number): void {
    this.heldBytes -= byteLength;
  }

  /** Adds `holder` to those that may be evicted. */
  enter(holder: MemoryHolder): void {
    this.#holders.add(holder);
  }

  /** Removes a holder that has ended. */
  leave(holder: MemoryHolder): void {
    this.#holders.delete(holder);
  }

  /** The bytes one session may hold now, at most `mostBytes`. */
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

  /** Evicts the holders with the largest backlog until there is room. */
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
