/**
 * Virtual time for what has no promises: the memory network's clock, moved without waiting.
 *
 * @module
 */
import type { Clock } from "../../src/runtime/port.ts";
import { VirtualTime } from "../../src/runtime/memory/memory_time.ts";

/** A clock that stands still until {@link VirtualClock.pass}. */
export class VirtualClock implements Clock {
  readonly #time = new VirtualTime();

  nowMs(): number {
    return this.#time.nowMs;
  }
  wallMs(): number {
    return this.#time.clock.wallMs();
  }
  after(delayMs: number, run: () => void) {
    return this.#time.clock.after(delayMs, run);
  }
  soon(run: () => void): void {
    this.#time.soon(run);
  }

  /** Lets time pass, with the timers that are due. */
  pass(ms: number): void {
    const untilMs = this.#time.nowMs + ms;
    this.#time.at(untilMs, () => {});
    while (this.#time.step(untilMs));
  }
}
