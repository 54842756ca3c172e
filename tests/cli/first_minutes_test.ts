/** A newcomer's first five minutes: what the program prints leads on, and what goes wrong names the next step. */
import assert from "node:assert/strict";
import { execFile, spawnSync } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer as createHttpServer } from "node:http";
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { after, afterEach, before, describe, it } from "node:test";
import { SILENT_EDGE_MS } from "../../src/cli/connecting.ts";
import { denoFlags } from "../support/deno_flags.ts";
import { freePorts } from "../support/free_ports.ts";
import { skipWithout } from "../support/system_programs.ts";
import { until } from "../support/until.ts";
import { Program } from "./program.ts";
import { noTerminal, onTerminal } from "./terminal.ts";

const timeout = 90_000;
const LOOPBACK = ["--listen", "127.0.0.1:0", "--master-listen", "127.0.0.1:0"];
/** What a terminal shows as nothing: colours, and other control sequences. */
// deno-lint-ignore no-control-regex
const CONTROL = /\x1b/;

let folder: string;
const running: Program[] = [];
const servers: Server[] = [];
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "sallyport-first-"));
});
after(() => rm(folder, { recursive: true, force: true }));
afterEach(async () => {
  await Promise.all(running.splice(0).map((program) => program.kill()));
  for (const server of servers.splice(0)) server.close();
});

function start(program: Program): Program {
  running.push(program);
  return program;
}

async function listening(server: Server): Promise<number> {
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return (server.address() as AddressInfo).port;
}

const noCurl = await skipWithout("curl");

function curl(words: string): Promise<string> {
  return new Promise((resolve, reject) => {
    execFile("curl", ["--silent", "--show-error", ...words.split(" ")], { timeout: 60_000 }, (error, out) => {
      if (error === null) resolve(out);
      else reject(error);
    });
  });
}

describe("the first five minutes", () => {
  it(
    "lead from serve by its own lines to a page through the tunnel, on a dumb terminal of 40 columns",
    { timeout, skip: noTerminal || noCurl },
    async () => {
      const site = await listening(createHttpServer((_, answer) => answer.end("a page of my own")));
      const serve = start(
        new Program(["serve", ...LOOPBACK, "--data-dir", join(folder, "serve"), "--log-format", "json"]),
      );
      // In the order of need: an agent, a visit, and where to look at it all.
      const [, add = "", visit = "", page = ""] = await serve.seen(
        /(agents add demo [^]*?admin\.key)$[^]*^ {2}curl (-k .*)$[^]*^ {2}(http:\S+)$/m,
      );
      assert.equal((await fetch(page)).status, 200);
      const added = start(new Program(add.replace("\\\n", "").split(/ +/)));
      const [, link = ""] = await added.seen(/agent --join '(\S+)' --to /);

      const dataDir = ["--data-dir", join(folder, "agent")];
      const agent = start(onTerminal(["agent", ...dataDir], { columns: 40, term: "dumb" }));
      await agent.seen(/The link that `agents add` printed[^]*] $/);
      agent.type(link);
      await agent.seen(/Where they go[^]*] $/);
      agent.type(`http://127.0.0.1:${site}`);
      await agent.seen(/asking the session master[^]*connecting to the edge[^]*connected to the edge/);
      assert.doesNotMatch(agent.stdout, CONTROL);
      assert.equal(await curl(visit), "a page of my own");

      // A second one with the same data says whose place it would take.
      const [, status = ""] = await agent.seen(/^ {2}.*(agent status --data-dir \S+)\r$/m);
      const asked = start(new Program([...status.split(" "), "--json"]));
      assert.equal(await asked.ended, 0, asked.stderr);
      const { pid } = JSON.parse(asked.stdout) as { pid: number };
      const twin = start(new Program(["agent", ...dataDir]));
      assert.equal(await twin.ended, 2);
      assert.match(
        twin.stderr,
        new RegExp(`^error: Cannot start agent: process ${pid} serves demo\\.localhost already`, "m"),
      );

      // Neither ends by a hang-up; the agent reads its settings anew.
      serve.signal("SIGHUP");
      process.kill(pid, "SIGHUP");
      await agent.seen(/configuration reloaded/);
      assert.equal(await curl(visit), "a page of my own");
      // A terminal that is closed sends a hang-up too, and ends what runs on it.
      await agent.kill();
      await until(() => !isRunning(pid));

      const again = start(new Program(["agent", ...dataDir]));
      await again.seen(/connected to the edge/, "stderr");
      assert.equal(await curl(visit), "a page of my own");
    },
  );

  it("have colours where they are wanted, and help that fits", { timeout, skip: noTerminal }, async () => {
    const port = await freePorts(1);
    const agent = [
      "agent",
      "--master",
      `http://127.0.0.1:${port}`,
      "--hostname",
      "a.test",
      "--to",
      "[::1]:1",
    ];
    const rest = ["--credential", "a-credential-of-some-length", "--data-dir"];
    const cases: [NO_COLOR: string, coloured: boolean][] = [["", true], ["1", false]];
    for (const [NO_COLOR, coloured] of cases) {
      const program = start(
        onTerminal([...agent, ...rest, join(folder, `colours ${coloured}`)], { env: { NO_COLOR } }),
      );
      await program.seen(/connection refused: nothing listens/);
      assert.equal(CONTROL.test(program.stdout), coloured, program.stdout);
      await program.kill();
    }
    for (const args of [["--help"], ["agent", "--help"]]) {
      const help = start(onTerminal(args, { columns: 40 }));
      assert.equal(await help.ended, 0);
      const [text = ""] = help.stdout.split(/^Examples:/m);
      for (const line of text.split("\r\n").slice(1)) assert.ok(line.length <= 40, line);
    }
  });
});

describe("what goes wrong at first", () => {
  it(
    "an --edge that is none is called so at once, or within seconds where it is silent",
    { timeout },
    async () => {
      const answers = new Map<string, (socket: Socket) => void>([
        ["HTTP", (socket) => socket.once("data", () => socket.end("HTTP/1.1 400 Bad Request\r\n\r\n"))],
        ["SSH", (socket) => socket.write("SSH-2.0-OpenSSH_9.6\r\n")],
        ["TLS", (socket) => socket.once("data", () => socket.end(Uint8Array.of(21, 3, 3, 0, 2, 2, 80)))],
        ["silence", () => {}],
      ]);
      const dataDir = join(folder, "odd");
      const serve = start(new Program(["serve", ...LOOPBACK, "--data-dir", dataDir]));
      const [, master = ""] = await serve.seen(/session master +(http:\S+)/);
      await serve.seen(/credential-file/);
      const agents = await Promise.all([...answers].map(async ([what, answer]) => {
        const sockets = new Set<Socket>();
        const port = await listening(createServer((socket) => {
          sockets.add(socket.on("error", () => {}));
          answer(socket);
        }));
        const args = [
          ...["agent", "--master", master, "--credential-file", join(dataDir, "admin.key")],
          ...["--hostname", `${what.toLowerCase()}.test`, "--to", "127.0.0.1:9"],
          ...["--data-dir", join(folder, what), "--edge", `127.0.0.1:${port}`],
        ];
        return { what, port, sockets, agent: start(new Program(args)) };
      }));
      for (const { what, port, agent, sockets } of agents) {
        const said = what === "silence"
          ? `no answer from 127\\.0\\.0\\.1:${port} yet: is it an edge's port for agents\\?`
          : `127\\.0\\.0\\.1:${port} answers in ${what}, so it isn't an edge's port for agents; check --edge`;
        await agent.seen(new RegExp(said), "stderr", SILENT_EDGE_MS + 20_000);
        await agent.kill();
        for (const socket of sockets) socket.destroy();
      }
    },
  );

  it("an edge that is away is tried on and on, without a line for each attempt", { timeout }, async () => {
    const dataDir = join(folder, "away");
    const serve = start(new Program(["serve", ...LOOPBACK, "--data-dir", dataDir]));
    const [, master = ""] = await serve.seen(/session master +(http:\S+)/);
    await serve.seen(/credential-file/);
    const port = await freePorts(1);
    const args = [
      ...["agent", "--master", master, "--credential-file", join(dataDir, "admin.key")],
      ...["--hostname", "a.test", "--to", "127.0.0.1:9", "--edge", `127.0.0.1:${port}`],
    ];
    const agent = start(new Program([...args, "--data-dir", join(folder, "away agent")]));
    await agent.seen(/(Cannot reach edge[^]*){3}/, "stderr");
    // The edge comes: the agent finds it within a second or two.
    const edge = start(
      new Program(["edge", "--listen", `127.0.0.1:${port}`, "--data-dir", dataDir]),
    );
    await edge.seen(/visitors and agents/);
    await agent.seen(/connected to the edge/, "stderr");
    const lines = agent.stderr.split("\n").filter((line) => / (INFO|WARN): /.test(line));
    assert.equal(lines.filter((line) => line.includes("connecting to the edge")).length, 1, agent.stderr);
    assert.ok(lines.filter((line) => line.includes("Cannot reach edge")).length <= 4, agent.stderr);
  });

  it("a public address without --public-address is warned of", { timeout }, async () => {
    // An address of the documents' network (RFC 5737), which no machine has.
    const listen = ["--listen", "192.0.2.1:8443", "--master-listen", "127.0.0.1:0"];
    const serve = start(new Program(["serve", ...listen, "--data-dir", join(folder, "public")]));
    assert.equal(await serve.ended, 1);
    assert.match(
      serve.stderr,
      /^Warning: 192\.0\.2\.1:8443 is open to others, .* --public-address HOST:PORT sets where agents reach/m,
    );
  });

  const right = process.platform === "linux" && unprivilegedCommand();
  it("port 443 without the right to it says how to get it", { timeout, skip: right === false }, async () => {
    const from = Number(await readFile("/proc/sys/net/ipv4/ip_unprivileged_port_start", "utf8"));
    if (from <= 443 || right === false) return;
    const args = ["edge", "--listen", "127.0.0.1:443", "--data-dir", join(folder, "port")];
    const start443 = process.versions.deno === undefined ? [] : denoFlags(args);
    const [command = "", ...before] = [...right, process.execPath, ...start443];
    const edge = start(new Program(args, {}, undefined, { command, args: before }));
    assert.equal(await edge.ended, 1);
    assert.match(
      edge.stderr,
      /^error: Cannot listen on 127\.0\.0\.1:443: .*setcap cap_net_bind_service=\+ep/m,
    );
  });
});

function isRunning(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

/** The words before a command that take the right to low ports from it; false where that can't be done. */
function unprivilegedCommand(): readonly string[] | false {
  if (process.getuid?.() !== 0) return [];
  const words = ["setpriv", "--bounding-set=-net_bind_service", "--inh-caps=-net_bind_service"];
  return spawnSync(words[0]!, [...words.slice(1), "true"]).status === 0 && words;
}
