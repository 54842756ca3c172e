/**
 * Paces the accepting of connections: Deno accepts as fast as it can while the system's backlog has more, and thousands of
 * agents that come back at once would keep the open connections waiting.
 *
 * @module
 */

/** Connections accepted one after another before those that are open have their turn. */
export const ACCEPT_BURST = 16;
/** The time within which connections count as accepted one after another, and the pause after them. */
export const ACCEPT_BURST_MS = 1;

/** Counts one listener's connections. */
export class AcceptPace {
  #count = 0;
  #sinceMs = -Infinity;

  /** A connection was accepted. Returns for how long to pause, 0 for not at all. `nowMs` is called once a burst. */
  accepted(nowMs: () => number): number {
    if (++this.#count < ACCEPT_BURST) return 0;
    this.#count = 0;
    const now = nowMs();
    const fast = now - this.#sinceMs < ACCEPT_BURST_MS;
    this.#sinceMs = fast ? now + ACCEPT_BURST_MS : now;
    return fast ? ACCEPT_BURST_MS : 0;
  }
}
