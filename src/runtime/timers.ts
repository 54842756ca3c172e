/**
 * Timers in bulk. A session and a visitor have a few each, nearly all of which are cancelled before they fire, and
 * a native timer costs more than the rest of them. So timers of about the same delay share a list in the order in which
 * they fall due, and one native timer a list.
 *
 * @module
 */
import type { Timer } from "./port.ts";

/** Longer delays are rounded up to a multiple of this, so that there are few lists. */
const STEP_MS = 64;
/** Shorter delays get a native timer of their own: they mean what they say. */
const SHARED_MIN_MS = 1_000;
/** setTimeout fires at once beyond this. */
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

/** Timers of one delay: one that is added later falls due later. */
class TimerList {
  readonly #delayMs: number;
  readonly #empty: (list: TimerList) => void;
  #first: SharedTimer | undefined;
  #last: SharedTimer | undefined;
  #native: ReturnType<typeof setTimeout> | undefined;
  /** Callbacks run; the native timer is set for the first one left when they are through. */
  #firing = false;

  constructor(delayMs: number, empty: (list: TimerList) => void) {
    this.#delayMs = delayMs;
    this.#empty = empty;
  }

  get delayMs(): number {
    return this.#delayMs;
  }

  add(run: () => void): SharedTimer {
    const timer = new SharedTimer(this, performance.now() + this.#delayMs, run);
    timer.previous = this.#last;
    if (this.#last === undefined) this.#first = timer;
    else this.#last.next = timer;
    this.#last = timer;
    if (!this.#firing) this.#arm();
    return timer;
  }

  remove(timer: SharedTimer): void {
    if (timer.previous === undefined) this.#first = timer.next;
    else timer.previous.next = timer.next;
    if (timer.next === undefined) this.#last = timer.previous;
    else timer.next.previous = timer.previous;
    timer.next = timer.previous = undefined;
    // An armed native timer would keep the process alive for nothing.
    if (this.#first === undefined) this.#stop();
  }

  /** Sets the native timer for the first to fall due, unless it is set: later ones never fall due earlier. */
  #arm(): void {
    if (this.#native !== undefined || this.#first === undefined) return;
    const waitMs = Math.max(1, this.#first.dueMs - performance.now());
    this.#native = setTimeout(() => this.#fire(), Math.min(waitMs, LONGEST_MS));
  }

  #stop(): void {
    clearTimeout(this.#native);
    this.#native = undefined;
    this.#empty(this);
  }

  #fire(): void {
    this.#native = undefined;
    this.#firing = true;
    const now = performance.now();
    for (let first = this.#first; first !== undefined && first.dueMs <= now; first = this.#first) {
      const run = first.run!;
      first.cancel();
      try {
        run();
      } catch (error) {
        // As a native timer's would be: uncaught, and the others' turn all the same.
        queueMicrotask(() => {
          throw error;
        });
      }
    }
    this.#firing = false;
    this.#arm();
  }
}

/** Makes timers; see the module's text. */
export class Timers {
  readonly #lists = new Map<number, TimerList>();

  /** Calls `run` once, `delayMs` from now; delays from a second on may take up to 64 ms longer. */
  after(delayMs: number, run: () => void): Timer {
    if (delayMs < SHARED_MIN_MS) return new NativeTimer(delayMs, run);
    const rounded = Math.ceil(delayMs / STEP_MS) * STEP_MS;
    let list = this.#lists.get(rounded);
    if (list === undefined) {
      list = new TimerList(rounded, (empty) => {
        if (this.#lists.get(empty.delayMs) === empty) this.#lists.delete(empty.delayMs);
      });
      this.#lists.set(rounded, list);
    }
    return list.add(run);
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
