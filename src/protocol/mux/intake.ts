/**
 * The bytes of a peer on their way to a session's receiver: frames that do no work are read some at a time, with a rest
 * in between for the others of the process.
 *
 * @module
 */
import type { Bytes } from "../../bytes/bytes.ts";

/** What an {@link Intake} works with. */
export interface IntakeEvents {
  /** Reads frames of `chunk`; says how many bytes it has taken before it was enough for this turn. */
  read(chunk: Bytes): number;
  /** Stops (true) or resumes (false) reading the peer's bytes. */
  hold(hold: boolean): void;
  /** Asks for a call of {@link Intake.goOn} in a while. */
  rest(): void;
}

/** Hands on a peer's bytes, or keeps them for a while. */
export class Intake {
  readonly #events: IntakeEvents;
  /** What waits; there is something in sessions that are flooded alone. */
  #waiting: Bytes[] | undefined;

  constructor(events: IntakeEvents) {
    this.#events = events;
  }

  /** Takes a chunk; it is read in this turn unless that is too much work. */
  take(chunk: Bytes): void {
    if (this.#waiting !== undefined) {
      this.#waiting.push(new Uint8Array(chunk));
      return;
    }
    const taken = this.#events.read(chunk);
    if (taken === chunk.length) return;
    this.#waiting = [new Uint8Array(chunk.subarray(taken))];
    this.#events.hold(true);
    this.#events.rest();
  }

  /** Whether bytes wait for {@link goOn}. */
  get waiting(): boolean {
    return this.#waiting !== undefined;
  }

  /** Reads on, behind a rest. */
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
    }
    this.#waiting = undefined;
    this.#events.hold(false);
  }

  /** Drops what waits: the session is over. */
  clear(): void {
    this.#waiting = undefined;
  }
}
