/**
 * The local socket that `sallyport upgrade` uses to ask a parent process to replace its workers, and to follow the
 * progress.
 *
 * @module
 */
import { chmod, rm } from "node:fs/promises";
import { errorMessage, SallyportError } from "../errors.ts";
import type { Listener, Runtime } from "../runtime/port.ts";
import { ControlConnection } from "./control.ts";
import type { Supervisor, UpgradeProgress } from "./supervisor.ts";

/** The socket's name in the data folder. */
export const UPGRADE_SOCKET = "edge.sock";
/** Timeout for the parent's answer to `sallyport upgrade`; without one, no parent is running. */
const UPGRADE_DIAL_MS = 2_000;

const PROGRESS = "progress";

/**
 * Listens at `path`, for this user only. A stale socket left by a parent is replaced; if another parent answers,
 * rejects with `address_in_use`.
 */
export async function serveUpgrades(
  { runtime, path, supervisor }: {
    readonly runtime: Runtime;
    readonly path: string;
    readonly supervisor: Supervisor;
  },
): Promise<Listener> {
  const other = await runtime.dialUnix({ path, timeoutMs: UPGRADE_DIAL_MS }).catch(() => undefined);
  if (other !== undefined) {
    other.abort();
    const why = "another edge with workers answers there; give this one its own --data-dir";
    throw new SallyportError("address_in_use", `Cannot open socket ${path}: ${why}`, { side: "config" });
  }
  await rm(path, { force: true });
  const listener = await runtime.listenUnix({
    path,
    accept: (conn) => {
      const control: ControlConnection = new ControlConnection(conn, runtime.clock, {
        upgrade: () => {
          const undo = supervisor.watchUpgrade((progress) => control.tell(PROGRESS, progress));
          void control.over.then(undo);
          supervisor.upgrade().catch(() => {});
        },
      });
    },
  });
  await chmod(path, 0o600);
  return listener;
}

/**
 * Asks the parent behind a socket to replace its workers; resolves with `done` or `failed`, or with `ended` when also
 * waiting for the old workers. Rejects with `connection_refused` if there is no parent, and with `connection_lost` if
 * it exits meanwhile.
 */
export async function requestUpgrade(
  { runtime, path, wait, hear }: {
    readonly runtime: Runtime;
    readonly path: string;
    /** Also wait until the old workers have ended. */
    readonly wait: boolean;
    hear(progress: UpgradeProgress): void;
  },
): Promise<UpgradeProgress> {
  const conn = await runtime.dialUnix({ path, timeoutMs: UPGRADE_DIAL_MS }).catch((cause) => {
    const why = "no serve or edge with --workers is running with this data folder";
    throw new SallyportError(
      "connection_refused",
      `Cannot upgrade: ${why} (${path}: ${errorMessage(cause)})`,
      {
        side: "config",
        cause,
      },
    );
  });
  const control = new ControlConnection(conn, runtime.clock, {});
  const over = Promise.withResolvers<UpgradeProgress>();
  control.on(PROGRESS, (detail) => {
    const progress = detail as UpgradeProgress;
    hear(progress);
    if (progress.kind === "failed" || progress.kind === (wait ? "ended" : "done")) over.resolve(progress);
  });
  void control.over.then(() => {
    const why = "the process has exited; see its log";
    over.reject(new SallyportError("connection_lost", `Cannot upgrade: ${why}`, { side: "local" }));
  });
  try {
    await control.call("upgrade");
    return await over.promise;
  } finally {
    over.promise.catch(() => {});
    control.close();
  }
}
