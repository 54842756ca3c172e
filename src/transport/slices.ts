/**
 * Handshakes in slices: a storm of agents takes a millisecond of each turn of the event loop, and visitors have the rest.
 *
 * @module
 */
import type { Clock } from "../runtime/port.ts";

/** What the handshakes of one edge may take of a turn. One that has begun is finished. */
export const HANDSHAKE_SLICE_MS = 1;

/** The work that waits, the oldest first. */
export class Slices {
  readonly #clock: Clock;
  #waiting: (() => void)[] = [];
  #next = 0;
  /** What is left of this turn's slice. */
  #leftMs = HANDSHAKE_SLICE_MS;
  #asked = false;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Whether work may be done at once: nothing waits, and this turn's slice isn't used up. */
  get free(): boolean {
    return this.#next === this.#waiting.length && this.#leftMs > 0;
  }

  /** Does some work now, which counts. */
  work(run: () => void): void {
    const startedMs = this.#clock.nowMs();
    try {
      run();
    } finally {
      this.#leftMs -= this.#clock.nowMs() - startedMs;
      this.#ask();
    }
  }

  /** Does it in this turn or a later one, behind what waits already. `run` doesn't throw. */
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
    this.#asked = false;
    this.#leftMs = HANDSHAKE_SLICE_MS;
    while (this.#next < this.#waiting.length && this.#leftMs > 0) this.work(this.#waiting[this.#next++]!);
    if (this.#next < this.#waiting.length) return this.#ask();
    this.#waiting = [];
    this.#next = 0;
  }
}
