/**
 * Attacks on an edge from inside and outside, and what its other users notice of them: the time of a visit before and
 * during each, and the edge's memory.
 *
 * @module
 */
import { execFileSync } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { fernetKey, issueToken } from "../../support/tokens.ts";
import { Program } from "../../cli/program.ts";
import { clientHello } from "../../support/client_hello.ts";
import { freePorts } from "../../support/free_ports.ts";
import { startOwnAgent } from "../../interop/own.ts";
import type { AttackOrder } from "./attacker.ts";

/** A neighbour's visit may take so many times as long under attack. */
export const RATIO_MAX = 2;
/** Below this, nobody notices: what the two programs of a measurement do to each other on few cores. */
const UNNOTICED_MS = 50;

const NAME = "a.example.org";
const VISITORS = 4;
const PAUSE_MS = 10;
const WARM_UP_MS = 1_500;
const BEFORE_MS = 2_500;
const DURING_MS = 4_000;
const VISIT_MAX_MS = 10_000;
const ATTACKER = fileURLToPath(new URL("./attacker.ts", import.meta.url).href);

/** How a program is started. */
const ON = {
  deno: { command: "deno", args: ["run", "-A", "--no-check"] },
  bun: { command: "bun", args: [] as string[] },
};

/** What a run takes. */
export interface MaliceOptions {
  readonly runtime: "deno" | "bun";
  /** Attacks whose name contains this. */
  readonly only?: string | undefined;
  /** More arguments of the edge. */
  readonly edge?: readonly string[];
  /** How long its neighbours are visited before, and before that. */
  readonly beforeMs?: number;
  readonly warmUpMs?: number;
}

/** What became of an attack. */
export interface MaliceRow {
  readonly attack: string;
  readonly before: { readonly p50: number; readonly p99: number };
  readonly during: { readonly p50: number; readonly p99: number };
  readonly failed: number;
  readonly startMib: number;
  readonly peakMib: number;
  /** Processor seconds a second that the edge used before and during the attack: unlike times, no matter of load. */
  readonly processor: { readonly before: number; readonly during: number };
  /** Sessions that the attacker opened: each came after the end of another. */
  readonly sessions: number;
}

/** The names of all attacks. */
function attacks(runtime: "deno" | "bun"): readonly string[] {
  const order: AttackOrder = { attack: "list", port: 0, fernetKey: fernetKey(), edgeKey: "" };
  const { command, args } = ON[runtime];
  const listed = execFileSync(command, [...args, ATTACKER, JSON.stringify(order)], { encoding: "utf8" });
  return JSON.parse(listed) as string[];
}

/** Runs attacks one by one, each on an edge of its own. */
export async function* malice(options: MaliceOptions): AsyncGenerator<MaliceRow> {
  for (const attack of attacks(options.runtime)) {
    if (options.only === undefined || attack.includes(options.only)) yield await suffer(attack, options);
  }
}

async function suffer(
  attack: string,
  { runtime, edge: more = [], beforeMs = BEFORE_MS, warmUpMs = WARM_UP_MS }: MaliceOptions,
): Promise<MaliceRow> {
  const folder = await mkdtemp(join(tmpdir(), "sallyport-malice-"));
  const key = fernetKey();
  const port = await freePorts(1);
  const on = ON[runtime];
  const edge = new Program(
    ["edge", "--listen", `127.0.0.1:${port}`, "--fernet-keys", key, "--data-dir", folder, ...more],
    {},
    undefined,
    on,
  );
  const agents = await startOwnAgent();
  const endpoint = new Program([String(port + 1)], {}, undefined, {
    ...{ command: on.command, foreign: true },
    args: [...on.args, fileURLToPath(new URL("../endpoint.ts", import.meta.url).href)],
  });
  let attacker: Program | undefined;
  try {
    await Promise.all([edge.seen(/is up|Sallyport [\d.]+ on/), endpoint.seen(/is up/)]);
    const edgeKey = /[\w-]{43}(?![\w-])/.exec(
      edge.stdout.split("\n").filter((line) => /key/.test(line)).join("\n"),
    );
    await agents.connect({
      token: issueToken(key, { hostname: NAME }),
      edge: { host: "127.0.0.1", port },
      endpointPort: port + 1,
    } as never);
    await visits(port, warmUpMs);
    const used = processorUse(edge.pid);
    await used();
    const before = await visits(port, beforeMs);
    const usedBefore = await used();
    const startMib = await mebibytes(edge.pid);
    const order: AttackOrder = { attack, port, fernetKey: key, edgeKey: edgeKey?.[0] ?? "" };
    attacker = new Program([JSON.stringify(order)], {}, undefined, {
      ...{ command: on.command, foreign: true },
      args: [...on.args, ATTACKER],
    });
    await attacker.seen(/started/);
    let peakMib = 0;
    const watch = setInterval(
      () => void mebibytes(edge.pid).then((now) => peakMib = Math.max(peakMib, now)),
      100,
    );
    await used();
    const during = await visits(port, DURING_MS);
    const usedDuring = await used();
    clearInterval(watch);
    attacker.signal("SIGTERM");
    const sessions = Number((await attacker.seen(/sessions (\d+)/))[1]);
    if (process.env["SALLYPORT_MALICE_LOG"] !== undefined) console.log(edge.stderr.slice(-3_000));
    return {
      attack,
      before: quantiles(before.ms),
      during: quantiles(during.ms),
      failed: during.failed,
      startMib,
      peakMib,
      processor: { before: usedBefore, during: usedDuring },
      sessions,
    };
  } finally {
    await attacker?.kill();
    await agents.stop();
    await edge.kill();
    await endpoint.kill();
    await rm(folder, { recursive: true, force: true });
  }
}

/** Whether the neighbours hardly noticed. */
export function isBorne({ before, during, failed }: MaliceRow): boolean {
  return failed === 0 && (during.p99 <= RATIO_MAX * before.p99 || during.p99 <= UNNOTICED_MS);
}

/** Visits a neighbour for this long; a visit ends with the first byte that comes back. */
async function visits(port: number, forMs: number): Promise<{ ms: number[]; failed: number }> {
  const ms: number[] = [];
  let failed = 0;
  const endMs = performance.now() + forMs;
  await Promise.all(Array.from({ length: VISITORS }, async () => {
    while (performance.now() < endMs) {
      const took = await visit(port);
      if (took === undefined) failed++;
      ms.push(took ?? VISIT_MAX_MS);
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    }
  }));
  return { ms, failed };
}

function visit(port: number): Promise<number | undefined> {
  const sinceMs = performance.now();
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1", () => {
      socket.write(clientHello(NAME));
      socket.write("x");
    });
    const end = (served: boolean) => {
      clearTimeout(timer);
      socket.destroy();
      resolve(served ? performance.now() - sinceMs : undefined);
    };
    const timer = setTimeout(() => end(false), VISIT_MAX_MS);
    socket.on("data", (chunk) => end(chunk[0] === 0x78));
    socket.on("error", () => end(false));
    socket.on("close", () => end(false));
  });
}

function quantiles(values: number[]): { p50: number; p99: number } {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;
  return { p50: at(0.5), p99: at(0.99) };
}

const TICKS_PER_SECOND = 100;

/** Each call gives the processor seconds a second since the one before. */
function processorUse(pid: number): () => Promise<number> {
  let [ticks, atMs] = [0, performance.now()];
  return async () => {
    const stat = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => "");
    const fields = stat.replace(/^.*\) /, "").split(" ");
    const [nowTicks, nowMs] = [Number(fields[11] ?? 0) + Number(fields[12] ?? 0), performance.now()];
    const share = (nowTicks - ticks) / TICKS_PER_SECOND / ((nowMs - atMs) / 1000);
    [ticks, atMs] = [nowTicks, nowMs];
    return share;
  };
}

async function mebibytes(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, "utf8").catch(() => "");
  return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? 0) / 1024;
}
