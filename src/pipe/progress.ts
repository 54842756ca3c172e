/**
 * Human-readable progress of a transfer: a bar with rate and estimate on a terminal, occasional lines elsewhere.
 *
 * @module
 */

import { formatBytes } from "../bytes/format_bytes.ts";

/** A transfer's state. */
interface Progress {
  readonly bytes: number;
  /** Undefined if unknown. */
  readonly totalBytes: number | undefined;
  readonly elapsedMs: number;
  /** Recent rate in bytes per second. */
  readonly rate: number;
}

/** Formats a duration: `0:07`, `1:02:03`. */
export function formatDuration(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1000));
  const two = (value: number): string => String(value).padStart(2, "0");
  const [hours, minutes, rest] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  return hours === 0 ? `${minutes}:${two(rest)}` : `${hours}:${two(minutes)}:${two(rest)}`;
}

/** Time left at the current rate, in milliseconds; undefined if it can't be estimated. */
export function estimateMs({ bytes, totalBytes, rate }: Progress): number | undefined {
  if (totalBytes === undefined || rate <= 0 || bytes > totalBytes) return undefined;
  return (totalBytes - bytes) / rate * 1000;
}

/** One line, at most `width` columns: bar, percentage, bytes, rate and time left, as far as known and space allows. */
export function formatProgress(progress: Progress, width: number): string {
  const { bytes, totalBytes, elapsedMs, rate } = progress;
  const left = estimateMs(progress);
  const total = totalBytes === undefined ? "" : ` of ${formatBytes(totalBytes)}`;
  const time = left === undefined ? `${formatDuration(elapsedMs)} so far` : `${formatDuration(left)} left`;
  const figures = `${formatBytes(bytes)}${total}, ${formatBytes(Math.round(rate))}/s, ${time}`;
  // A file that grew meanwhile has no percentage any more.
  if (totalBytes === undefined || totalBytes === 0 || bytes > totalBytes) return figures.slice(0, width);
  const share = bytes / totalBytes;
  const percent = `${Math.floor(share * 100)}%`.padStart(4);
  const room = Math.min(40, width - figures.length - percent.length - 4);
  if (room < 8) return `${percent}  ${figures}`.slice(0, width);
  const full = Math.floor(share * room);
  return `[${"#".repeat(full)}${".".repeat(room - full)}]${percent}  ${figures}`;
}

/** Output for progress. */
interface ProgressOutput {
  /** A terminal's columns; undefined: no terminal. */
  readonly columns: number | undefined;
  /** Writes text verbatim, without a line break. */
  write(text: string): void;
}

/** Redraw interval on a terminal, and line interval on other outputs. */
const REDRAW_MS = 200;
const LINE_MS = 10_000;
/** The rate is averaged over roughly this time. */
const RATE_MS = 3_000;

/** Shows progress; receives every change and decides what to show. */
export class ProgressMeter {
  readonly #output: ProgressOutput;
  readonly #startMs: number;
  #shownMs: number;
  #drawn = false;
  #rate = 0;
  #rateMs: number;
  #rateBytes = 0;
  #bytes = 0;

  constructor(output: ProgressOutput, nowMs: number) {
    this.#output = output;
    this.#startMs = nowMs;
    this.#shownMs = nowMs;
    this.#rateMs = nowMs;
  }

  /** The transfer has reached `bytes`. */
  update(bytes: number, totalBytes: number | undefined, nowMs: number): void {
    this.#bytes = bytes;
    const { columns } = this.#output;
    if (nowMs - this.#shownMs < (columns === undefined ? LINE_MS : REDRAW_MS)) return;
    this.#shownMs = nowMs;
    const span = nowMs - this.#rateMs;
    if (span > 0) {
      const current = (bytes - this.#rateBytes) / span * 1000;
      const weight = this.#rate === 0 ? 1 : Math.min(1, span / RATE_MS);
      this.#rate += (current - this.#rate) * weight;
      this.#rateMs = nowMs;
      this.#rateBytes = bytes;
    }
    const progress = { bytes, totalBytes, elapsedMs: nowMs - this.#startMs, rate: this.#rate };
    if (columns === undefined) return this.#output.write(`${formatProgress(progress, 100)}\n`);
    this.#drawn = true;
    this.#output.write(`\r${formatProgress(progress, Math.max(20, columns - 1))}\x1b[K`);
  }

  /** Clears the bar, so that other lines can be written. */
  clear(): void {
    if (!this.#drawn) return;
    this.#drawn = false;
    this.#output.write("\r\x1b[K");
  }

  /** Summarizes the whole transfer: `1.2 GB in 0:03 (400.0 MB/s)`. */
  summary(nowMs: number): string {
    const elapsedMs = nowMs - this.#startMs;
    const rate = elapsedMs > 0 ? this.#bytes / elapsedMs * 1000 : 0;
    const time = elapsedMs < 10_000 ? `${(elapsedMs / 1000).toFixed(1)} s` : formatDuration(elapsedMs);
    return `${formatBytes(this.#bytes)} in ${time}${rate > 0 ? ` (${formatBytes(Math.round(rate))}/s)` : ""}`;
  }
}
