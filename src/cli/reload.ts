/**
 * Reloads a changed configuration file: when its time or size changes, and on SIGHUP.
 *
 * @module
 */
import { stat } from "node:fs/promises";
import { errorMessage } from "../errors.ts";
import type { Clock, Timer } from "../runtime/port.ts";
import type { Logger } from "../telemetry/log.ts";
import type { CliIo } from "./io.ts";

/** How often the file is polled; polling works on every file system, and through the links of a mounted volume. */
export const RELOAD_POLL_MS = 2_000;

/** Options of {@link watchForReload}. */
interface ReloadOptions {
  readonly io: CliIo;
  readonly clock: Clock;
  readonly log: Logger;
  /** The file. When absent, only SIGHUP reloads. */
  readonly path: string | undefined;
  /** Applies the file's current content. An exception is logged, and nothing changes. */
  reload(): void;
}

/** Watches until the returned function is called. */
export function watchForReload(options: ReloadOptions): () => void {
  const { io, clock, log, path } = options;
  let timer: Timer | undefined;
  let stopped = false;
  const reload = () => {
    try {
      options.reload();
    } catch (error) {
      log.error({ file: path }, `Cannot reload configuration, the old one stays: ${errorMessage(error)}`);
    }
  };
  const undo = io.onReload(reload);
  let seen: string | undefined;
  const look = async () => {
    const found = path === undefined ? undefined : await mark(path);
    if (stopped) return;
    // A file that is being replaced may be missing for a moment.
    if (found !== undefined) {
      if (seen !== undefined && found !== seen) reload();
      seen = found;
    }
    timer = clock.after(RELOAD_POLL_MS, () => void look());
  };
  if (path !== undefined) void look();
  return () => {
    stopped = true;
    timer?.cancel();
    undo();
  };
}

async function mark(path: string): Promise<string | undefined> {
  try {
    const { mtimeMs, size, ino } = await stat(path);
    return `${mtimeMs}/${size}/${ino}`;
  } catch {
    return undefined;
  }
}
