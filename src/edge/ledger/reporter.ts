/**
 * Synchronises an edge's ledger with the session master: sends reports every few seconds, retrying each until it has
 * arrived, and receives rulings. While the master is unreachable, the edge continues with its last known state and
 * keeps its counts.
 *
 * @module
 */
import { randomBytes } from "node:crypto";
import { errorMessage } from "../../errors.ts";
import type { Clock, Timer } from "../../runtime/port.ts";
import type { Logger } from "../../telemetry/log.ts";
import {
  type EdgeMessage,
  type EdgeReport,
  mergedUsage,
  type ReportReceipt,
} from "../../wire/control/control_messages.ts";
import type { EdgeLedger, ReportBody } from "./ledger.ts";

/** How often an edge reports its agents' usage; up to this much may be lost when it is killed. */
export const REPORT_INTERVAL_MS = 5_000;
/** The start or end of a session is reported within this time. */
export const REPORT_SOON_MS = 200;
/** An idle edge reports this often as a sign of life. */
export const REPORT_IDLE_MS = 60_000;
/** Sessions, agents' usage and other entries in one report; more are sent in several. */
export const REPORT_ENTRIES_MAX = 2_000;
/** First pause before retrying the session master; it grows up to CONTROL_RETRY_MAX_MS. */
export const CONTROL_RETRY_FIRST_MS = 250;
/** Longest pause before retrying the session master. */
export const CONTROL_RETRY_MAX_MS = 15_000;

/** A ledger's link to its session master: by calls within one process, or over HTTP. */
export interface ControlLink {
  /**
   * Passes on the master's messages, starting after change `since`. Resolves when the stream ends or the signal is
   * aborted.
   */
  listen(since: number | undefined, hear: (message: EdgeMessage) => void, signal: AbortSignal): Promise<void>;
  /** Sends a report; resolves when the master has applied it. */
  report(report: EdgeReport): Promise<ReportReceipt>;
}

/** Stores reports until they have arrived, so that a crash loses little. */
interface ReportJournal {
  read(): Promise<string | undefined>;
  write(text: string): Promise<void>;
}

/** Options of {@link LedgerReporter}. */
interface ReporterOptions {
  /** The edge's name, unchanged across restarts. */
  readonly edge: string;
  readonly ledger: EdgeLedger;
  readonly link: ControlLink;
  readonly journal?: ReportJournal;
  readonly clock: Clock;
  readonly log: Logger;
  /** Source of jitter, from 0 to 1. Defaults to `Math.random`. */
  readonly random?: () => number;
}

/** Reports the usage of one edge, and applies the rulings that come back. */
export class LedgerReporter {
  readonly #options: ReporterOptions;
  readonly #closing = new AbortController();
  #epoch = randomBytes(8).toString("hex");
  #seq = 0;
  /** Reports that the master hasn't answered, in order. The unsent ones collect what arrives meanwhile. */
  #waiting: EdgeReport[] = [];
  /** How many of them may have been sent: these stay unchanged, since the master may have applied them. */
  #sent = 0;
  /** The answers since the ledger was last told. */
  #answered: Pick<ReportReceipt, "month" | "used"> | undefined;
  #timer: Timer | undefined;
  #dueMs = Infinity;
  #sending: Promise<void> | undefined;
  #lastSentMs = -Infinity;
  /** The master may not know every session, so the next report lists them all. */
  #all = true;
  #failures = 0;
  #away = false;

  constructor(options: ReporterOptions) {
    this.#options = options;
  }

  /** Loads reports that an earlier process hasn't delivered, and starts. */
  async start(): Promise<void> {
    const kept = await this.#options.journal?.read().catch(() => undefined);
    if (kept !== undefined) this.#restore(kept);
    this.#options.ledger.reportTo(() => this.#within(REPORT_SOON_MS));
    void this.#listen();
    this.#within(0);
  }

  /** Sends what is left, and stops. */
  async close(): Promise<void> {
    this.#closing.abort();
    this.#timer?.cancel();
    await this.#sending;
    this.#cut();
    await this.#keep();
    if (!this.#away) await this.#send();
  }

  /** Resolves when everything recorded so far has been delivered. */
  async flush(): Promise<void> {
    await this.#sending;
    await this.#run();
  }

  #within(delayMs: number): void {
    const { clock } = this.#options;
    const dueMs = clock.nowMs() + delayMs;
    if (this.#closing.signal.aborted || dueMs >= this.#dueMs) return;
    this.#timer?.cancel();
    this.#dueMs = dueMs;
    this.#timer = clock.after(delayMs, () => {
      this.#dueMs = Infinity;
      this.#sending = this.#run().finally(() => {
        this.#sending = undefined;
        this.#within(REPORT_INTERVAL_MS);
      });
    });
  }

  async #run(): Promise<void> {
    this.#cut();
    await this.#keep();
    await this.#send();
  }

  /** Adds new usage to the waiting reports. */
  #cut(): void {
    const { ledger, clock, edge } = this.#options;
    const idle = clock.nowMs() - this.#lastSentMs < REPORT_IDLE_MS && this.#waiting.length === 0;
    const body = ledger.cut(this.#all);
    if (body === undefined && idle) return;
    const fresh: ReportBody = body ?? { fresh: false, sessions: [], closed: [], usage: [], watched: [] };
    this.#all = false;
    const unsent: ReportBody[] = this.#waiting.splice(this.#sent);
    this.#seq -= unsent.length;
    for (const part of inParts([...unsent, fresh].reduce(merged))) {
      this.#waiting.push({ edge, epoch: this.#epoch, seq: ++this.#seq, ...part });
    }
  }

  async #send(): Promise<void> {
    const { link, ledger, clock, log } = this.#options;
    const isEmpty = this.#waiting.length === 0;
    while (this.#waiting.length > 0) {
      const [report] = this.#waiting as [EdgeReport];
      this.#sent = Math.max(this.#sent, 1);
      try {
        const { month, used } = await link.report(report);
        this.#waiting.shift();
        this.#sent--;
        const before = this.#answered?.month === month ? this.#answered.used : [];
        this.#answered = { month, used: [...before, ...used] };
        if (this.#waiting.length === 0) {
          ledger.reported(this.#answered);
          this.#answered = undefined;
        }
        this.#lastSentMs = clock.nowMs();
        if (this.#away) log.info({}, "the session master accepts reports again");
        this.#away = false;
      } catch (error) {
        // After a failure of the master, every session is reported again.
        this.#all = true;
        if (!this.#away) {
          log.warn({}, `Cannot report to the session master; continuing without it: ${errorMessage(error)}`);
        }
        this.#away = true;
        return;
      }
    }
    if (!isEmpty) await this.#keep();
  }

  async #keep(): Promise<void> {
    const { journal, log } = this.#options;
    if (journal === undefined) return;
    // Without the sessions, which end with this process: they are most of a report.
    const waiting = this.#waiting.map(({ following: _, ...report }) => ({ ...report, sessions: [] }));
    const kept = { epoch: this.#epoch, seq: this.#seq, waiting };
    await journal.write(JSON.stringify(kept)).catch((error) => {
      log.warn({}, `Cannot save unreported usage: ${errorMessage(error)}`);
    });
  }

  #restore(text: string): void {
    try {
      const kept = JSON.parse(text) as { epoch: string; seq: number; waiting: EdgeReport[] };
      if (typeof kept.epoch !== "string" || !Number.isSafeInteger(kept.seq) || !Array.isArray(kept.waiting)) {
        return;
      }
      this.#epoch = kept.epoch;
      this.#seq = kept.seq;
      this.#waiting = kept.waiting;
      this.#sent = kept.waiting.length;
    } catch {
      // The file is truncated, for example because the disk was full: its content is lost, and counting starts afresh.
    }
  }

  async #listen(): Promise<void> {
    const { link, ledger, clock, log, random = Math.random } = this.#options;
    const { signal } = this.#closing;
    while (!signal.aborted) {
      try {
        await link.listen(ledger.seq, (message) => {
          this.#failures = 0;
          ledger.hear(message);
        }, signal);
      } catch (error) {
        if (!signal.aborted) {
          log.info(
            {},
            `Cannot receive changes from the session master; continuing without them: ${errorMessage(error)}`,
          );
        }
      }
      if (signal.aborted) break;
      const ceilingMs = Math.min(CONTROL_RETRY_MAX_MS, CONTROL_RETRY_FIRST_MS * 2 ** this.#failures++);
      await new Promise<void>((resolve) => {
        const timer = clock.after(ceilingMs * (0.5 + random() / 2), resolve);
        signal.addEventListener("abort", () => (timer.cancel(), resolve()), { once: true });
      });
    }
  }
}

/** A report before it is numbered. */
type ReportPart = Omit<EdgeReport, "edge" | "epoch" | "seq">;

/** Merges two reports that haven't been sent into one. */
function merged(first: ReportBody, second: ReportBody): ReportBody {
  const sessions = new Map(second.fresh ? [] : first.sessions.map((session) => [session.id, session]));
  for (const session of second.sessions) sessions.set(session.id, session);
  for (const id of second.closed) sessions.delete(id);
  return {
    fresh: first.fresh || second.fresh,
    sessions: [...sessions.values()],
    closed: second.fresh ? [] : [...first.closed, ...second.closed],
    usage: mergedUsage([...first.usage, ...second.usage]),
    watched: second.watched,
  };
}

/**
 * Splits a report into bounded ones, each of which the master applies by itself. An agent's usage comes in the same part
 * as the question for its total, or in an earlier one.
 */
function inParts({ fresh, closed, sessions, usage, watched }: ReportBody): ReportPart[] {
  const parts: ReportPart[] = [];
  const total = closed.length + sessions.length + usage.length + watched.length;
  for (let from = 0; from === 0 || from < total; from += REPORT_ENTRIES_MAX) {
    // The lists lie end to end, and this is where the part begins in the next one.
    let start = from;
    const cut = <Entry>(entries: readonly Entry[]) => {
      const taken = entries.slice(Math.max(0, start), Math.max(0, start + REPORT_ENTRIES_MAX));
      start -= entries.length;
      return taken;
    };
    const isFresh = fresh && from === 0;
    const part = {
      fresh: isFresh,
      closed: cut(closed),
      sessions: cut(sessions),
      usage: cut(usage),
      watched: cut(watched),
    };
    const following = isFresh ? sessions.slice(part.sessions.length).map(({ id }) => id) : [];
    parts.push(following.length === 0 ? part : { ...part, following });
  }
  return parts;
}
