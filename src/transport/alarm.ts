/**
 * One timer for everything that a session waits for: the earliest time that was asked for counts.
 *
 * @module
 */
import type { MuxClock } from "../protocol/mux/host.ts";
import type { Clock, Timer } from "../runtime/port.ts";

/** See the module. */
export class Alarm implements MuxClock {
  readonly #clock: Clock;
  readonly #ring: () => void;
  #timer: Timer | undefined;
  #armedMs = Infinity;
  #stopped = false;

  /** @param ring called when the time has come; what is still to come is asked for again */
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

  /** It doesn't ring any more. */
  stop(): void {
    this.#stopped = true;
    this.#timer?.cancel();
  }
}
