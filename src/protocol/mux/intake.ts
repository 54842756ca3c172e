/**
 * The bytes of a peer on their way to a session's receiver: frames that do no work are read some at a time, and the others
 * of the process have their turn in between.
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
  /** Asks for a turn, in which {@link Intake.goOn} is called. */
  wake(): void;
}

/** Hands on a peer's bytes, or keeps them for the next turn. */
export class Intake {
  readonly #events: IntakeEvents;
  /** What waits for the next turn; there is something in sessions that are flooded alone. */
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
    this.#events.wake();
  }

  /** The next turn: reads on. */
  goOn(): void {
    const waiting = this.#waiting;
    if (waiting === undefined) return;
    while (waiting.length > 0) {
      const taken = this.#events.read(waiting[0]!);
      if (taken < waiting[0]!.length) {
        waiting[0] = waiting[0]!.subarray(taken);
        return this.#events.wake();
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
