/**
 * What the bench asks of the machine: programs to run, memory and processes to look at. Linux only.
 *
 * @module
 */

import { execFile } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { access, cp, mkdir } from "node:fs/promises";
import { createServer } from "node:net";
import { cpus, release, totalmem } from "node:os";
import { dirname, join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { LineChild } from "../tests/support/child.ts";
import { accepts, portOf } from "../tests/support/plain_peer.ts";

/** The repository's root. */
export const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
/** Where installed peers and built programs are kept between runs. */
export const CACHE = join(ROOT, ".cache", "bench");
/** Where results go unless told otherwise. */
export const RESULTS = join(ROOT, "bench", "results");

/** What Linux counts processor time in: hundredths of a second, everywhere that matters. */
const CLOCK_TICKS = 100;
const BUILD_LIMIT_MS = 20 * 60_000;
const LISTEN_LIMIT_MS = 10_000;

/** A peer can't be measured here; the message says why, and what would help. */
export class Unavailable extends Error {}

/** Runs a program to its end and answers its stdout; rejects with the end of its stderr. */
export function run(
  program: string,
  args: readonly string[],
  options: { cwd?: string; env?: Record<string, string>; timeoutMs?: number } = {},
): Promise<string> {
  return new Promise((resolve, reject) => {
    execFile(
      program,
      [...args],
      {
        cwd: options.cwd,
        env: { ...process.env, ...options.env },
        timeout: options.timeoutMs ?? BUILD_LIMIT_MS,
        maxBuffer: 64 << 20,
      },
      (error, stdout, stderr) => {
        if (error === null) return resolve(stdout.trim());
        const words = stderr.trim().split("\n").slice(-3).join(" ");
        reject(new Unavailable(`"${program} ${args.join(" ")}" failed: ${words || error.message}`));
      },
    );
  });
}

/** What builds peers, and where it is to be had. */
const BUILDERS = {
  cargo: "Rust, which https://rustup.rs installs",
  go: "Go, which https://go.dev/dl has",
} as const;

/**
 * Builds the peer `name` with such a program.
 *
 * @throws {Unavailable} with what is missing and how to go on without it.
 */
export async function build(
  name: string,
  builder: keyof typeof BUILDERS,
  args: readonly string[],
  options: Parameters<typeof run>[2] = {},
): Promise<string> {
  const without = `or leave ${name} out with --peers`;
  await run(builder, [builder === "go" ? "version" : "--version"], options).catch(() => {
    throw new Unavailable(`Cannot build ${name}: it needs ${BUILDERS[builder]}; install it, ${without}`);
  });
  return await run("nice", [builder, ...args], options).catch((error) => {
    const why = (error as Error).message.replaceAll("\n", " ");
    throw new Unavailable(`Cannot build ${name}: ${why}. Try again when the registry answers, ${without}`);
  });
}

/** Builds commands of a Go module, inside a copy of it, into the folder `bin` of the cache's folder `name`. */
export async function buildGo(name: string, module: string, commands: readonly string[]): Promise<void> {
  const folder = await cacheFolder(name);
  const download = await build(name, "go", ["mod", "download", "-json", module], { cwd: folder });
  const source = join(folder, "source");
  await cp((JSON.parse(download) as { Dir: string }).Dir, source, { recursive: true });
  await run("chmod", ["-R", "u+w", source]);
  await build(name, "go", ["build", "-trimpath", "-o", `${join(folder, "bin")}/`, ...commands], {
    cwd: source,
    env: { CGO_ENABLED: "0" },
  });
}

/** True when a file is there. */
export function exists(path: string): Promise<boolean> {
  return access(path).then(() => true, () => false);
}

/** The path of a folder under the cache, made when absent. */
export async function cacheFolder(...names: string[]): Promise<string> {
  const folder = join(CACHE, ...names);
  await mkdir(folder, { recursive: true });
  return folder;
}

/** Ports of 127.0.0.1 that are free now, all different. */
export async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer());
  await Promise.all(
    servers.map((server) => new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))),
  );
  const ports = servers.map(portOf);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}

/** Resolves once a port of 127.0.0.1 accepts connections; rejects with {@link Unavailable} after `withinMs`. */
export async function listens(port: number, withinMs = LISTEN_LIMIT_MS): Promise<void> {
  const untilMs = Date.now() + withinMs;
  while (!await accepts(port)) {
    if (Date.now() >= untilMs) throw new Unavailable(`it started, but doesn't listen on port ${port}`);
    await pause(20);
  }
}

const children = new Set<LineChild>();

/** Starts a child that {@link stopChildren} ends with the bench. Bounds on open files and its priority are inherited. */
export function startChild(
  command: string,
  args: readonly string[],
  options: { env?: Record<string, string>; cwd?: string } = {},
): LineChild {
  const child = LineChild.start({ command, args, ...options });
  children.add(child);
  return child;
}

/** Ends one child. */
export async function stopChild(child: LineChild): Promise<void> {
  children.delete(child);
  await child.stop("SIGTERM", 2_000);
}

/** Ends all children that were started here. */
export async function stopChildren(): Promise<void> {
  await Promise.all([...children].map(stopChild));
}

/** A process and all its descendants. */
export function processTree(pid: number): number[] {
  const tree = [pid];
  for (let i = 0; i < tree.length; i++) {
    for (const task of list(`/proc/${tree[i]}/task`)) {
      const text = read(`/proc/${tree[i]}/task/${task}/children`);
      tree.push(...text.split(" ").filter((word) => word !== "").map(Number));
    }
  }
  return tree;
}

/** Processor seconds of a process so far, over all its threads. */
export function cpuSeconds(pid: number): number {
  const fields = read(`/proc/${pid}/stat`).split(") ").at(-1)?.split(" ") ?? [];
  return (Number(fields[11] ?? 0) + Number(fields[12] ?? 0)) / CLOCK_TICKS;
}

/** Resident bytes of some processes, added up. */
export function residentBytes(pids: readonly number[]): number {
  let total = 0;
  for (const pid of pids) {
    total += Number(/^VmRSS:\s+(\d+) kB/m.exec(read(`/proc/${pid}/status`))?.[1] ?? 0) * 1024;
  }
  return total;
}

/** The machine in a few words, for the report. */
export function describeMachine(): Record<string, string> {
  const cpu = cpus();
  return {
    processors: `${cpu.length} × ${cpu[0]?.model.trim() || "unknown"}`,
    memory: `${Math.round(totalmem() / 2 ** 30)} GiB`,
    kernel: `Linux ${release()}`,
    load: read("/proc/loadavg").split(" ").slice(0, 3).join(" "),
  };
}

/** Resolves after `ms` milliseconds. */
export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** The median of at least one value. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

function read(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}

function list(path: string): string[] {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
}
