/**
 * The benchmark: `deno task bench` or `bun run bench`; see `--help`. Peers take turns, case by case and round by round,
 * on one machine; what can't be measured is said, with the reason.
 *
 * @module
 */

import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import process from "node:process";
import { bulk } from "./cases/bulk.ts";
import type { Case, Scale } from "./cases/case.ts";
import { https } from "./cases/https.ts";
import { link } from "./cases/link.ts";
import { memory } from "./cases/memory.ts";
import { names } from "./cases/names.ts";
import { pingpong } from "./cases/pingpong.ts";
import { sessions } from "./cases/sessions.ts";
import { slow } from "./cases/slow.ts";
import { visitors } from "./cases/visitors.ts";
import { drawChart } from "./chart.ts";
import { buildLoad, carries, type Endpoint, startEndpoint } from "./load/load.ts";
import { CACHE, describeMachine, stopChildren } from "./machine.ts";
import { type BenchOptions, chosen, HELP, readOptions } from "./options.ts";
import { bare } from "./peers/bare.ts";
import { bore } from "./peers/bore.ts";
import { chisel } from "./peers/chisel.ts";
import { direct } from "./peers/direct.ts";
import { frp, frpOver } from "./peers/frp.ts";
import { haproxy } from "./peers/haproxy.ts";
import { type Peer, type RunningPeer, startTunnel } from "./peers/peer.ts";
import { rathole } from "./peers/rathole.ts";
import { reference, stopReferences } from "./peers/reference.ts";
import { relay } from "./peers/relay.ts";
import { type OtherTransport, sallyport } from "./peers/sallyport.ts";
import { writeReport } from "./report.ts";
import { type PeerEntry, record, type Results } from "./results.ts";
import { judge, met } from "./targets.ts";

/** The other transports: the sealed one with each build of libsodium, and curve and QUIC, over UDP. */
const OTHERS: readonly [name: string, title: string, cases: readonly string[], OtherTransport][] = [
  ["sealed", "sealed", ["bulk", "visitors", "pingpong"], {
    transport: "sealed",
    options: ["--libsodium", "native"],
  }],
  ["sealed-wasm", "sealed, WASM", ["bulk"], { transport: "sealed", options: ["--libsodium", "wasm"] }],
  ["curve", "curve", ["bulk", "visitors", "pingpong"], { transport: "curve", options: [] }],
  ["quic", "QUIC", ["bulk", "visitors", "pingpong"], { transport: "quic", options: [] }],
];

const PEERS: readonly Peer[] = [
  direct,
  haproxy,
  bare("bun", "bare, Bun"),
  bare("deno", "bare, Deno"),
  relay("bun", "relay-bun", "two bare relays, Bun"),
  relay("deno", "relay-deno", "two bare relays, Deno"),
  sallyport("bun", "sallyport-bun", "Sallyport, Bun", "aes-cbc"),
  sallyport("deno", "sallyport-deno", "Sallyport, Deno", "aes-cbc"),
  reference("reference", "reference", "aes-cbc"),
  rathole,
  frp,
  frpOver("kcp"),
  frpOver("quic"),
  chisel,
  bore,
  sallyport("bun", "sallyport-bun-gcm", "Sallyport, Bun, GCM", "aes-gcm", ["bulk"]),
  sallyport("deno", "sallyport-deno-gcm", "Sallyport, Deno, GCM", "aes-gcm", ["bulk"]),
  ...OTHERS.flatMap(([name, title, cases, other]) => [
    sallyport("bun", `sallyport-bun-${name}`, `Sallyport, Bun, ${title}`, "aes-gcm", cases, other),
    sallyport("deno", `sallyport-deno-${name}`, `Sallyport, Deno, ${title}`, "aes-gcm", cases, other),
  ]),
  reference("reference-gcm", "reference, GCM", "aes-gcm", ["bulk"]),
];
const CASES: readonly Case[] = [bulk, visitors, pingpong, memory, sessions, slow, https, link, names];
const SCALE: Scale = { warmupMs: 700, windowMs: 2_000, sessions: 5_000, idleStreams: 2_000 };
const QUICK: Scale = { warmupMs: 300, windowMs: 700, sessions: 1_000, idleStreams: 500 };

const say = (text: string): void => void process.stderr.write(text + "\n");

async function prepare(peers: readonly Peer[], results: Results): Promise<Peer[]> {
  const ready: Peer[] = [];
  for (const peer of peers) {
    try {
      say(`prepare ${peer.name}`);
      const version = await peer.prepare();
      (results.peers as PeerEntry[]).push({ name: peer.name, title: peer.title, version });
      ready.push(peer);
    } catch (error) {
      miss(results, peer, undefined, error);
    }
  }
  return ready;
}

function miss(results: Results, peer: Peer, of: Case | undefined, error: unknown): void {
  // A child's own words come last.
  const why = (error instanceof Error ? error.message : String(error)).trim().split("\n").at(-1)!;
  say(`  ${peer.name}${of === undefined ? "" : `, ${of.name}`}: not measured: ${why}`);
  results.missing.push({ peer: peer.name, ...(of === undefined ? {} : { case: of.name }), why });
}

/** Starts a peer and waits until it carries bytes. */
async function start(peer: Peer, endpoint: Endpoint): Promise<RunningPeer> {
  return await startTunnel(() => peer.start(endpoint.port), (tunnel) => carries(tunnel, endpoint));
}

/** One case with one peer that runs. */
async function measure(
  of: Case,
  peer: Peer,
  running: RunningPeer,
  endpoint: Endpoint,
  scale: Scale,
  results: Results,
) {
  try {
    say(`  ${of.name}, ${peer.name}`);
    record(
      results,
      peer.name,
      await of.measure({
        ...{ peer: running, endpoint, scale },
        miss: (why) => miss(results, peer, of, why),
      }),
    );
  } catch (error) {
    miss(results, peer, of, error);
  }
}

async function round(
  cases: readonly Case[],
  peers: readonly Peer[],
  options: BenchOptions,
  results: Results,
) {
  const scale = options.quick ? QUICK : SCALE;
  const takesPart = (peer: Peer, of: Case): boolean =>
    (peer.cases?.includes(of.name) ?? true) && (peer.snitun === true || of.snitun !== true) &&
    (of.takes?.(peer) ?? true);
  const endpoint = await startEndpoint();
  const running = new Map<Peer, RunningPeer>();
  try {
    const shared = cases.filter((of) => !of.fresh);
    for (const peer of peers) {
      if (!shared.some((of) => takesPart(peer, of))) continue;
      await start(peer, endpoint).then(
        (tunnel) => running.set(peer, tunnel),
        (error) => miss(results, peer, undefined, error),
      );
    }
    for (const of of shared) {
      for (const [peer, tunnel] of running) {
        if (takesPart(peer, of)) await measure(of, peer, tunnel, endpoint, scale, results);
      }
    }
    for (const tunnel of running.values()) await tunnel.stop();
    running.clear();
    for (const of of cases.filter((of) => of.fresh)) {
      for (const peer of peers) {
        if (!takesPart(peer, of)) continue;
        try {
          const tunnel = await (of.start?.(peer, endpoint) ?? start(peer, endpoint));
          running.set(peer, tunnel);
          await measure(of, peer, tunnel, endpoint, scale, results);
          running.delete(peer);
          await tunnel.stop();
        } catch (error) {
          miss(results, peer, of, error);
        }
      }
    }
  } finally {
    for (const tunnel of running.values()) await tunnel.stop();
    await endpoint.stop();
  }
}

async function write(options: BenchOptions, results: Results, cases: readonly Case[]): Promise<void> {
  await mkdir(options.out, { recursive: true });
  const report = writeReport(results, cases);
  await writeFile(join(options.out, "results.json"), JSON.stringify(results, null, 1) + "\n");
  await writeFile(join(options.out, "results.md"), report);
  await writeFile(join(options.out, "chart.svg"), drawChart(results, cases));
  console.log(report);
  const judged = judge(results);
  if (judged.length > 0) say(`${judged.filter(met).length} of ${judged.length} targets reached`);
  say(`results.json, results.md and chart.svg are in ${options.out}`);
}

async function cleanUp(): Promise<void> {
  await Promise.all([stopChildren(), stopReferences()]);
  await rm(join(CACHE, "run"), { recursive: true, force: true });
}

async function main(args: string[]): Promise<number> {
  let options: BenchOptions | undefined, cases: Case[], peers: Peer[];
  try {
    options = readOptions(args);
    cases = chosen(CASES, options?.cases, "case");
    peers = chosen(PEERS, options?.peers, "peer");
  } catch (error) {
    say(error instanceof Error ? error.message : String(error));
    return 2;
  }
  if (options === undefined) {
    console.log(HELP);
    return 0;
  }
  if (process.platform !== "linux") {
    say("Cannot run: the load generator and the figures of memory and processor time need Linux");
    return 1;
  }
  const results: Results = {
    date: new Date().toISOString().slice(0, 16).replace("T", " ") + " UTC",
    machine: describeMachine(),
    rounds: options.rounds,
    quick: options.quick,
    peers: [],
    missing: [],
    values: {},
  };
  await buildLoad();
  const ready = await prepare(peers, results);
  for (let i = 1; i <= options.rounds; i++) {
    say(`round ${i} of ${options.rounds}`);
    await round(cases, ready, options, results);
  }
  await write(options, results, cases);
  return 0;
}

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.on(signal, () => void cleanUp().finally(() => process.exit(130)));
}
let code = 1;
try {
  code = await main(process.argv.slice(2));
} catch (error) {
  say(error instanceof Error ? error.message : String(error));
} finally {
  await cleanUp();
}
process.exit(code);
