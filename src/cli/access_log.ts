/**
 * Access logs: a line of JSON per connection, or per request if the agent sees requests.
 *
 * @module
 */
import { createWriteStream, type WriteStream } from "node:fs";
import type { AccessEntry } from "../agent/services/port.ts";
import type { Service } from "../agent/services/service.ts";
import { errorMessage } from "../errors.ts";
import type { Clock } from "../runtime/port.ts";
import type { Logger } from "../telemetry/log.ts";
import type { CliIo } from "./io.ts";

/** Most bytes queued for a log's disk; further lines are dropped, which is logged once a minute. */
export const ACCESS_LOG_QUEUE_MAX_BYTES = 1024 * 1024;

const COMPLAINT_INTERVAL_MS = 60_000;

/** Options of {@link AccessLogs}. */
interface AccessLogOptions {
  readonly io: CliIo;
  readonly clock: Clock;
  readonly log: Logger;
}

/** The open files of an agent's access logs; services may share one. */
export class AccessLogs {
  readonly #options: AccessLogOptions;
  readonly #files = new Map<string, WriteStream>();
  #complainedMs = -Infinity;

  constructor(options: AccessLogOptions) {
    this.#options = options;
  }

  /** Returns the writer of a service's lines; undefined if it has no log. */
  readonly open = (service: Service): ((entry: AccessEntry) => void) | undefined => {
    const { accessLog, names } = service;
    if (accessLog === undefined) return undefined;
    return (entry) => this.#write(accessLog, this.#line(names[0]!, entry));
  };

  /** Reopens the files, for log rotation. */
  reopen(): void {
    for (const file of this.#files.values()) file.end();
    this.#files.clear();
  }

  #line(service: string, entry: AccessEntry): string {
    return `${
      JSON.stringify({
        time: new Date(this.#options.clock.wallMs()).toISOString(),
        service,
        name: entry.name,
        visitor: entry.visitor,
        target: entry.target,
        method: entry.method,
        path: entry.path,
        status: entry.status,
        bytes_in: entry.bytesIn,
        bytes_out: entry.bytesOut,
        duration_ms: entry.durationMs,
        error: entry.error,
      })
    }\n`;
  }

  #write(path: string, line: string): void {
    if (path === "-") return this.#options.io.out(line.trimEnd());
    let file = this.#files.get(path);
    if (file === undefined) {
      file = createWriteStream(path, { flags: "a", mode: 0o600 });
      const opened = file;
      file.on("error", (error) => {
        this.#complain(path, errorMessage(error));
        // The next line tries again.
        if (this.#files.get(path) === opened) this.#files.delete(path);
      });
      this.#files.set(path, file);
    }
    if (file.writableLength > ACCESS_LOG_QUEUE_MAX_BYTES) return this.#complain(path, "the disk is too slow");
    file.write(line);
  }

  #complain(path: string, why: string): void {
    const nowMs = this.#options.clock.nowMs();
    if (nowMs - this.#complainedMs < COMPLAINT_INTERVAL_MS) return;
    this.#complainedMs = nowMs;
    this.#options.log.warn({ file: path }, `Cannot write access log ${path}: ${why}; lines are lost`);
  }
}
