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
import { setTimeout as delay } from "node:timers/promises";
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
/**
 * Quiet and attack take turns, and the visits of all turns make one sample each: a p99 of one short turn is the time of
 * half a dozen visits, and moves by more than an attack moves it.
 */
const TURNS = { rounds: 3, warmUpMs: 1_500, quietMs: 1_500, attackMs: 3_000 };
/** Where the edge's memory alone is measured. */
const ONE_TURN = { rounds: 1, warmUpMs: 0, quietMs: 300, attackMs: 4_000 };
/** What an attack leaves behind is over before the next quiet turn is measured. */
const SETTLE_MS = 300;
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
  /** One turn is enough, since the edge's memory alone is measured. */
  readonly memoryOnly?: boolean;
}

/** What became of an attack: the times of visits in its quiet turns and during it. */
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
  { runtime, edge: more = [], memoryOnly = false }: MaliceOptions,
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
    const order: AttackOrder = { attack, port, fernetKey: key, edgeKey: edgeKey?.[0] ?? "" };
    const [before, during] = [new Turns(port, edge.pid), new Turns(port, edge.pid)];
    const { rounds, warmUpMs, quietMs, attackMs } = memoryOnly ? ONE_TURN : TURNS;
    await visits(port, warmUpMs);
    let [startMib, sessions] = [0, 0];
    for (let round = 0; round < rounds; round++) {
      await before.take(quietMs);
      startMib ||= await mebibytes(edge.pid);
      attacker = new Program([JSON.stringify(order)], {}, undefined, {
        ...{ command: on.command, foreign: true },
        args: [...on.args, ATTACKER],
      });
      await attacker.seen(/started/);
      await during.take(attackMs);
      attacker.signal("SIGTERM");
      sessions += Number((await attacker.seen(/sessions (\d+)/))[1]);
      await attacker.ended;
      await delay(SETTLE_MS);
    }
    if (process.env["SALLYPORT_MALICE_LOG"] !== undefined) console.log(edge.stderr.slice(-3_000));
    return {
      attack,
      before: quantiles(before.ms),
      during: quantiles(during.ms),
      failed: during.failed,
      startMib,
      peakMib: during.peakMib,
      processor: { before: before.processor, during: during.processor },
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

/** The visits of a neighbour in all quiet turns, or during all turns of an attack, and what the edge used meanwhile. */
class Turns {
  readonly ms: number[] = [];
  failed = 0;
  peakMib = 0;
  #tookMs = 0;
  #usedSeconds = 0;

  constructor(readonly port: number, readonly pid: number) {}

  /** Processor seconds a second. */
  get processor(): number {
    return this.#usedSeconds / (this.#tookMs / 1000);
  }

  async take(forMs: number): Promise<void> {
    const [sinceMs, used] = [performance.now(), await processorSeconds(this.pid)];
    const watch = setInterval(
      () => void mebibytes(this.pid).then((now) => this.peakMib = Math.max(this.peakMib, now)),
      100,
    );
    const { ms, failed } = await visits(this.port, forMs);
    clearInterval(watch);
    this.ms.push(...ms);
    this.failed += failed;
    this.#usedSeconds += await processorSeconds(this.pid) - used;
    this.#tookMs += performance.now() - sinceMs;
  }
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
      await delay(PAUSE_MS);
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

async function processorSeconds(pid: number): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => "");
  const fields = stat.replace(/^.*\) /, "").split(" ");
  return (Number(fields[11] ?? 0) + Number(fields[12] ?? 0)) / TICKS_PER_SECOND;
}

async function mebibytes(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, "utf8").catch(() => "");
  return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? 0) / 1024;
}
