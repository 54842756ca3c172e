/**
 * Rate-limits log lines that strangers can cause at will: the first of a kind are written in each interval, the others
 * counted.
 *
 * @module
 */
import type { Clock } from "../runtime/port.ts";
import type { LogFields, Logger } from "./log.ts";

/** How long log lines of one kind are counted before the count is written. */
export const LOG_SAMPLE_INTERVAL_MS = 10_000;
/** Lines of one kind that visitors of a service cause, per interval, before further ones are counted. */
export const LOG_SAMPLE_VISITORS_BURST = 5;
/** Maximum number of distinct kinds of sampled log lines; further ones share one. */
export const LOG_SAMPLE_KINDS_MAX = 256;

/** Lines of one kind in one interval. */
interface Sample {
  readonly level: "info" | "warn";
  readonly sinceMs: number;
  written: number;
  counted: number;
  /** Fields of the last counted line. */
  fields: LogFields;
  message: string;
}

/** Options of {@link LogSampler}. */
interface LogSamplerOptions {
  readonly log: Logger;
  readonly clock: Clock;
  /** Lines of a kind written per interval before the rest are counted. Defaults to 1. */
  readonly burst?: number;
}

/**
 * Writes the first lines of a kind, then counts. It has no timers: a count is written with the next line, or by
 * `flush`.
 */
export class LogSampler {
  readonly #log: Logger;
  readonly #clock: Clock;
  readonly #burst: number;
  readonly #samples = new Map<string, Sample>();

  constructor({ log, clock, burst = 1 }: LogSamplerOptions) {
    this.#log = log;
    this.#clock = clock;
    this.#burst = burst;
  }

  /** Logs a line at level info. Lines of the same `kind` are counted together; a peer must not control it. */
  info(kind: string, fields: LogFields, message: string): void {
    this.#take("info", kind, fields, message);
  }

  /** Logs a line at level warn. */
  warn(kind: string, fields: LogFields, message: string): void {
    this.#take("warn", kind, fields, message);
  }

  /** Writes the pending counts. */
  flush(): void {
    for (const [kind, sample] of this.#samples) this.#tell(kind, sample);
    this.#samples.clear();
  }

  #take(level: "info" | "warn", wanted: string, fields: LogFields, message: string): void {
    const kind = this.#samples.has(wanted) || this.#samples.size < LOG_SAMPLE_KINDS_MAX ? wanted : "others";
    const nowMs = this.#clock.nowMs();
    let sample = this.#samples.get(kind);
    if (sample !== undefined && nowMs - sample.sinceMs >= LOG_SAMPLE_INTERVAL_MS) {
      this.#tell(kind, sample);
      sample = undefined;
    }
    if (sample === undefined) {
      sample = { level, sinceMs: nowMs, written: 0, counted: 0, fields, message };
      this.#samples.set(kind, sample);
    }
    if (sample.written < this.#burst) {
      sample.written++;
      return this.#log[level](fields, message);
    }
    sample.counted++;
    sample.fields = fields;
    sample.message = message;
  }

  #tell(kind: string, { level, sinceMs, counted, fields, message }: Sample): void {
    if (counted === 0) return;
    const seconds = Math.ceil((this.#clock.nowMs() - sinceMs) / 1000);
    this.#log[level](
      { ...fields, kind, count: counted },
      `${counted} more in ${seconds} s, the last: ${message}`,
    );
  }
}

/** A sampler for lines that visitors of a service cause. */
export function visitorLines(log: Logger, clock: Clock): LogSampler {
  return new LogSampler({ log, clock, burst: LOG_SAMPLE_VISITORS_BURST });
}
