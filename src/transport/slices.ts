/**
 * Handshakes in time slices: a surge of agents takes a millisecond at a time, and visitors get the rest.
 *
 * @module
 */
import type { Clock } from "../runtime/port.ts";

/** Time for the handshakes of one edge, then others have their turn. One that has started is finished. */
export const HANDSHAKE_SLICE_MS = 1;
/**
 * Pause between the slices of a surge. The next turn isn't enough: a Deno event loop that always has a turn to run polls
 * the network only once in 61 turns, for which visitors would wait.
 */
export const HANDSHAKE_REST_MS = 1;

/** The queued work, oldest first. */
export class Slices {
  readonly #clock: Clock;
  #waiting: (() => void)[] = [];
  #next = 0;
  /** Time left of this turn's slice. */
  #leftMs = HANDSHAKE_SLICE_MS;
  #asked = false;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Whether work may be done at once: nothing waits, and this turn's slice isn't used up. */
  get free(): boolean {
    return this.#next === this.#waiting.length && this.#leftMs > 0;
  }

  /** Runs some work now, charged to the slice. */
  work(run: () => void): void {
    const startedMs = this.#clock.nowMs();
    try {
      run();
    } finally {
      this.#leftMs -= this.#clock.nowMs() - startedMs;
      this.#ask();
    }
  }

  /** Runs it in this turn or a later one, after work already queued. `run` doesn't throw. */
  later(run: () => void): void {
    this.#waiting.push(run);
    this.#ask();
  }

  #ask(): void {
    if (this.#asked) return;
    this.#asked = true;
    this.#clock.soon(() => this.#turn());
  }

  #turn(): void {
    this.#leftMs = HANDSHAKE_SLICE_MS;
    while (this.#next < this.#waiting.length && this.#leftMs > 0) this.work(this.#waiting[this.#next++]!);
    if (this.#next < this.#waiting.length) {
      this.#clock.after(HANDSHAKE_REST_MS, () => this.#turn());
      return;
    }
    this.#waiting = [];
    this.#next = 0;
    this.#asked = false;
    if (this.#leftMs < HANDSHAKE_SLICE_MS) this.#ask();
  }
}
