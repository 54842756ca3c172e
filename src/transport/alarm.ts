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
  /** Made once: a session sets its timer often. */
  readonly #ring: () => void;
  #timer: Timer | undefined;
  #armedMs = Infinity;
  #stopped = false;

  /** @param machine its `tick` is called when the timer fires; later deadlines must be requested again */
  constructor(clock: Clock, machine: { tick(): void }) {
    this.#clock = clock;
    this.#ring = () => {
      this.#armedMs = Infinity;
      machine.tick();
    };
  }

  nowMs(): number {
    return this.#clock.nowMs();
  }

  arm(atMs: number): void {
    if (atMs >= this.#armedMs || this.#stopped) return;
    this.#timer?.cancel();
    this.#armedMs = atMs;
    this.#timer = this.#clock.after(Math.max(0, atMs - this.#clock.nowMs()), this.#ring);
  }

  /** Stops the timer. */
  stop(): void {
    this.#stopped = true;
    this.#timer?.cancel();
  }
}
