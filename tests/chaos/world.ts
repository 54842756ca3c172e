/**
 * An edge, a session master, an agent behind a relay and its endpoint, each a process of one runtime, and visitors.
 *
 * @module
 */
import { randomBytes } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { Program } from "../cli/program.ts";
import { clientHello } from "../support/client_hello.ts";
import { freePorts } from "../support/free_ports.ts";
import { Relay, UdpRelay } from "./relay.ts";

/** A part that is a process. */
export type Part = "edge" | "master" | "agent" | "endpoint";
/** All of them, in the order in which they start. */
export const PARTS: readonly Part[] = ["endpoint", "edge", "master", "agent"];
/** A runtime's name. */
export type RuntimeName = "deno" | "bun";

const CLOCK = fileURLToPath(new URL("./clock.ts", import.meta.url).href);
const COLLECT = fileURLToPath(new URL("./collect.ts", import.meta.url).href);
const NAME = "a.example.org";
/** A visit that has no end by then hangs: the longest that anything is waited for on the way, with room. */
export const VISIT_MAX_MS = 60_000;
const VISIT_BYTES = 96 * 1024;
const VISITORS = 4;
const FAILURES_KEPT = 5;

/** How visits ended. `wrong`: a byte came that wasn't sent. */
export interface Visits {
  served: number;
  refused: number;
  hung: number;
  wrong: number;
  longestMs: number;
  /** How the first that weren't served ended. */
  readonly failures: string[];
}

/** How a part is started. */
export interface Launch {
  /** Words of a shell before the program, and after its arguments. */
  readonly before?: string;
  readonly behind?: string;
  /** The program is started in a mount namespace of its own. */
  readonly ownMounts?: boolean;
  /** Its wall clock can be set: see {@link World.setClock}. */
  readonly clock?: boolean;
  /** The session goes over the curve transport. */
  readonly curve?: boolean;
}

/** All that runs. */
export class World {
  readonly programs = new Map<Part, Program>();
  relay!: Relay;
  /** Between agent and edge where they use the curve transport. */
  udpRelay!: UdpRelay;
  visits: Visits = noVisits();
  /** The pause of each visitor after a visit. */
  pauseMs = 0;
  #loading = false;
  #load: Promise<void>[] = [];
  #ports!: { edge: number; master: number; endpoint: number; relay: number; curve: number; udpRelay: number };

  /** @param collects garbage is collected every few seconds: memory that remains is in use */
  constructor(readonly runtime: RuntimeName, readonly folder: string, readonly collects = false) {}

  /** Starts everything, and waits for the first visit that is served. */
  async start(): Promise<void> {
    const first = await freePorts(6);
    this.#ports = {
      edge: first,
      master: first + 1,
      endpoint: first + 2,
      relay: first + 3,
      curve: first + 4,
      udpRelay: first + 5,
    };
    this.relay = new Relay(this.#ports.relay, this.#ports.edge);
    this.udpRelay = new UdpRelay(this.#ports.udpRelay, this.#ports.curve);
    for (const part of PARTS) await this.launch(part);
    await this.recovered();
  }

  /** How a visit begins. */
  get hello(): Uint8Array {
    return clientHello(NAME);
  }

  /** Asks the session master to add an agent, which it has to store; gives the status. */
  async addAgent(hostname: string): Promise<number> {
    const key = (await readFile(join(this.folder, "data", "admin.key"), "utf8")).trim();
    const answer = await fetch(`http://127.0.0.1:${this.#ports.master}/v1/agents`, {
      method: "POST",
      headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
      body: JSON.stringify({ name: hostname, hostnames: [hostname] }),
    });
    await answer.body?.cancel();
    return answer.status;
  }

  /** Where visitors come in. */
  get edgePort(): number {
    return this.#ports.edge;
  }

  /** The folder where a part keeps its state. */
  dataOf(part: Part): string {
    return join(this.folder, part === "agent" ? "agent" : "data");
  }

  /** Sets the wall clock of a part that was started with one to set. */
  async setClock(part: Part, aheadMs: number): Promise<void> {
    await writeFile(this.#clockOf(part), String(aheadMs));
  }

  /** Starts one part, and waits until it says that it is up. */
  async launch(part: Part, how: Launch = {}): Promise<void> {
    const { edge, master, endpoint, relay, curve, udpRelay } = this.#ports;
    const data = ["--data-dir", this.dataOf(part)];
    const args: Record<Part, string[]> = {
      endpoint: [String(endpoint)],
      edge: [
        ...["edge", "--listen", `127.0.0.1:${edge}`, ...data],
        ...how.curve === true ? ["--curve-listen", `127.0.0.1:${curve}`] : [],
      ],
      master: [
        ...[
          "master",
          "--master-listen",
          `127.0.0.1:${master}`,
          "--public-address",
          `127.0.0.1:${edge}`,
          ...data,
        ],
      ],
      agent: [
        ...[
          "agent",
          "--master",
          `http://127.0.0.1:${master}`,
          "--edge",
          `127.0.0.1:${how.curve === true ? udpRelay : relay}`,
          ...how.curve === true ? ["--transport", "curve"] : [],
          "--hostname",
          NAME,
        ],
        ...[
          "--credential-file",
          join(this.folder, "data", "admin.key"),
          "--to",
          `127.0.0.1:${endpoint}`,
          ...data,
        ],
      ],
    };
    const preload = how.clock === true ? ["--preload", CLOCK] : this.collects ? ["--preload", COLLECT] : [];
    const own = this.runtime === "deno"
      ? { command: "deno", args: ["run", "-A", "--no-check", "--v8-flags=--expose-gc", ...preload] }
      : { command: "bun", args: preload };
    const { before = ":", behind = "", ownMounts = false } = how;
    const shell = ["/bin/sh", "-c", `${before}; exec "$0" "$@" ${behind}`, own.command, ...own.args];
    const [command = "", ...words] = ownMounts ? ["unshare", "--mount", ...shell] : shell;
    const on = before === ":" && behind === "" ? own : { command, args: words };
    const env = { CHAOS_CLOCK: this.#clockOf(part) };
    const script = fileURLToPath(new URL("./endpoint.ts", import.meta.url).href);
    const program = part === "endpoint"
      ? new Program(args.endpoint, {}, undefined, { ...on, args: [...on.args, script], foreign: true })
      : new Program(args[part], env, undefined, on);
    this.programs.set(part, program);
    await program.seen(/is up|Sallyport [\d.]+ on/);
    if (part === "edge") await this.relay.open();
  }

  /** Sends a part a signal. */
  signal(part: Part, name: "SIGKILL" | "SIGSTOP" | "SIGCONT" | "SIGTERM"): void {
    process.kill(this.programs.get(part)!.pid, name);
  }

  /** Kills a part at once, and waits until it is gone. */
  async kill(part: Part): Promise<void> {
    if (part === "edge") this.relay.refuse();
    await this.programs.get(part)!.kill();
  }

  /** Resolves at the first visit that is served, with how long that took. Rejects after a while. */
  async recovered(maxMs = VISIT_MAX_MS): Promise<number> {
    const sinceMs = performance.now();
    for (;;) {
      const visit = noVisits();
      // One that hangs mustn't hide that the next would be served.
      await Promise.race([this.visit(visit), new Promise((resolve) => setTimeout(resolve, 2_000))]);
      const tookMs = performance.now() - sinceMs;
      if (visit.served > 0) return tookMs;
      if (tookMs > maxMs) throw new Error(`no visit was served within ${Math.round(tookMs / 1000)} s`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  /** Begins to visit all the time, with this pause after each visit until `pauseMs` is set anew. */
  load(pauseMs = 20): void {
    this.visits = noVisits();
    this.pauseMs = pauseMs;
    this.#loading = true;
    this.#load = Array.from({ length: VISITORS }, async () => {
      while (this.#loading) {
        await this.visit(this.visits);
        await new Promise((resolve) => setTimeout(resolve, this.pauseMs));
      }
    });
  }

  /** Waits for the visits under way, and says how all of them ended. */
  async unload(): Promise<Visits> {
    this.#loading = false;
    await Promise.all(this.#load);
    return this.visits;
  }

  /** One visit: bytes there and back. Never rejects. */
  visit(into: Visits): Promise<void> {
    const sent = randomBytes(VISIT_BYTES);
    const sinceMs = performance.now();
    let got = 0;
    return new Promise((resolve) => {
      const socket = connect(this.#ports.edge, "127.0.0.1", () => {
        socket.write(clientHello(NAME));
        socket.write(sent);
      });
      const end = (how: "served" | "refused" | "hung" | "wrong", why = "") => {
        clearTimeout(timer);
        socket.removeAllListeners();
        socket.on("error", () => {});
        socket.destroy();
        into[how]++;
        const tookMs = performance.now() - sinceMs;
        into.longestMs = Math.max(into.longestMs, tookMs);
        if (how !== "served" && into.failures.length < FAILURES_KEPT) {
          const at = new Date().toISOString();
          into.failures.push(`${at}: ${how} after ${Math.round(tookMs)} ms and ${got} bytes ${why}`);
        }
        resolve();
      };
      const timer = setTimeout(() => end("hung"), VISIT_MAX_MS);
      socket.on("data", (chunk: Buffer<ArrayBufferLike>) => {
        // An edge's alert is seven bytes of TLS, in place of the endpoint's.
        const alert = got === 0 && chunk.length === 7 && chunk[0] === 21;
        if (alert) return end("refused", `by alert ${chunk[6]}`);
        if (!chunk.equals(sent.subarray(got, got + chunk.length))) return end("wrong");
        got += chunk.length;
        if (got === sent.length) end("served");
      });
      socket.on("error", ({ message }) => end("refused", message));
      socket.on("close", () => end("refused", "by a close"));
    });
  }

  /** Resident memory of edge and agent in MiB, on Linux. */
  async memory(): Promise<string> {
    const sizes = await Promise.all((["edge", "agent"] as const).map((part) => this.mebibytes(part)));
    return sizes.map(Math.round).join(" / ");
  }

  /** Resident memory of a part in MiB, on Linux; 0 elsewhere. */
  async mebibytes(part: Part): Promise<number> {
    const status = await readFile(`/proc/${this.programs.get(part)!.pid}/status`, "utf8").catch(() => "");
    return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? 0) / 1024;
  }

  #clockOf(part: Part): string {
    return join(this.folder, `${part}.clock`);
  }

  /** Ends everything in order, the agent first; gives the parts that didn't end with 0. */
  async stop(): Promise<string[]> {
    const wrong: string[] = [];
    for (const part of ["agent", "master", "edge"] as const) {
      const code = await this.ends(part);
      if (code !== 0) wrong.push(`${part} ended with ${code}`);
    }
    await this.clear();
    return wrong;
  }

  /** Asks a part to end; gives its exit code. */
  async ends(part: Part): Promise<number | string> {
    this.signal(part, "SIGTERM");
    const late = new Promise<string>((resolve) =>
      setTimeout(() => resolve("nothing in 30 s"), 30_000).unref()
    );
    return await Promise.race([this.programs.get(part)!.ended, late]);
  }

  /** Kills what still runs. */
  async clear(): Promise<void> {
    this.relay?.close();
    this.udpRelay?.close();
    for (const program of this.programs.values()) await program.kill();
  }
}

function noVisits(): Visits {
  return { served: 0, refused: 0, hung: 0, wrong: 0, longestMs: 0, failures: [] };
}
