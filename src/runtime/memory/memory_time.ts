/**
 * Virtual time: events in time order, and in creation order for equal times. Nothing sleeps; a day passes as fast as
 * its events can be computed.
 *
 * @module
 */

import { setImmediate } from "node:timers";
import { SallyportError } from "../../errors.ts";
import type { Clock, Timer } from "../port.ts";
import { Faults } from "../shared.ts";

/** Virtual time starts here: 2026-01-01T00:00:00Z. */
const START_WALL_MS = Date.UTC(2026, 0, 1);
/** Real time that a promise may take for work outside the network (WebCrypto, files), once no event is left. */
const STUCK_MS = 5_000;
/** More events than any sensible test produces: it must be an endless loop. */
const EVENTS_MAX = 20_000_000;
/** More events at one time than any sensible test produces: they set each other for the same moment without end. */
const EVENTS_AT_ONCE_MAX = 1_000_000;

/** A seeded source of numbers in [0, 1), the same everywhere (mulberry32). */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

class Event implements Timer {
  cancelled = false;
  constructor(readonly atMs: number, readonly order: number, readonly run: () => void) {}

  cancel(): void {
    this.cancelled = true;
  }

  before(other: Event): boolean {
    return this.atMs < other.atMs || (this.atMs === other.atMs && this.order < other.order);
  }
}

/** The events of one network and the clock that its runtimes share. */
export class VirtualTime {
  #nowMs = 0;
  /** Events run since time last passed. */
  #eventsNow = 0;
  #order = 0;
  /** A binary heap, the next event first. */
  #heap: Event[] = [];

  /** Handles exceptions of the callbacks of all hosts. */
  readonly faults: Faults = new Faults();
  /** The clock exposed by runtimes. */
  readonly clock: Clock = {
    nowMs: () => this.#nowMs,
    wallMs: () => START_WALL_MS + Math.floor(this.#nowMs),
    after: (delayMs, run) => this.at(this.#nowMs + Math.max(0, delayMs), run),
    soon: (run) => void this.at(this.#nowMs, run),
  };

  /** Milliseconds since the start. */
  get nowMs(): number {
    return this.#nowMs;
  }

  /** Calls `run` at a time; now if it has passed. */
  at(atMs: number, run: () => void): Timer {
    const event = new Event(Math.max(atMs, this.#nowMs), this.#order++, run);
    const heap = this.#heap;
    let i = heap.push(event) - 1;
    while (i > 0) {
      const parent = (i - 1) >> 1;
      if (!event.before(heap[parent]!)) break;
      heap[i] = heap[parent]!;
      i = parent;
    }
    heap[i] = event;
    return event;
  }

  /** Calls `run` after the events due now. */
  soon(run: () => void): void {
    this.at(this.#nowMs, run);
  }

  /** Runs until virtual time is `untilMs`, even if no events are left. */
  async run(untilMs: number): Promise<void> {
    await turn();
    while (this.step(untilMs)) await turn();
    this.#nowMs = Math.max(this.#nowMs, untilMs);
  }

  /** Runs for `durationMs`. */
  advance(durationMs: number): Promise<void> {
    return this.run(this.#nowMs + durationMs);
  }

  /** Runs until no event is left. Periodic timers prevent that: rejects after very many events. */
  async runUntilIdle(): Promise<void> {
    await turn();
    for (let events = 0; this.step(Infinity); events++) {
      if (events >= EVENTS_MAX) throw stuck("there are always more events");
      await turn();
    }
  }

  /**
   * Runs only until `promise` settles and returns its outcome. Rejects if it can't settle: no event is left, or virtual
   * time would pass `limitMs`.
   */
  async settle<T>(promise: Promise<T>, limitMs: number = Infinity): Promise<T> {
    let settled = false;
    const done = () => void (settled = true);
    promise.then(done, done);
    await turn();
    for (let events = 0; !settled; events++) {
      if (events >= EVENTS_MAX) throw stuck("there are always more events");
      if (!this.step(limitMs)) {
        if (this.#heap.length > 0) throw stuck(`it takes longer than ${limitMs} ms`);
        await outsideWork(promise, () => this.#heap.length > 0);
        continue;
      }
      await turn();
    }
    return promise;
  }

  /** Runs the next event if it is due by `limitMs`; returns whether it was. Throws if time stands still. */
  step(limitMs: number): boolean {
    for (;;) {
      const next = this.#heap[0];
      if (next === undefined || (!next.cancelled && next.atMs > limitMs)) return false;
      this.#removeFirst();
      if (next.cancelled) continue;
      this.#eventsNow = next.atMs > this.#nowMs ? 0 : this.#eventsNow + 1;
      if (this.#eventsNow >= EVENTS_AT_ONCE_MAX) throw stuck(`time stands still at ${this.#nowMs} ms`);
      this.#nowMs = next.atMs;
      next.run();
      return true;
    }
  }

  #removeFirst(): void {
    const heap = this.#heap;
    const last = heap.pop()!;
    if (heap.length === 0) return;
    let i = 0;
    for (;;) {
      let child = 2 * i + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && heap[child + 1]!.before(heap[child]!)) child++;
      if (!heap[child]!.before(last)) break;
      heap[i] = heap[child]!;
      i = child;
    }
    heap[i] = last;
  }
}

/** Runs everything that waits on settled promises, however long the chain. */
function turn(): Promise<void> {
  return new Promise((resolve) => void setImmediate(resolve));
}

/** Waits in real time until the promise settles or an event appears; rejects if neither happens. */
async function outsideWork(promise: Promise<unknown>, hasEvents: () => boolean): Promise<void> {
  let settled = false;
  const done = () => void (settled = true);
  promise.then(done, done);
  const endMs = performance.now() + STUCK_MS;
  while (!settled && !hasEvents()) {
    if (performance.now() > endMs) throw stuck("nothing is left that could happen");
    await turn();
  }
}

function stuck(why: string): SallyportError {
  return new SallyportError("deadline_exceeded", `Cannot settle: ${why}`, { side: "local" });
}
