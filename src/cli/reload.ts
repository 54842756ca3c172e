/**
 * Reloads changed files: when the time or size of one changes, and on SIGHUP.
 *
 * @module
 */
import { stat } from "node:fs/promises";
import { errorMessage } from "../errors.ts";
import type { Clock, Timer } from "../runtime/port.ts";
import type { Logger } from "../telemetry/log.ts";
import type { CliIo } from "./io.ts";

/** How often the files are polled; polling works on every file system, and through the links of a mounted volume. */
export const RELOAD_POLL_MS = 2_000;

/** Options of {@link watchForReload}. */
interface ReloadOptions {
  readonly io: CliIo;
  readonly clock: Clock;
  readonly log: Logger;
  /** The files. With none, only SIGHUP reloads. */
  readonly paths: readonly string[];
  /** Applies the files' current content. An exception is logged, and nothing changes. */
  reload(): void;
}

/** Watches until the returned function is called. */
export function watchForReload(options: ReloadOptions): () => void {
  const { io, clock, log, paths } = options;
  let timer: Timer | undefined;
  let stopped = false;
  const reload = () => {
    try {
      options.reload();
    } catch (error) {
      log.error({ file: paths[0] }, `Cannot reload configuration, the old one stays: ${errorMessage(error)}`);
    }
  };
  const undo = io.onReload(reload);
  const seen = new Map<string, string>();
  const look = async () => {
    let changed = false;
    for (const path of paths) {
      const found = await mark(path);
      // A file that is being replaced may be missing for a moment.
      if (found === undefined) continue;
      const before = seen.get(path);
      if (before !== undefined && found !== before) changed = true;
      seen.set(path, found);
    }
    if (stopped) return;
    if (changed) reload();
    timer = clock.after(RELOAD_POLL_MS, () => void look());
  };
  if (paths.length > 0) void look();
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
