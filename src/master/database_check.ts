/**
 * Whether the database responds, for readiness probes.
 *
 * @module
 */
import { errorMessage } from "../errors.ts";
import type { Clock } from "../runtime/port.ts";
import type { Logger } from "../telemetry/log.ts";
import type { Store } from "./store/store.ts";

/** The database counts as unavailable if it hasn't responded within this time. */
export const DATABASE_CHECK_TIMEOUT_MS = 3_000;
/** The result of a check serves the probes of this time, so that many of them cost one query. */
export const DATABASE_CHECK_KEPT_MS = 1_000;

/** Dependencies of {@link DatabaseCheck}. */
interface DatabaseCheckOptions {
  readonly store: Pick<Store, "ping">;
  readonly clock: Clock;
  readonly log: Logger;
}

/** Checks the database of a session master. Probes are anonymous, so the reason for a failure goes into the log. */
export class DatabaseCheck {
  readonly #options: DatabaseCheckOptions;
  #result: Promise<boolean> | undefined;
  /** When the result is outdated; never while the check is in progress. */
  #untilMs = 0;
  /** The query in progress: while the database is silent, no further ones are sent. */
  #query: Promise<void> | undefined;
  #responds = true;

  constructor(options: DatabaseCheckOptions) {
    this.#options = options;
  }

  /** Resolves to whether the database responds. */
  run(): Promise<boolean> {
    const { clock } = this.#options;
    if (this.#result !== undefined && clock.nowMs() < this.#untilMs) return this.#result;
    this.#untilMs = Infinity;
    this.#result = this.#check().finally(() => this.#untilMs = clock.nowMs() + DATABASE_CHECK_KEPT_MS);
    return this.#result;
  }

  async #check(): Promise<boolean> {
    const { store, clock } = this.#options;
    this.#query ??= store.ping().finally(() => this.#query = undefined);
    const late = Promise.withResolvers<never>();
    const timer = clock.after(DATABASE_CHECK_TIMEOUT_MS, () => {
      late.reject(new Error(`no response within ${DATABASE_CHECK_TIMEOUT_MS / 1000} s`));
    });
    try {
      await Promise.race([this.#query, late.promise]);
      this.#note(undefined);
      return true;
    } catch (error) {
      this.#note(errorMessage(error));
      return false;
    } finally {
      timer.cancel();
    }
  }

  /** Logs changes. */
  #note(why: string | undefined): void {
    const { log } = this.#options;
    const responds = why === undefined;
    if (responds === this.#responds) return;
    this.#responds = responds;
    if (responds) log.info({}, "the database responds again");
    else log.warn({ error: why }, "The database doesn't respond");
  }
}
