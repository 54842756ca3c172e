/**
 * Communication between the session master and its edges. Decisions are stored as numbered changes; the hub sends them
 * to every connected edge, immediately if made here, and shortly after if made by another master.
 *
 * @module
 */
import { DAY_MS, dayOf, monthOf } from "../calendar.ts";
import { errorMessage } from "../errors.ts";
import type { Clock, Timer } from "../runtime/port.ts";
import type { Logger } from "../telemetry/log.ts";
import { LogSampler } from "../telemetry/log_sampler.ts";
import type { EdgeMessage, EdgeReport, ReportReceipt } from "../wire/control/control_messages.ts";
import { type Changeable, current } from "./changeable.ts";
import type { KeyRing } from "./key_ring.ts";
import type { Change } from "./model.ts";
import type { SilentEdges, Store } from "./store/store.ts";

/** Several masters on PostgreSQL: interval at which each polls for the others' decisions. */
export const CHANGES_POLL_MS = 300;
/** Interval at which the master removes expired data. */
export const SWEEP_INTERVAL_MS = 60_000;
/** The sessions of an edge that hasn't reported for this long count as ended. One that runs reports every minute. */
export const EDGE_SILENT_MS = 5 * 60_000;

/** Retention of delivered and failed webhook messages in their log. */
export const DELIVERIES_KEPT_MS = 7 * DAY_MS;
/** Log entries deleted per batch; other writers wait no longer than one batch. */
export const FORGOTTEN_AT_ONCE_MAX = 1_000;
/** Pause between two batches of log deletions. */
const FORGET_PAUSE_MS = 100;

/** Retention of logs. Unlimited by default. */
export interface Retention {
  readonly auditMs?: number;
  readonly usageMs?: number;
}

/** Receives the messages for edges. */
type EdgeListener = (message: EdgeMessage) => void;

/** Dependencies of {@link EdgeHub}. */
export interface EdgeHubOptions {
  readonly store: Store;
  readonly keys: KeyRing;
  readonly clock: Clock;
  readonly log: Logger;
  /** Retention of logs. Unlimited by default. */
  readonly retention?: Changeable<Retention>;
}

/** The connected edges of one session master. */
export class EdgeHub {
  readonly #options: EdgeHubOptions;
  /** Listeners, each with the number of the last change sent to it. */
  readonly #listeners = new Map<EdgeListener, number>();
  /** The last change that the hub has sent. */
  #seen = 0;
  #pumping: Promise<void> | undefined;
  #again = false;
  #poll: Timer | undefined;
  #sweep: Timer | undefined;
  #pause: Timer | undefined;
  /** The silent edges of the last look: neither a clock that jumps nor the master's own absence ends sessions. */
  #silent: SilentEdges = new Map();
  readonly #closing = new AbortController();

  /** The store is polled often: while it is down, each failure would be a line. */
  readonly #sampler: LogSampler;

  constructor(options: EdgeHubOptions) {
    this.#options = options;
    this.#sampler = new LogSampler(options);
  }

  /** Loads the store's contents; call it once, before anything else. */
  async start(): Promise<void> {
    const { store, keys } = this.#options;
    this.#seen = await store.lastChange();
    keys.update(await store.fernetKeys());
    await store.sweep(this.#options.clock.wallMs());
    void this.#forget();
    if (store.kind === "postgres") this.#pollLater();
    this.#sweepLater();
  }

  /** Called after a decision here: resolves when the edges connected to this master have been told. */
  wake(): Promise<void> {
    return this.#pump();
  }

  /** Loads the store's Fernet keys, and sends them to edges. */
  async reloadKeys(): Promise<void> {
    const { store, keys } = this.#options;
    keys.update(await store.fernetKeys());
    await this.wake();
  }

  /** Sends edges the keys that came from outside the store. */
  async announceKeys(): Promise<void> {
    await this.#pump();
    const keys = [...this.#options.keys.keys];
    for (const [listener, seq] of this.#listeners) listener({ kind: "keys", seq, keys });
  }

  /**
   * Sends `listener` first what it has missed since the change with number `since`, or the complete state, then every
   * new message. The returned function removes the listener.
   */
  async listen(since: number | undefined, listener: EdgeListener): Promise<() => void> {
    const { store, keys } = this.#options;
    await this.#pump();
    let heard = since ?? 0;
    const missed = since === undefined || since > this.#seen ? undefined : await store.changesSince(since);
    if (missed === undefined) {
      heard = await store.lastChange();
      listener({ kind: "all", seq: heard, rulings: [...await store.rulings()], keys: [...keys.keys] });
    } else {
      heard = this.#tell(listener, missed, heard);
      // Its keys may be older than the oldest change that is kept.
      listener({ kind: "keys", seq: heard, keys: [...keys.keys] });
    }
    // The hub has sent these meanwhile to existing listeners only.
    while (heard < this.#seen) heard = this.#tell(listener, await store.changesSince(heard) ?? [], heard);
    this.#listeners.set(listener, heard);
    return () => void this.#listeners.delete(listener);
  }

  /** Applies an edge's report, once, and returns the usage of agents with a monthly limit. */
  async report(report: EdgeReport): Promise<ReportReceipt> {
    const { store, clock } = this.#options;
    await store.applyReport(report, clock.wallMs());
    const month = monthOf(clock.wallMs());
    const used = report.watched.length === 0 ? new Map() : await store.monthUsed(report.watched, month);
    return {
      epoch: report.epoch,
      seq: report.seq,
      month,
      used: report.watched.map((agent) => ({ agent, bytes: used.get(agent) ?? 0 })),
    };
  }

  /** Aborted by {@link close}: ends open-ended responses. */
  get closing(): AbortSignal {
    return this.#closing.signal;
  }

  close(): void {
    this.#closing.abort();
    this.#poll?.cancel();
    this.#sweep?.cancel();
    this.#pause?.cancel();
    this.#listeners.clear();
    this.#sampler.flush();
  }

  /** Sends changes in order; one run at a time. */
  #pump(): Promise<void> {
    this.#again = true;
    return this.#pumping ??= this.#run().finally(() => this.#pumping = undefined);
  }

  async #run(): Promise<void> {
    const { store, keys } = this.#options;
    while (this.#again && !this.closing.aborted) {
      this.#again = false;
      try {
        const changes = await store.changesSince(this.#seen) ?? [];
        if (changes.some(({ body }) => body.kind === "keys")) keys.update(await store.fernetKeys());
        this.#seen = changes.at(-1)?.seq ?? this.#seen;
        for (const [listener, heard] of this.#listeners) {
          this.#listeners.set(listener, this.#tell(listener, changes, heard));
        }
      } catch (error) {
        const fields = { error: errorMessage(error) };
        this.#sampler.warn("changes", fields, "Cannot read changes for edges; trying again");
      }
    }
  }

  /** Sends the changes that the listener doesn't have yet; returns the number of its last change. */
  #tell(listener: EdgeListener, changes: readonly Change[], heard: number): number {
    for (const { seq, body } of changes) {
      if (seq <= heard) continue;
      heard = seq;
      if (body.kind === "agent") listener({ kind: "agent", seq, ruling: body.ruling });
      else if (body.kind === "close_session") listener({ kind: "close_session", seq, session: body.session });
      else listener({ kind: "keys", seq, keys: [...this.#options.keys.keys] });
    }
    return heard;
  }

  #pollLater(): void {
    this.#poll = this.#options.clock.after(CHANGES_POLL_MS, () => {
      void this.#pump().then(() => this.closing.aborted || this.#pollLater());
    });
  }

  /** Deletes data older than its retention, in small batches. */
  async #forget(): Promise<void> {
    const { store, clock, log, retention = {} } = this.#options;
    const { auditMs, usageMs } = current(retention);
    const nowMs = clock.wallMs();
    const before = {
      ...auditMs === undefined ? {} : { auditMs: nowMs - auditMs },
      ...usageMs === undefined ? {} : { usageDay: dayOf(nowMs - usageMs) },
      deliveriesMs: nowMs - DELIVERIES_KEPT_MS,
    };
    try {
      while (!this.closing.aborted && await store.forget(before, FORGOTTEN_AT_ONCE_MAX)) {
        await new Promise<void>((resolve) => this.#pause = clock.after(FORGET_PAUSE_MS, resolve));
      }
    } catch (error) {
      if (!this.closing.aborted) log.warn({ error: errorMessage(error) }, "Cannot delete old records");
    }
  }

  async #clean(): Promise<void> {
    const { store, clock } = this.#options;
    const nowMs = clock.wallMs();
    this.#silent = await store.endSilent(this.#silent, nowMs - EDGE_SILENT_MS, nowMs);
    await store.sweep(nowMs);
    await this.#forget();
  }

  #sweepLater(): void {
    const { clock, log } = this.#options;
    this.#sweep = clock.after(SWEEP_INTERVAL_MS, () => {
      this.#clean().catch((error) => log.warn({ error: errorMessage(error) }, "Cannot sweep the store"));
      if (!this.closing.aborted) this.#sweepLater();
    });
  }
}
