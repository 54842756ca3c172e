/**
 * One timer for all of a session's deadlines: it fires at the earliest requested time.
 *
 * @module
 */
import type { MuxClock } from "../protocol/mux/host.ts";
import type { Clock, Timer } from "../runtime/port.ts";

/** The clock of a session; one native timer serves all its deadlines. */
export class Alarm implements MuxClock {
  readonly #clock: Clock;
  readonly #ring: () => void;
  #timer: Timer | undefined;
  #armedMs = Infinity;
  #stopped = false;

  /** @param ring called when the timer fires; later deadlines must be requested again */
  constructor(clock: Clock, ring: () => void) {
    this.#clock = clock;
    this.#ring = ring;
  }

  nowMs(): number {
    return this.#clock.nowMs();
  }

  arm(atMs: number): void {
    if (atMs >= this.#armedMs || this.#stopped) return;
    this.#timer?.cancel();
    this.#armedMs = atMs;
    this.#timer = this.#clock.after(Math.max(0, atMs - this.#clock.nowMs()), () => {
      this.#armedMs = Infinity;
      this.#ring();
    });
  }

  /** Stops the timer. */
  stop(): void {
    this.#stopped = true;
    this.#timer?.cancel();
  }
}
