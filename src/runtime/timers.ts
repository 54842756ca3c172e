/**
 * Timers in bulk. Each session and visitor has a few, nearly all of which are cancelled before they fire, and a native
 * timer would be their main cost. So timers of about the same delay share a list ordered by due time, and all lists
 * share one native timer.
 *
 * @module
 */
import type { Timer } from "./port.ts";

/** Longer delays are rounded up to a multiple of this, so that there are few lists. */
const STEP_MS = 64;
/** Shorter delays get their own native timer, for accuracy. */
const SHARED_MIN_MS = 1_000;
/** setTimeout fires at once for longer delays. */
const LONGEST_MS = 2 ** 31 - 1;

class SharedTimer implements Timer {
  readonly list: TimerList;
  readonly dueMs: number;
  run: (() => void) | undefined;
  next: SharedTimer | undefined;
  previous: SharedTimer | undefined;

  constructor(list: TimerList, dueMs: number, run: () => void) {
    this.list = list;
    this.dueMs = dueMs;
    this.run = run;
  }

  cancel(): void {
    if (this.run === undefined) return;
    this.run = undefined;
    this.list.remove(this);
  }
}

/** Timers of one delay: later additions are due later. */
class TimerList {
  readonly delayMs: number;
  readonly #removed: () => void;
  first: SharedTimer | undefined;
  #last: SharedTimer | undefined;

  /** `removed` is called when a timer has left the list. */
  constructor(delayMs: number, removed: () => void) {
    this.delayMs = delayMs;
    this.#removed = removed;
  }

  add(run: () => void): SharedTimer {
    const timer = new SharedTimer(this, performance.now() + this.delayMs, run);
    timer.previous = this.#last;
    if (this.#last === undefined) this.first = timer;
    else this.#last.next = timer;
    this.#last = timer;
    return timer;
  }

  remove(timer: SharedTimer): void {
    if (timer.previous === undefined) this.first = timer.next;
    else timer.previous.next = timer.next;
    if (timer.next === undefined) this.#last = timer.previous;
    else timer.next.previous = timer.previous;
    timer.next = timer.previous = undefined;
    this.#removed();
  }
}

/** Creates timers. */
export class Timers {
  readonly #lists = new Map<number, TimerList>();
  /** Timers in all lists. */
  #count = 0;
  #native: ReturnType<typeof setTimeout> | undefined;
  #nativeDueMs = Infinity;
  /** Whether callbacks are running; the native timer is set for the next one when they are done. */
  #firing = false;
  /**
   * A timer has left its list. The native one isn't changed, even if it was set for this one: that costs one check when
   * it fires, whereas resetting it would cost a system call per visitor.
   */
  readonly #removed = (): void => {
    // An armed native timer would keep the process alive needlessly.
    if (--this.#count === 0) this.#stop();
  };

  /** Calls `run` once, `delayMs` from now; delays from a second on may take up to 64 ms longer. */
  after(delayMs: number, run: () => void): Timer {
    if (delayMs < SHARED_MIN_MS) return new NativeTimer(delayMs, run);
    const rounded = Math.ceil(delayMs / STEP_MS) * STEP_MS;
    let list = this.#lists.get(rounded);
    if (list === undefined) this.#lists.set(rounded, list = new TimerList(rounded, this.#removed));
    const timer = list.add(run);
    this.#count++;
    if (timer.dueMs < this.#nativeDueMs && !this.#firing) this.#arm(timer.dueMs);
    return timer;
  }

  #arm(dueMs: number): void {
    clearTimeout(this.#native);
    this.#nativeDueMs = dueMs;
    const waitMs = Math.max(1, dueMs - performance.now());
    this.#native = setTimeout(() => this.#fire(), Math.min(waitMs, LONGEST_MS));
  }

  #stop(): void {
    clearTimeout(this.#native);
    this.#native = undefined;
    this.#nativeDueMs = Infinity;
    this.#lists.clear();
  }

  #fire(): void {
    this.#firing = true;
    const now = performance.now();
    let nextMs = Infinity;
    for (const [delayMs, list] of this.#lists) {
      for (let first = list.first; first !== undefined && first.dueMs <= now; first = list.first) {
        const run = first.run!;
        first.cancel();
        try {
          run();
        } catch (error) {
          // As with a native timer: the exception is uncaught, and the other timers still run.
          queueMicrotask(() => {
            throw error;
          });
        }
      }
      // A callback may have replaced the list.
      if (list.first === undefined && this.#lists.get(delayMs) === list) this.#lists.delete(delayMs);
    }
    // Callbacks may have set timers in lists already checked.
    for (const { first } of this.#lists.values()) nextMs = Math.min(nextMs, first?.dueMs ?? Infinity);
    this.#firing = false;
    if (nextMs === Infinity) this.#stop();
    else this.#arm(nextMs);
  }
}

class NativeTimer implements Timer {
  readonly #handle: ReturnType<typeof setTimeout>;

  constructor(delayMs: number, run: () => void) {
    this.#handle = setTimeout(run, delayMs);
  }

  cancel(): void {
    clearTimeout(this.#handle);
  }
}
