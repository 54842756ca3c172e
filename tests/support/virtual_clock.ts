/**
 * Virtual time (the memory network's) as a clock that a test moves: the one hand-moved clock of the tests.
 *
 * @module
 */
import type { Clock, Timer } from "../../src/runtime/port.ts";
import { VirtualTime } from "../../src/runtime/memory/memory_time.ts";

/** Where the two clocks begin. */
export interface VirtualClockStart {
  /** The monotonic clock; 0 when absent. */
  readonly nowMs?: number;
  /** The wall clock, in Unix time; the memory network's when absent. */
  readonly wallMs?: number;
}

/** A clock that stands still until it is moved. */
export class VirtualClock implements Clock {
  readonly #time = new VirtualTime();
  readonly #startMs: number;
  #startWallMs: number;

  constructor({ nowMs = 0, wallMs }: VirtualClockStart = {}) {
    this.#startMs = nowMs;
    this.#startWallMs = wallMs ?? this.#time.clock.wallMs();
  }

  nowMs(): number {
    return this.#startMs + this.#time.nowMs;
  }
  wallMs(): number {
    return this.#startWallMs + Math.floor(this.#time.nowMs);
  }
  after(delayMs: number, run: () => void): Timer {
    return this.#time.clock.after(delayMs, run);
  }
  soon(run: () => void): void {
    this.#time.soon(run);
  }

  /** Sets the wall clock ahead by so much, or back. */
  setAhead(byMs: number): void {
    this.#startWallMs += byMs;
  }

  /** Lets this much time pass, with what is due in it. */
  run(forMs: number): void {
    this.#pass(this.#time.nowMs + forMs);
  }

  /** The same, letting promises settle after each event. */
  advance(forMs: number): Promise<void> {
    return this.#time.advance(forMs);
  }

  /** Runs events until `done`; false when that takes longer than `maxMs`. */
  runUntil(done: () => boolean, maxMs: number): boolean {
    const untilMs = this.#time.nowMs + maxMs;
    while (!done()) if (!this.#time.step(untilMs)) return false;
    return true;
  }

  /** The same, letting promises settle in between. */
  async settle(done: () => boolean, maxMs: number): Promise<boolean> {
    const untilMs = this.#time.nowMs + maxMs;
    for (;;) {
      await Promise.resolve();
      await Promise.resolve();
      await new Promise((resolve) => setImmediate(resolve));
      if (done()) return true;
      if (this.#time.nowMs >= untilMs) return false;
      const nextMs = Math.min(untilMs, this.#time.nowMs + 10);
      if (!this.runUntil(done, nextMs - this.#time.nowMs)) this.#pass(nextMs);
    }
  }

  /** Runs everything until then, which it is afterwards. */
  #pass(untilMs: number): void {
    this.#time.at(untilMs, () => {});
    while (this.#time.step(untilMs));
  }
}
