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
/** A visit may take so many times as long as while another edge beside this one is attacked. */
const BESIDE_RATIO_MAX = 1.2;

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
const ENDPOINT = fileURLToPath(new URL("../endpoint.ts", import.meta.url).href);
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
  /** The same while another edge beside this one is attacked; measured where the attack takes more than twice the time. */
  readonly beside: { readonly p50: number; readonly p99: number } | undefined;
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
  const order: AttackOrder = { attack: "list", port: 0, fernetKey: fernetKey(), domain: "", edgeKey: "" };
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

/** An edge process, with a neighbour's agent in this process. */
interface Site {
  readonly port: number;
  readonly edge: Program;
  readonly edgeKey: string;
}

async function suffer(
  attack: string,
  { runtime, edge: more = [], memoryOnly = false }: MaliceOptions,
): Promise<MaliceRow> {
  const folder = await mkdtemp(join(tmpdir(), "sallyport-malice-"));
  const fernet = fernetKey();
  const port = await freePorts(3);
  const on = ON[runtime];
  const agents = await startOwnAgent();
  const programs: Program[] = [];
  const start = (file: string, argument: string): Program => {
    const program = new Program([argument], {}, undefined, {
      ...{ command: on.command, foreign: true },
      args: [...on.args, file],
    });
    programs.push(program);
    return program;
  };
  const open = async (port: number): Promise<Site> => {
    const data = join(folder, String(port));
    const edge = new Program(
      ["edge", "--listen", `127.0.0.1:${port}`, "--fernet-keys", fernet, "--data-dir", data, ...more],
      {},
      undefined,
      on,
    );
    programs.push(edge);
    await edge.seen(/is up|Sallyport [\d.]+ on/);
    const keys = edge.stdout.split("\n").filter((line) => /key/.test(line)).join("\n");
    await agents.connect({
      token: issueToken(fernet, { hostname: NAME }),
      edge: { host: "127.0.0.1", port },
      endpointPort,
    } as never);
    return { port, edge, edgeKey: /[\w-]{43}(?![\w-])/.exec(keys)?.[0] ?? "" };
  };
  const endpointPort = port + 2;
  try {
    await start(ENDPOINT, String(endpointPort)).seen(/is up/);
    const site = await open(port);
    const { rounds, warmUpMs, quietMs, attackMs } = memoryOnly ? ONE_TURN : TURNS;
    const [before, during, beside] = [new Turns(site), new Turns(site), new Turns(site)];
    let [startMib, sessions] = [0, 0];
    /** Visits one site while one is attacked, the same or another. */
    const underAttack = async (turns: Turns, attacked: Site): Promise<number> => {
      const order: AttackOrder = {
        ...{ attack, port: attacked.port, fernetKey: fernet, edgeKey: attacked.edgeKey },
        domain: `${turns.taken}.example.org`,
      };
      const attacker = start(ATTACKER, JSON.stringify(order));
      await attacker.seen(/started/);
      await turns.take(attackMs);
      attacker.signal("SIGTERM");
      const opened = Number((await attacker.seen(/sessions (\d+)/))[1]);
      await attacker.ended;
      await delay(SETTLE_MS);
      return opened;
    };
    await visits(port, warmUpMs);
    const compare = async (): Promise<void> => {
      for (let round = 0; round < rounds; round++) {
        await before.take(quietMs);
        startMib ||= await mebibytes(site.edge.pid);
        sessions += await underAttack(during, site);
      }
    };
    const isNoticed = () => !memoryOnly && ratioOf(during, before) > RATIO_MAX;
    await compare();
    // A percentile of so few visits varies by half: the sample is doubled before it is believed.
    if (isNoticed()) await compare();
    if (isNoticed()) {
      const other = await open(port + 1);
      for (let round = 0; round < rounds; round++) await underAttack(beside, other);
    }
    if (process.env["SALLYPORT_MALICE_LOG"] !== undefined) console.log(site.edge.stderr.slice(-3_000));
    return {
      attack,
      before: before.quantiles,
      during: during.quantiles,
      beside: beside.ms.length === 0 ? undefined : beside.quantiles,
      failed: during.failed,
      startMib,
      peakMib: during.peakMib,
      processor: { before: before.processor, during: during.processor },
      sessions,
    };
  } finally {
    await agents.stop();
    for (const program of programs) await program.kill();
    await rm(folder, { recursive: true, force: true });
  }
}

/**
 * Whether the neighbours hardly noticed, or no more than if another edge on the same cores were attacked: what they lose
 * then, attacker, agents and visitors take from each other.
 */
export function isBorne({ before, during, beside, failed }: MaliceRow): boolean {
  const most = Math.max(RATIO_MAX * before.p99, BESIDE_RATIO_MAX * (beside?.p99 ?? 0));
  return failed === 0 && during.p99 <= most;
}

function ratioOf(during: Turns, before: Turns): number {
  return during.quantiles.p99 / before.quantiles.p99;
}

/** The visits of a neighbour in all quiet turns, or during all turns of an attack, and what the edge used meanwhile. */
class Turns {
  readonly ms: number[] = [];
  taken = 0;
  failed = 0;
  peakMib = 0;
  #tookMs = 0;
  #usedSeconds = 0;

  constructor(readonly site: Site) {}

  get quantiles(): { readonly p50: number; readonly p99: number } {
    return quantiles(this.ms);
  }

  /** Processor seconds a second. */
  get processor(): number {
    return this.#usedSeconds / (this.#tookMs / 1000);
  }

  async take(forMs: number): Promise<void> {
    this.taken++;
    const { port, edge: { pid } } = this.site;
    const [sinceMs, used] = [performance.now(), await processorSeconds(pid)];
    const watch = setInterval(
      () => void mebibytes(pid).then((now) => this.peakMib = Math.max(this.peakMib, now)),
      100,
    );
    const { ms, failed } = await visits(port, forMs);
    clearInterval(watch);
    this.ms.push(...ms);
    this.failed += failed;
    this.#usedSeconds += await processorSeconds(pid) - used;
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
