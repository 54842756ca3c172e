/** Programs that run out of file descriptors, as processes with a small limit. */
import assert from "node:assert/strict";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { after, afterEach, before, describe, it } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { clientHello } from "../support/client_hello.ts";
import { until } from "../support/until.ts";
import { Program, programStarter, startServe } from "./program.ts";
import { denoFlags } from "../support/deno_flags.ts";

const timeout = 60_000;
const NAME = "a.example.org";

let folder: string;
const start = programStarter();
const limited: Program[] = [];
let sockets: Socket[] = [];
before(async () => void (folder = await mkdtemp(join(tmpdir(), "sallyport-files-"))));
after(() => rm(folder, { recursive: true, force: true }));
afterEach(async () => {
  hangUp();
  await Promise.all(limited.splice(0).map((program) => program.kill()));
});

const EACH_PERMISSION = ["env", "ffi", "net", "read", "sys", "write"].map((name) => `--allow-${name}`);

/** Deno reads /proc with all permissions only, and asks the system where native code is permitted; its sets have neither. */
const WAYS: { way: string; tellsLimit: boolean; permissions?: string[] }[] =
  process.versions.deno === undefined ? [{ way: "", tellsLimit: true }] : [
    { way: " with all permissions", tellsLimit: true, permissions: ["-A"] },
    { way: " with each permission", tellsLimit: true, permissions: EACH_PERMISSION },
    { way: " with its permission set", tellsLimit: false },
  ];

/** Starts the program with so many file descriptors. */
function startLimited(files: number, args: readonly string[], permissions?: readonly string[]): Program {
  const flags = permissions === undefined ? denoFlags(args) : ["run", ...permissions, "--no-check"];
  const own = process.versions.deno === undefined ? [] : flags;
  const shell = ["-c", `ulimit -n ${files}; exec "$0" "$@"`, process.execPath, ...own];
  const program = new Program(args, {}, undefined, { command: "/bin/sh", args: shell });
  limited.push(program);
  return program;
}

/** Opens connections that stay, and say `first`. They may be reset. */
async function hold(port: number, count: number, first: Uint8Array = new Uint8Array(0)): Promise<void> {
  for (let i = 0; i < count; i++) {
    await new Promise<void>((resolve) => {
      const socket = connect(port, "127.0.0.1", () => {
        if (first.length > 0) socket.write(first);
        resolve();
      });
      socket.on("error", () => resolve());
      socket.resume();
      sockets.push(socket);
    });
  }
}

/** By resets, which free the agent at once; after a FIN it would have 10 s for its answer. */
function hangUp(): void {
  for (const socket of sockets) socket.resetAndDestroy();
  sockets = [];
}

/** The answer, as soon as there is one: a connection may have to wait, or be refused. */
async function healthy(base: string): Promise<void> {
  for (;;) {
    const response = await fetch(`${base}/healthz`, { signal: AbortSignal.timeout(2_000) }).catch(() =>
      undefined
    );
    await response?.body?.cancel();
    if (response?.status === 200) return;
    await delay(20);
  }
}

/** Processor time that a process has had, in ticks of 10 ms. */
async function ticks(pid: number): Promise<number> {
  const fields = (await readFile(`/proc/${pid}/stat`, "utf8")).replace(/^.*\) /, "").split(" ");
  return Number(fields[11]) + Number(fields[12]);
}

const skip = process.platform !== "linux" && "the limit is only known on Linux";

for (const { way, tellsLimit, permissions } of WAYS) {
  describe(`without file descriptors${way}`, { skip }, () => {
    it("an edge and its session master stay up, idle, and say so once", { timeout }, async () => {
      const edge = startLimited(128, [
        ...["serve", "--listen", "127.0.0.1:0", "--master-listen", "127.0.0.1:0"],
        ...["--data-dir", join(folder, "edge")],
      ], permissions);
      const [, port = ""] = await edge.seen(/visitors and agents +127\.0\.0\.1:(\d+)/);
      const [, base = "", masterPort = ""] = await edge.seen(/session master +(http:\/\/127\.0\.0\.1:(\d+))/);
      if (tellsLimit) await edge.seen(/file limit +128 files and sockets, so about 112 connections/);
      await hold(Number(port), 150);
      await edge.seen(/WARN: no connections are accepted until others have ended: /, "stderr");
      const before = await ticks(edge.pid);
      await delay(500);
      const used = await ticks(edge.pid) - before;
      assert.ok(used < 20, `it took ${used} ticks of 10 ms within 500 ms`);
      hangUp();
      await healthy(base);
      // The same by the HTTP server, whose process used to end on Deno.
      let metrics = "";
      let pauses = 0;
      await until(async () => {
        await hold(Number(masterPort), 150);
        await until(async () => (await readdir(`/proc/${edge.pid}/fd`)).length > 100);
        hangUp();
        await healthy(base);
        metrics = await (await fetch(`${base}/metrics`)).text();
        pauses = Number(/^sallyport_accept_paused_total (\d+)$/m.exec(metrics)?.[1]);
        return pauses >= 2;
      });
      assert.ok(pauses < 20, `${pauses} pauses`);
      if (tellsLimit) assert.match(metrics, /^process_max_fds 128$/m);
      assert.equal(edge.stderr.match(/WARN: no connections/g)?.length, 1, edge.stderr);
      edge.signal("SIGTERM");
      assert.equal(await edge.ended, 0);
    });

    it(
      "an agent knows its limit, names its own shortage, and serves again afterwards",
      { timeout },
      async () => {
        const endpoint = createServer((socket) => {
          socket.on("error", () => {});
          socket.on("data", () => socket.write("here"));
        });
        await new Promise<void>((resolve) => endpoint.listen(0, "127.0.0.1", resolve));
        const { port: to } = endpoint.address() as { port: number };
        const { port, master } = await startServe(start, join(folder, "second"));
        const agent = startLimited(64, [
          ...["agent", "--master", master, "--credential-file", join(folder, "second", "admin.key")],
          ...["--hostname", NAME, "--to", `127.0.0.1:${to}`],
        ], permissions);
        if (tellsLimit) await agent.seen(/file limit +64 files and sockets, so about 48 connections/);
        await agent.seen(/connected to the edge/, "stderr");
        const hello = clientHello(NAME);
        await hold(port, 80, hello);
        await agent.seen(/this process has no file descriptors left( of 64)?; raise its limit/, "stderr");
        assert.doesNotMatch(agent.stderr, /connection refused/);
        hangUp();
        for (let served = false; !served;) {
          served = await new Promise<boolean>((resolve) => {
            const socket = connect(port, "127.0.0.1", () => socket.write(hello));
            socket.on("data", (chunk) => resolve(String(chunk) === "here"));
            socket.on("close", () => resolve(false));
            socket.on("error", () => {});
            sockets.push(socket);
          });
          await delay(20);
        }
        endpoint.close();
      },
    );
  });
}
