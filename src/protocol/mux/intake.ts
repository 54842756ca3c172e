/**
 * Feeds a peer's bytes to a session's receiver. No-op frames and wasted payload are read in batches, with pauses in
 * between for the other sessions of the process.
 *
 * @module
 */
import type { Bytes } from "../../bytes/bytes.ts";

/** Callbacks of an {@link Intake}. */
export interface IntakeEvents {
  /** Reads frames from `chunk`. Returns the bytes read before this turn's budget was used up. */
  read(chunk: Bytes): number;
  /** Too much payload was wasted: bytes that arrive have to wait. */
  readonly wasteful: boolean;
  /** Stops (true) or resumes (false) reading the peer's bytes. */
  hold(hold: boolean): void;
  /** Requests a later call of {@link Intake.goOn}. */
  rest(): void;
}

/** Passes on a peer's bytes, or holds them for a while. */
export class Intake {
  readonly #events: IntakeEvents;
  /** Waiting chunks; only flooded sessions have any. */
  #waiting: Bytes[] | undefined;

  constructor(events: IntakeEvents) {
    this.#events = events;
  }

  /** Accepts a chunk and reads it in this turn unless that is too much work. */
  take(chunk: Bytes): void {
    if (this.#waiting !== undefined) {
      this.#waiting.push(new Uint8Array(chunk));
      return;
    }
    const taken = this.#events.read(chunk);
    if (taken === chunk.length && !this.#events.wasteful) return;
    this.#waiting = taken === chunk.length ? [] : [new Uint8Array(chunk.subarray(taken))];
    this.#events.hold(true);
    this.#events.rest();
  }

  /** Whether bytes are waiting for {@link goOn}. */
  get waiting(): boolean {
    return this.#waiting !== undefined;
  }

  /** Resumes reading after a pause. */
  goOn(): void {
    const waiting = this.#waiting;
    if (waiting === undefined) return;
    while (waiting.length > 0) {
      const taken = this.#events.read(waiting[0]!);
      if (taken < waiting[0]!.length) {
        waiting[0] = waiting[0]!.subarray(taken);
        return this.#events.rest();
      }
      waiting.shift();
      if (this.#events.wasteful) return this.#events.rest();
    }
    this.#waiting = undefined;
    this.#events.hold(false);
  }

  /** Drops the waiting chunks: the session is over. */
  clear(): void {
    this.#waiting = undefined;
  }
}
