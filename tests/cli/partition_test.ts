/** A partition between two nodes in network namespaces of their own: needs root and `ip` (Linux). */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { connect, createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { after, describe, it } from "node:test";
import { promisify } from "node:util";
import { type Agent, currentRuntime, masterGrants, tcpConnector } from "../../mod.ts";
import { clientHello } from "../support/client_hello.ts";
import { connectedAgent } from "../support/connected_agent.ts";
import { denoFlags } from "../support/deno_flags.ts";
import { otherRuntime } from "../support/other_runtime.ts";
import { type RedisServer, skipRedis, startRedis } from "../support/redis_server.ts";
import { until } from "../support/until.ts";
import { Program } from "./program.ts";

const timeout = 180_000;
/** Time limit of each wait; it is well above what a busy machine needs. */
const WAIT_MS = 30_000;
/** Namespaces and interfaces of this run. */
const RUN = `sp${process.pid % 100_000}`;
const BRIDGE = `${RUN}br`;
const NETWORK = `10.213.${1 + process.pid % 250}`;
const HERE = `${NETWORK}.254`;
const NODES = [{ name: `${RUN}a`, host: `${NETWORK}.1` }, { name: `${RUN}b`, host: `${NETWORK}.2` }] as const;
const PORT = 8443;

async function ip(...args: string[]): Promise<void> {
  await promisify(execFile)("ip", args);
}

/** Makes a bridge with an address of this machine, and a namespace for each node on it. */
async function makeNetwork(): Promise<void> {
  await ip("link", "add", BRIDGE, "type", "bridge");
  await ip("addr", "add", `${HERE}/24`, "dev", BRIDGE);
  await ip("link", "set", BRIDGE, "up");
  for (const { name, host } of NODES) {
    await ip("netns", "add", name);
    await ip("link", "add", `${name}0`, "type", "veth", "peer", "name", `${name}1`);
    await ip("link", "set", `${name}0`, "master", BRIDGE, "up");
    await ip("link", "set", `${name}1`, "netns", name);
    await ip("-n", name, "addr", "add", `${host}/24`, "dev", `${name}1`);
    await ip("-n", name, "link", "set", `${name}1`, "up");
    await ip("-n", name, "link", "set", "lo", "up");
  }
}

async function removeNetwork(): Promise<void> {
  for (const { name } of NODES) {
    await ip("netns", "del", name).catch(() => {});
    await ip("link", "del", `${name}0`).catch(() => {});
  }
  await ip("link", "del", BRIDGE).catch(() => {});
}

async function skipped(): Promise<string | false> {
  if (process.platform !== "linux" || process.getuid?.() !== 0) return "needs root on Linux";
  try {
    await makeNetwork();
  } catch (error) {
    await removeNetwork();
    return `needs network namespaces: ${error}`;
  }
  return await skipRedis();
}

const skip = await skipped();
if (skip !== false) await removeNetwork();

/** What a visitor hears from the agent's endpoint; undefined where nothing comes. */
function visit(host: string, name: string): Promise<string | undefined> {
  return new Promise((resolve) => {
    const socket = connect({ host, port: PORT });
    const over = (text?: string) => {
      clearTimeout(timer);
      socket.destroy();
      resolve(text);
    };
    const timer = setTimeout(over, 1_500);
    socket.on("error", () => over());
    socket.on("close", () => over());
    socket.on("data", (chunk: Uint8Array) => {
      const text = String(chunk);
      over(text.startsWith("agent") ? text : undefined);
    });
    socket.write(clientHello(name));
  });
}

describe("edge --cluster: a partition between two nodes", { skip }, () => {
  let folder: string;
  let redis: RedisServer;
  let master: string;
  let credential: string;
  const programs: Program[] = [];
  const agents: Agent[] = [];
  const endpoints: Server[] = [];

  after(async () => {
    await Promise.all(agents.map((agent) => agent.close(0)));
    for (const endpoint of endpoints) endpoint.close();
    await Promise.all(programs.map((program) => program.kill()));
    await redis?.kill();
    await removeNetwork();
    await rm(folder, { recursive: true, force: true });
  });

  /** An agent at a node, whose endpoint says who it is. */
  async function connectAgent(says: string, hostname: string, host: string): Promise<void> {
    const endpoint = createServer((socket) => {
      socket.on("error", () => {});
      socket.once("data", () => socket.end(says));
    });
    endpoints.push(endpoint);
    await new Promise<void>((resolve) => endpoint.listen(0, "127.0.0.1", resolve));
    const runtime = await currentRuntime();
    const grants = masterGrants({ master, credential, hostname, anyEdge: true, insecure: true });
    let connected = false;
    const options = {
      runtime,
      // An agent that has lost its name would come back with a newer token and take it again: it gets none.
      grants: () => connected ? new Promise<never>(() => {}) : grants(),
      connector: tcpConnector({
        runtime,
        host: "127.0.0.1",
        port: (endpoint.address() as { port: number }).port,
        plain: true,
      }),
      edge: { host, port: PORT },
    };
    await within(`${says} connects`, connectedAgent(options, agents), () => {
      return JSON.stringify(agents.at(-1)?.facts);
    });
    connected = true;
  }

  async function untilHeard(host: string, name: string, says: string): Promise<void> {
    let heard: string | undefined;
    let over = false;
    const visits = until(async () => over || (heard = await visit(host, name)) === says);
    await within(`a visitor of ${name} at ${host} hears "${says}"`, visits, () => `heard last: ${heard}`)
      .finally(() => over = true);
  }

  /** Fails, with what the nodes wrote, when something takes too long. */
  async function within(what: string, awaited: Promise<unknown>, state: () => string): Promise<void> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        const wrote = programs.map(({ stdout, stderr }) => `${stdout}\n${stderr}`);
        reject(new Error([`not within ${WAIT_MS} ms: ${what}; ${state()}`, ...wrote].join("\n")));
      }, WAIT_MS);
    });
    await Promise.race([awaited, late]).finally(() => clearTimeout(timer));
  }

  it("starts a node in each namespace", { timeout }, async () => {
    folder = await mkdtemp(join(tmpdir(), "sallyport-partition-"));
    redis = await startRedis(HERE);
    const other = await otherRuntime();
    for (const [index, { name, host }] of NODES.entries()) {
      const keys = [
        ...["--fernet-keys-file", join(folder, NODES[0].name, "fernet.keys")],
        ...["--cluster-key-file", join(folder, NODES[0].name, "cluster.key")],
      ];
      const args = [
        ...index === 0 ? ["serve", "--master-listen", `${host}:8080`] : ["edge", ...keys],
        ...["--data-dir", join(folder, name), "--listen", `${host}:${PORT}`],
        ...["--cluster", redis.url, "--cluster-listen", `${host}:8446`],
      ];
      const own = process.versions.deno === undefined ? [] : denoFlags(args);
      const runtime = index === 1 && other !== undefined
        ? [other.command, ...other.name === "deno" ? denoFlags(args) : []]
        : [process.execPath, ...own];
      const program = new Program(args, {}, undefined, {
        command: "ip",
        args: ["netns", "exec", name, ...runtime],
      });
      programs.push(program);
      await program.seen(/visitors and agents +10\.213/);
    }
    master = `http://${NODES[0].host}:8080`;
    credential = (await readFile(join(folder, NODES[0].name, "admin.key"), "utf8")).trim();
  });

  it("lets one agent answer a name, sends nobody to another, and heals by itself", { timeout }, async () => {
    const [a, b] = [NODES[0].host, NODES[1].host];
    await connectAgent("agent 1", "moved.localhost", a);
    await connectAgent("agent of b", "at-b.localhost", b);
    await untilHeard(b, "moved.localhost", "agent 1");
    await untilHeard(a, "at-b.localhost", "agent of b");
    // The nodes do not reach each other any more; both reach Redis, agents and visitors.
    await ip("-n", NODES[0].name, "route", "add", "blackhole", `${b}/32`);
    await ip("-n", NODES[1].name, "route", "add", "blackhole", `${a}/32`);
    // Another agent takes the name over at the other node.
    await connectAgent("agent 2", "moved.localhost", b);
    await untilHeard(b, "moved.localhost", "agent 2");
    for (let round = 0; round < 3; round++) {
      const [atA, atB, elsewhere] = await Promise.all([
        visit(a, "moved.localhost"),
        visit(b, "moved.localhost"),
        visit(a, "at-b.localhost"),
      ]);
      assert.notEqual(atA, "agent 1", "the agent that has lost the name still answers for it");
      assert.equal(atB, "agent 2");
      assert.ok(elsewhere === undefined || elsewhere === "agent of b", `${elsewhere}`);
    }
    await ip("-n", NODES[0].name, "route", "del", "blackhole", `${b}/32`);
    await ip("-n", NODES[1].name, "route", "del", "blackhole", `${a}/32`);
    await untilHeard(a, "moved.localhost", "agent 2");
    await untilHeard(a, "at-b.localhost", "agent of b");
    assert.equal(await visit(b, "moved.localhost"), "agent 2");
  });
});
