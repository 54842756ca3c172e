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

/** Closes the connections of one process. */
export class ClosePace {
  readonly #nowMs: () => number;
  readonly #nextTurn: (run: () => void) => void;
  #left = CLOSE_BURST;
  #sinceMs = -Infinity;
  readonly #waiting: (() => void)[] = [];

  constructor(nowMs: () => number, nextTurn: (run: () => void) => void) {
    this.#nowMs = nowMs;
    this.#nextTurn = nextTurn;
  }

  /** Calls `close` now or in a later turn. It doesn't throw. */
  soon(close: () => void): void {
    if (this.#waiting.length === 0 && this.#mayClose()) return close();
    if (this.#waiting.push(close) === 1) this.#nextTurn(this.#turn);
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
    for (const close of this.#waiting.splice(0, CLOSE_BURST)) close();
    if (this.#waiting.length > 0) this.#nextTurn(this.#turn);
  };
}
