/**
 * A rolling upgrade of three nodes under load: nobody is refused, and no stream is cut. ROLLING_OPEN and ROLLING_RATE set
 * how many visitors stay open, and how many come in a second (docs/scaling.md has figures with 2000 and 300).
 */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { connect, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { after, describe, it } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { type Agent, createAgent, currentRuntime, masterGrants, tcpConnector } from "../../mod.ts";
import { clientHello } from "../support/client_hello.ts";
import { freePorts } from "../support/free_ports.ts";
import { denoFlags } from "../support/deno_flags.ts";
import { otherRuntime } from "../support/other_runtime.ts";
import { type RedisServer, skipRedis, startRedis } from "../support/redis_server.ts";
import { startEcho } from "../support/tcp_echo.ts";
import { until } from "../support/until.ts";
import { Program } from "./program.ts";

const timeout = 240_000;
const NODES = 3;
const AGENTS = 6;
const OPEN = Number(process.env.ROLLING_OPEN ?? 60);
const PER_SECOND = Number(process.env.ROLLING_RATE ?? 20);
const skip = process.platform !== "linux" ? "needs SO_REUSEPORT as Linux has it" : await skipRedis();

/**
 * A connection that was reset before the edge said anything: it waited in the queue of a socket that was closed. Linux
 * hands it to the new worker where net.ipv4.tcp_migrate_req is 1; elsewhere clients try again, as these visitors do.
 */
class ResetAtOnce extends Error {
  constructor(cause: unknown) {
    super(`reset at once: ${cause}`, { cause });
  }
}

/** A visitor that sends its bytes over a while, and gets each of them back. */
class Visitor {
  readonly #name: string;
  readonly #socket: Socket;
  readonly #sent = createHash("sha256");
  readonly #received = createHash("sha256");
  readonly #over = Promise.withResolvers<void>();
  #sentBytes = 0;
  #receivedBytes = 0;
  #ending = false;

  constructor(port: number, name: string) {
    this.#name = name;
    const socket = this.#socket = connect({ port, host: "127.0.0.1" });
    socket.on("data", (chunk: Uint8Array) => {
      this.#received.update(chunk);
      this.#receivedBytes += chunk.length;
      this.#endIfWhole();
    });
    socket.on(
      "error",
      (error) => this.#over.reject(this.#receivedBytes === 0 ? new ResetAtOnce(error) : error),
    );
    socket.on("close", () => {
      const bytes = `${this.#receivedBytes} of ${this.#sentBytes} bytes came back`;
      this.#over.reject(new Error(`${this.#name} was cut: ${bytes}`));
    });
    // Looked at later.
    this.#over.promise.catch(() => {});
    this.send(clientHello(name));
  }

  send(bytes: Uint8Array): void {
    this.#sent.update(bytes);
    this.#sentBytes += bytes.length;
    this.#socket.write(bytes);
  }

  /** Leaves when all of its bytes have come back; rejects where others have, or the connection was cut before. */
  end(): Promise<void> {
    this.#ending = true;
    this.#endIfWhole();
    return this.#over.promise;
  }

  #endIfWhole(): void {
    if (!this.#ending || this.#receivedBytes < this.#sentBytes) return;
    this.#ending = false;
    if (this.#received.digest("hex") === this.#sent.digest("hex")) this.#over.resolve();
    else this.#over.reject(new Error(`${this.#name}: other bytes came back`));
    this.#socket.destroy();
  }
}

describe("edge --cluster: a rolling upgrade of three nodes", { skip }, () => {
  let folder: string;
  let redis: RedisServer;
  let echo: Server;
  let master: string;
  let credential: string;
  const programs: Program[] = [];
  const agents: Agent[] = [];
  const ports: number[] = [];
  const nameOf = (index: number) => `agent-${index % AGENTS}.localhost`;
  const untilAtTwoNodes = () => until(() => agents.every(({ facts }) => facts.others !== undefined));

  after(async () => {
    if (process.env.ROLLING_DEBUG) {
      for (const { stderr, stdout } of programs) console.log(stdout, stderr.slice(-1500), "-----");
    }
    if (process.env.ROLLING_DEBUG) {
      console.log(JSON.stringify(agents.map(({ facts }) => facts), undefined, 1));
    }
    await Promise.all(agents.map((agent) => agent.close(0)));
    await Promise.all(programs.map((program) => program.kill()));
    await redis?.kill();
    echo?.close();
    await rm(folder, { recursive: true, force: true });
  });

  it("starts, with agents at two nodes each", { timeout }, async () => {
    folder = await mkdtemp(join(tmpdir(), "sallyport-rolling-"));
    redis = await startRedis();
    const first = await freePorts(NODES);
    const other = await otherRuntime();
    const start = async (index: number) => {
      const port = first + index;
      const keys = [
        ...["--fernet-keys-file", join(folder, "0", "fernet.keys")],
        ...["--cluster-key-file", join(folder, "0", "cluster.key")],
      ];
      const args = [
        ...index === 0 ? ["serve", "--master-listen", "127.0.0.1:0"] : ["edge", ...keys],
        ...["--data-dir", join(folder, String(index)), "--workers", "1", "--drain-timeout", "60s"],
        ...["--listen", `127.0.0.1:${port}`, "--public-address", `localhost:${port}`],
        ...["--cluster", redis.url, "--cluster-listen", "127.0.0.1:0", "--streams-per-source", "0"],
      ];
      const own = process.versions.deno === undefined ? [] : [...denoFlags(args), "--allow-run=deno"];
      const foreign = other &&
        { ...other, args: other.name === "deno" ? [...denoFlags(args), "--allow-run=deno"] : [] };
      const on = index === 1 && foreign ? foreign : { command: process.execPath, args: own };
      const program = new Program(args, {}, undefined, on);
      programs[index] = program;
      ports[index] = port;
      await program.seen(/visitors and agents +127\.0\.0\.1:(\d+)/);
    };
    // The first one makes the keys.
    await start(0);
    await Promise.all(Array.from({ length: NODES - 1 }, (_, index) => start(index + 1)));
    [, master] = await programs[0]!.seen(/session master +(http:\S+)/) as unknown as [string, string];
    credential = (await readFile(join(folder, "0", "admin.key"), "utf8")).trim();
    const { server, port } = await startEcho();
    echo = server;
    const runtime = await currentRuntime();
    for (let index = 0; index < AGENTS; index++) {
      const agent = createAgent({
        runtime,
        edges: 2,
        grants: masterGrants({ master, credential, hostname: nameOf(index), edges: 2 }),
        connector: tcpConnector({ runtime, host: "127.0.0.1", port }),
      });
      agents.push(agent);
      void agent.run();
    }
    await untilAtTwoNodes();
    // A visitor of each agent at each node: the links stand.
    for (const port of ports) {
      for (let index = 0; index < AGENTS; index++) {
        await until(() => new Visitor(port, nameOf(index)).end().then(() => true, () => false));
      }
    }
  });

  it("refuses no visitor and cuts no stream", { timeout }, async () => {
    const open: Visitor[] = [];
    for (let index = 0; index < OPEN; index++) {
      open.push(new Visitor(ports[index % NODES]!, nameOf(index)));
      if (index % 50 === 49) await delay(20);
    }
    const chunk = new Uint8Array(512).fill(7);
    let rolling = true;
    let short = 0;
    let resets = 0;
    const migrates = (await readFile("/proc/sys/net/ipv4/tcp_migrate_req", "utf8").catch(() =>
      "0"
    )).trim() === "1";
    const failures: string[] = [];
    const pending = new Set<Promise<void>>();
    const load = (async () => {
      for (let tick = 0; rolling; tick++) {
        const startedMs = performance.now();
        for (let index = 0; index < PER_SECOND / 10; index++) {
          const number = short++;
          const come = () => {
            const visitor = new Visitor(ports[number % NODES]!, nameOf(Math.floor(number / NODES)));
            visitor.send(chunk);
            return visitor.end();
          };
          const atMs = startedMs;
          const over: Promise<void> = come().catch((error) => {
            if (migrates || !(error instanceof ResetAtOnce)) throw error;
            resets++;
            return come();
          }).catch((error) => {
            failures.push(
              `visitor ${number} at node ${number % NODES}: ${error.message} (${
                Math.round(performance.now() - atMs)
              } ms)`,
            );
          }).finally(() => void pending.delete(over));
          pending.add(over);
        }
        // Each open visitor says something once in two seconds.
        for (let index = tick % 20; index < open.length; index += 20) open[index]!.send(chunk);
        await delay(Math.max(0, 100 - (performance.now() - startedMs)));
      }
    })();
    const rolledMs: number[] = [];
    for (let index = 0; index < NODES; index++) {
      const startedMs = performance.now();
      const upgrade = new Program(["upgrade", "--data-dir", join(folder, String(index))]);
      assert.equal(await upgrade.ended, 0, upgrade.stderr + upgrade.stdout);
      rolledMs.push(Math.round(performance.now() - startedMs));
      // The next one when agents are at two nodes again.
      await untilAtTwoNodes();
    }
    rolling = false;
    await load;
    await Promise.all(pending);
    const ends = await Promise.allSettled(open.map((visitor) => visitor.end()));
    const cut = ends.flatMap((end) => end.status === "rejected" ? [String(end.reason)] : []);
    const figures = `${OPEN} open, ${short} new, ${resets} reset by the system, upgrades of ${
      rolledMs.join(", ")
    } ms`;
    if (process.env.ROLLING_OPEN !== undefined) console.log(figures);
    assert.deepEqual(
      { failures: failures.slice(0, 5), count: failures.length },
      { failures: [], count: 0 },
      figures,
    );
    assert.ok(resets <= 3 + short / 50, figures);
    assert.deepEqual({ cut: cut.slice(0, 5), count: cut.length }, { cut: [], count: 0 }, figures);
  });
});
