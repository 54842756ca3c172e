/**
 * Paces the closing of connections. Both runtimes deliver a thousand events and more in one turn, and closing a connection
 * is a system call: thousands of agents that leave at once would keep visitors waiting.
 *
 * @module
 */

/** Connections closed at once within {@link CLOSE_BURST_MS}; the others wait for a later turn, as many in each. */
export const CLOSE_BURST = 16;
/** The time within which connections count as closed at once. */
export const CLOSE_BURST_MS = 1;

/** A connection that is closed at its pace. */
export interface PacedClose {
  /** Closes it in the system. It doesn't throw. */
  closeNow(): void;
}

/** Closes the connections of one process. */
export class ClosePace {
  readonly #nowMs: () => number;
  readonly #nextTurn: (run: () => void) => void;
  #left = CLOSE_BURST;
  #sinceMs = -Infinity;
  readonly #waiting: PacedClose[] = [];

  constructor(nowMs: () => number, nextTurn: (run: () => void) => void) {
    this.#nowMs = nowMs;
    this.#nextTurn = nextTurn;
  }

  /** Closes it now or in a later turn. */
  soon(conn: PacedClose): void {
    if (this.#waiting.length === 0 && this.#mayClose()) return conn.closeNow();
    if (this.#waiting.push(conn) === 1) this.#nextTurn(this.#turn);
  }

  #mayClose(): boolean {
    const now = this.#nowMs();
    if (now - this.#sinceMs >= CLOSE_BURST_MS) {
      this.#sinceMs = now;
      this.#left = CLOSE_BURST;
    }
    return this.#left-- > 0;
  }

  readonly #turn = (): void => {
    for (const conn of this.#waiting.splice(0, CLOSE_BURST)) conn.closeNow();
    if (this.#waiting.length > 0) this.#nextTurn(this.#turn);
  };
}
