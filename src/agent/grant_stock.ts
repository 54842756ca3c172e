/**
 * Prefetched grants: an agent that loses its session reconnects at once, even while the session master is unreachable.
 * A grant's key opens only one session, so a small stock is kept instead of reusing one.
 *
 * @module
 */
import { errorMessage, SallyportError } from "../errors.ts";
import type { Clock, Timer } from "../runtime/port.ts";
import { type Logger, silentLogger } from "../telemetry/log.ts";
import { tokenMadeAtS } from "../protocol/token/token.ts";
import type { Grant } from "../transport/grant.ts";
import type { GrantSource } from "./grant.ts";

/** Grants that an agent keeps for its next sessions. */
export const GRANTS_KEPT = 3;
/** Pause before each prefetched grant, so that a reconnecting fleet gets its sessions first. */
export const GRANT_AHEAD_MS = 20_000;
/** The same pause after a failure. */
const GRANT_AHEAD_FAILED_MS = 60_000;
/** A kept grant is used instead of a fresh one until this fraction of its lifetime has passed. */
export const GRANT_FRESH_UNTIL = 0.5;
/** Minimum remaining lifetime of a grant when there is nothing better. */
const GRANT_LEFT_MIN_MS = 30_000;

/** Options of {@link GrantStock}. */
interface GrantStockOptions {
  readonly clock: Clock;
  /** Grants to keep. Defaults to {@link GRANTS_KEPT}. */
  readonly size?: number;
  /** Source of jitter, from 0 to 1. Defaults to `Math.random`. */
  readonly random?: () => number;
  readonly log?: Logger;
}

interface Kept {
  readonly grant: Grant;
  /** On the monotonic clock. */
  readonly gotAtMs: number;
  readonly lifeMs: number;
}

/** Keeps a few grants ready. */
export class GrantStock {
  readonly #source: GrantSource;
  readonly #options: GrantStockOptions;
  #kept: Kept[] = [];
  #timer: Timer | undefined;
  #round = 0;
  #closed = false;

  constructor(source: GrantSource, options: GrantStockOptions) {
    this.#source = source;
    this.#options = options;
  }

  /**
   * A grant for the next session: a kept one that is still fresh, else a new one, else a kept one that is still valid.
   */
  readonly take: GrantSource = async () => {
    // The oldest first: an edge lets a name be taken over only by a token newer than the session's.
    const kept = this.#kept.shift();
    if (kept !== undefined && this.#ageMs(kept) < kept.lifeMs * GRANT_FRESH_UNTIL) {
      this.#fillLater(GRANT_AHEAD_MS);
      return kept.grant;
    }
    try {
      const grant = await this.#source();
      // The kept grants are older than this one.
      this.#kept = [];
      this.#fillLater(GRANT_AHEAD_MS);
      return grant;
    } catch (error) {
      const good = kept !== undefined && kept.lifeMs - this.#ageMs(kept) > GRANT_LEFT_MIN_MS;
      if (!good || !(error instanceof SallyportError) || !error.retryable) throw error;
      this.#log.info({ reason: error.code }, `${error.message}; continuing with a stored grant`);
      this.#fillLater(error.retryAfterMs ?? GRANT_AHEAD_FAILED_MS);
      return kept.grant;
    }
  };

  /** Discards the kept grants because an edge has refused one, or the names served have changed. */
  discard(): void {
    this.#round++;
    this.#kept = [];
  }

  /** Stops fetching. */
  close(): void {
    this.#closed = true;
    this.#timer?.cancel();
  }

  get #log(): Logger {
    return this.#options.log ?? silentLogger;
  }

  #ageMs({ gotAtMs }: Kept): number {
    return this.#options.clock.nowMs() - gotAtMs;
  }

  #fillLater(delayMs: number): void {
    if (this.#closed) return;
    this.#timer?.cancel();
    const { clock, random = Math.random } = this.#options;
    this.#timer = clock.after(delayMs * (0.5 + random()), () => void this.#fill());
  }

  /** Adds grants until there are enough, and replaces those that have become old. */
  async #fill(): Promise<void> {
    const { size = GRANTS_KEPT } = this.#options;
    const fresh = this.#kept.filter((kept) => this.#ageMs(kept) < kept.lifeMs * GRANT_FRESH_UNTIL);
    const [oldest] = fresh;
    if (fresh.length >= size && oldest !== undefined) {
      return this.#fillLater(oldest.lifeMs * GRANT_FRESH_UNTIL - this.#ageMs(oldest));
    }
    const round = this.#round;
    try {
      const grant = await this.#source();
      const { clock } = this.#options;
      const madeMs = tokenMadeAtS(grant.token) * 1000 || clock.wallMs();
      const kept = { grant, gotAtMs: clock.nowMs(), lifeMs: grant.valid * 1000 - madeMs };
      // Old ones are dropped only now: while the master is unreachable they are better than none.
      if (round === this.#round) this.#kept = [...this.#kept, kept].slice(-size);
      this.#fillLater(GRANT_AHEAD_MS);
    } catch (error) {
      this.#log.debug({}, `Cannot fetch a grant ahead: ${errorMessage(error)}`);
      const retryable = error instanceof SallyportError && error.retryable;
      const waitMs = error instanceof SallyportError ? error.retryAfterMs : undefined;
      if (retryable) this.#fillLater(Math.max(waitMs ?? 0, GRANT_AHEAD_FAILED_MS));
    }
  }
}
