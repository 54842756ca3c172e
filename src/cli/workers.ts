/**
 * `--workers`: a parent process that serves metrics and, with `serve`, the session master, and worker processes that share
 * the edge's ports.
 *
 * @module
 */
import { AggregatorRegistry } from "prom-client";
import { chmod, mkdir, mkdtemp, rm } from "node:fs/promises";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { Supervisor, type WorkerAssignment, type WorkerProcess } from "../cluster/supervisor.ts";
import type { Config } from "../config/config.ts";
import { errorMessage } from "../errors.ts";
import type { Base } from "./parts.ts";
import { respawn } from "./respawn.ts";

/** The variable that makes a process a worker. */
const VARIABLE = "SALLYPORT_WORKER";

/** What this process is as a worker; undefined where it is none. */
export function workerAssignment(
  env: Readonly<Record<string, string | undefined>>,
): WorkerAssignment | undefined {
  const text = env[VARIABLE];
  return text === undefined || text === "" ? undefined : JSON.parse(text) as WorkerAssignment;
}

/** How many workers the setting asks for. */
export function workerCount(setting: "auto" | number): number {
  return setting === "auto" ? availableParallelism() : setting;
}

/** Starts the workers of a parent process, which end with it. */
export async function startWorkers(
  base: Base,
  config: Config,
  setting: "auto" | number,
): Promise<Supervisor> {
  const { io, runtime, log, life } = base;
  const folder = await socketFolder(config.dataDir);
  life.add("socket folder", () => rm(folder, { recursive: true, force: true }));
  const supervisor = new Supervisor({
    runtime,
    log,
    count: workerCount(setting),
    folder,
    drainMs: config.drainTimeout,
    spawn: (assignment) => spawnWorker(assignment, [folder, config.dataDir]),
  });
  life.add("workers", () => supervisor.stop());
  const upgrade = () => {
    supervisor.upgrade().catch((error) => log.error({}, `Cannot upgrade: ${errorMessage(error)}`));
  };
  life.add("upgrade signal", io.onUpgrade?.(upgrade) ?? (() => {}));
  await supervisor.start();
  return supervisor;
}

/** What all workers have measured, added up, in Prometheus' text format. */
export async function workersMetrics(supervisor: Supervisor, own: unknown): Promise<string> {
  const measured = [own, ...await supervisor.ask<unknown>("metrics")];
  return await AggregatorRegistry.aggregate(measured as object[]).metrics();
}

/** A folder for sockets that only this user reaches. Paths of sockets are short, so the data folder is the second choice. */
async function socketFolder(dataDir: string): Promise<string> {
  try {
    return await mkdtemp(join(tmpdir(), "sallyport-"));
  } catch {
    await mkdir(dataDir, { recursive: true, mode: 0o700 });
    const folder = await mkdtemp(join(dataDir, "run-"));
    await chmod(folder, 0o700);
    return folder;
  }
}

function spawnWorker(assignment: WorkerAssignment, folders: readonly string[]): WorkerProcess {
  const child = respawn({ [VARIABLE]: JSON.stringify(assignment) }, folders);
  const ended = Promise.withResolvers<number | undefined>();
  child.on("error", () => ended.resolve(undefined));
  child.on("exit", (code) => ended.resolve(code ?? undefined));
  return { ended: ended.promise, kill: () => void child.kill("SIGKILL") };
}
