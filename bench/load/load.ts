/**
 * The load generator and the endpoint: built from C, run as children.
 *
 * @module
 */

import { createHash } from "node:crypto";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { ChildEvent, LineChild } from "../../tests/support/child.ts";
import {
  CACHE,
  cacheFolder,
  exists,
  pause,
  ROOT,
  run,
  startChild,
  stopChild,
  Unavailable,
} from "../machine.ts";
import { type RunningPeer, SERVER_NAME } from "../peers/peer.ts";

const SOURCES = join(ROOT, "bench", "load");
const PROGRAM = join(CACHE, "load");
/** Set-up within the load program, and its end. */
const MARGIN_MS = 30_000;

/** Builds the load program unless it was built from the same sources: a copied folder has times of its own. */
export async function buildLoad(): Promise<void> {
  const files = (await readdir(SOURCES)).filter((name) => /\.[ch]$/.test(name)).sort().map((name) =>
    join(SOURCES, name)
  );
  const digest = createHash("sha256");
  for (const file of files) digest.update(await readFile(file));
  const built = digest.digest("hex");
  const stamp = `${PROGRAM}.sha256`;
  if (await exists(PROGRAM) && await readFile(stamp, "utf8").catch(() => "") === built) return;
  await cacheFolder();
  const sources = files.filter((name) => name.endsWith(".c"));
  await run("cc", ["-std=gnu11", "-D_GNU_SOURCE", "-O2", "-Wall", "-o", PROGRAM, ...sources, "-lpthread"])
    .catch((error) => {
      throw new Unavailable(`the load generator needs a C compiler: ${(error as Error).message}`);
    });
  await writeFile(stamp, built);
}

/** The endpoint behind all tunnels. */
export interface Endpoint {
  readonly port: number;
  readonly pid: number;
  /** Resolves once no visitor is left, or rejects when some stay. */
  quiet(): Promise<void>;
  stop(): Promise<void>;
}

/** Starts the endpoint. */
export async function startEndpoint(): Promise<Endpoint> {
  const child = startChild(PROGRAM, ["endpoint", "127.0.0.1:0"]);
  const port = Number((await child.event("ready")).port);
  return {
    port,
    pid: child.pid,
    async quiet(): Promise<void> {
      let left = 0;
      for (let i = 0; i < 150; i++) {
        left = Number((await loadOnce(["connections", "--query", `127.0.0.1:${port}`])).connections);
        if (left === 0) return;
        await pause(100);
      }
      throw new Error(`${left} connections stayed open at the endpoint after the visitors had gone`);
    },
    stop: () => stopChild(child),
  };
}

/** Starts an endpoint that answers HTTP requests in plain text. */
export async function startHttpEndpoint(): Promise<{ readonly port: number; stop(): Promise<void> }> {
  const child = startChild(PROGRAM, ["http", "127.0.0.1:0"]);
  return { port: Number((await child.event("ready")).port), stop: () => stopChild(child) };
}

/** Starts a long way to a port of this machine; answers the port at which it begins. */
export async function startRelay(
  toPort: number,
  delayMs: number,
): Promise<{ readonly port: number; stop(): Promise<void> }> {
  const child = startChild(PROGRAM, ["relay", "127.0.0.1:0", `127.0.0.1:${toPort}`, String(delayMs)]);
  return { port: Number((await child.event("ready")).port), stop: () => stopChild(child) };
}

/** What visitors do; see the modes in visitors.c. */
export interface LoadOptions {
  readonly peer: RunningPeer;
  readonly endpoint: Endpoint;
  readonly streams?: number;
  readonly warmupMs?: number;
  readonly windowMs: number;
  readonly intervalMs?: number;
  /** Visitors ask for so many names in turn; the usual one when absent. */
  readonly names?: number;
  readonly upload?: boolean;
  /** What a visitor of `fetch` downloads before it leaves. */
  readonly bytes?: number;
  readonly stalled?: boolean;
  /** Processes whose processor seconds are counted. */
  readonly pids?: readonly number[];
}

/** A mode of the load program. */
export type LoadMode = "bulk" | "visitors" | "pingpong" | "fetch" | "hold";

/** Runs a load to its end and answers its result. */
export function runLoad(mode: LoadMode, options: LoadOptions): Promise<ChildEvent> {
  return loadOnce(loadArgs(mode, options), (options.warmupMs ?? 0) + options.windowMs + MARGIN_MS);
}

/** A load that goes on beside something else. */
export interface BackgroundLoad {
  /** Ends it; the result of a mode that has one. */
  stop(): Promise<ChildEvent | undefined>;
}

/** Starts a load and resolves once it is under way; it ends after `windowMs` at the latest. */
export async function startLoad(mode: LoadMode, options: LoadOptions): Promise<BackgroundLoad> {
  const child = startChild(PROGRAM, [...loadArgs(mode, options), "--background"]);
  try {
    await child.event("running", undefined, MARGIN_MS);
  } catch (error) {
    await stopChild(child);
    throw error;
  }
  return {
    async stop(): Promise<ChildEvent | undefined> {
      child.endInput();
      const done = mode === "hold" ? undefined : await child.event("done");
      await stopChild(child);
      return done;
    },
  };
}

/** Resolves once the tunnel carries a visitor to the endpoint. */
export async function carries(peer: RunningPeer, endpoint: Endpoint): Promise<void> {
  for (let attempt = 0; attempt < 100; attempt++) {
    const tried = await runLoad("visitors", { peer, endpoint, windowMs: 100, intervalMs: 20 }).catch(() =>
      undefined
    );
    if (Number(tried?.count ?? 0) > 0) return;
    await pause(100);
  }
  throw new Unavailable("it started, but no visitor reached the endpoint through it");
}

function loadArgs(mode: LoadMode, options: LoadOptions): string[] {
  return [
    ...[
      mode,
      "--to",
      options.peer.visitors,
      "--query",
      `127.0.0.1:${options.endpoint.port}`,
      "--name",
      SERVER_NAME,
    ],
    ...["--streams", String(options.streams ?? 1), "--warmup-ms", String(options.warmupMs ?? 0)],
    ...["--window-ms", String(options.windowMs), "--interval-ms", String(options.intervalMs ?? 0)],
    ...(options.names === undefined ? [] : ["--names", String(options.names)]),
    ...(options.upload ? ["--upload"] : []),
    ...(options.bytes === undefined ? [] : ["--bytes", String(options.bytes)]),
    ...(options.stalled ? ["--stalled"] : []),
    ...(options.pids ?? []).flatMap((pid) => ["--pid", String(pid)]),
  ];
}

async function loadOnce(args: readonly string[], timeoutMs = MARGIN_MS): Promise<ChildEvent> {
  const child: LineChild = startChild(PROGRAM, args);
  try {
    return await child.event("done", undefined, timeoutMs);
  } finally {
    await stopChild(child);
  }
}
