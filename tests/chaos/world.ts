/**
 * An edge, a session master, an agent behind a relay and its endpoint, each a process of one runtime, and visitors.
 *
 * @module
 */
import { randomBytes } from "node:crypto";
import { readFile } from "node:fs/promises";
import { connect } from "node:net";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { Program } from "../cli/program.ts";
import { clientHello } from "../support/client_hello.ts";
import { freePorts } from "../support/free_ports.ts";
import { Relay } from "./relay.ts";

/** A part that is a process. */
export type Part = "edge" | "master" | "agent" | "endpoint";
/** All of them, in the order in which they start. */
export const PARTS: readonly Part[] = ["endpoint", "edge", "master", "agent"];
/** A runtime's name. */
export type RuntimeName = "deno" | "bun";

const NAME = "a.example.org";
/** A visit that has no end by then hangs: the longest that anything is waited for on the way, with room. */
export const VISIT_MAX_MS = 60_000;
const VISIT_BYTES = 96 * 1024;
const VISITORS = 4;

/** How visits ended. `wrong`: a byte came that wasn't sent. */
export interface Visits {
  served: number;
  refused: number;
  hung: number;
  wrong: number;
  longestMs: number;
}

/** All that runs. */
export class World {
  readonly programs = new Map<Part, Program>();
  relay!: Relay;
  visits: Visits = noVisits();
  #loading = false;
  #load: Promise<void>[] = [];
  #ports!: { edge: number; master: number; endpoint: number; relay: number };

  constructor(readonly runtime: RuntimeName, readonly folder: string) {}

  /** Starts everything, and waits for the first visit that is served. */
  async start(): Promise<void> {
    const first = await freePorts(4);
    this.#ports = { edge: first, master: first + 1, endpoint: first + 2, relay: first + 3 };
    this.relay = new Relay(this.#ports.relay, this.#ports.edge);
    for (const part of PARTS) await this.launch(part);
    await this.recovered();
  }

  /** Where visitors come in. */
  get edgePort(): number {
    return this.#ports.edge;
  }

  /** Starts one part, by way of these words of a shell, and waits until it says that it is up. */
  async launch(part: Part, shell?: { readonly before?: string; readonly behind?: string }): Promise<void> {
    const { edge, master, endpoint, relay } = this.#ports;
    const data = ["--data-dir", join(this.folder, part === "agent" ? "agent" : "data")];
    const args: Record<Part, string[]> = {
      endpoint: [String(endpoint)],
      edge: ["edge", "--listen", `127.0.0.1:${edge}`, ...data],
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
          `127.0.0.1:${relay}`,
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
    const own = this.runtime === "deno"
      ? { command: "deno", args: ["run", "-A", "--no-check"] }
      : { command: "bun", args: [] as string[] };
    const words = `${shell?.before ?? ":"}; exec "$0" "$@" ${shell?.behind ?? ""}`;
    const on = shell === undefined
      ? own
      : { command: "/bin/sh", args: ["-c", words, own.command, ...own.args] };
    const script = fileURLToPath(new URL("./endpoint.ts", import.meta.url).href);
    const program = part === "endpoint"
      ? new Program(args.endpoint, {}, undefined, { ...on, args: [...on.args, script], foreign: true })
      : new Program(args[part], {}, undefined, on);
    this.programs.set(part, program);
    await program.seen(/is up|Sallyport [\d.]+ on/);
  }

  /** Sends a part a signal. */
  signal(part: Part, name: "SIGKILL" | "SIGSTOP" | "SIGCONT" | "SIGTERM"): void {
    process.kill(this.programs.get(part)!.pid, name);
  }

  /** Kills a part at once, and waits until it is gone. */
  async kill(part: Part): Promise<void> {
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

  /** Begins to visit all the time, with this pause behind each visit. */
  load(pauseMs = 20): void {
    this.visits = noVisits();
    this.#loading = true;
    this.#load = Array.from({ length: VISITORS }, async () => {
      while (this.#loading) {
        await this.visit(this.visits);
        await new Promise((resolve) => setTimeout(resolve, pauseMs));
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
      const end = (how: "served" | "refused" | "hung" | "wrong") => {
        clearTimeout(timer);
        socket.removeAllListeners();
        socket.on("error", () => {});
        socket.destroy();
        into[how]++;
        into.longestMs = Math.max(into.longestMs, performance.now() - sinceMs);
        resolve();
      };
      const timer = setTimeout(() => end("hung"), VISIT_MAX_MS);
      socket.on("data", (chunk: Buffer<ArrayBufferLike>) => {
        // An edge's alert is seven bytes of TLS, in place of the endpoint's.
        const alert = got === 0 && chunk.length === 7 && chunk[0] === 21;
        if (alert) return end("refused");
        if (!chunk.equals(sent.subarray(got, got + chunk.length))) return end("wrong");
        got += chunk.length;
        if (got === sent.length) end("served");
      });
      socket.on("error", () => end("refused"));
      socket.on("close", () => end("refused"));
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

  /** Ends everything in order, the agent first; gives the parts that didn't end with 0. */
  async stop(): Promise<string[]> {
    const wrong: string[] = [];
    for (const part of ["agent", "master", "edge"] as const) {
      this.signal(part, "SIGTERM");
      const late = new Promise<string>((resolve) =>
        setTimeout(() => resolve("nothing in 30 s"), 30_000).unref()
      );
      const code = await Promise.race([this.programs.get(part)!.ended, late]);
      if (code !== 0) wrong.push(`${part} ended with ${code}`);
    }
    await this.clear();
    return wrong;
  }

  /** Kills what still runs. */
  async clear(): Promise<void> {
    this.relay?.close();
    for (const program of this.programs.values()) await program.kill();
  }
}

function noVisits(): Visits {
  return { served: 0, refused: 0, hung: 0, wrong: 0, longestMs: 0 };
}
