/** An agent behind proxies of the system: squid for HTTP's CONNECT, microsocks for SOCKS 5. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { type AddressInfo, connect, createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { after, describe, it } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { Program, programStarter, startServe } from "../cli/program.ts";
import { clientHello } from "../support/client_hello.ts";
import { freePorts } from "../support/free_ports.ts";
import { until } from "../support/until.ts";
import { findProgram, skipWithout, type SystemProgram, untilListening } from "../support/system_programs.ts";

const timeout = 90_000;
const start = programStarter();
const children: ChildProcess[] = [];

let folder: string;
let edge: Program;
let edgePort = 0;
let master = "";
let endpoint: Server;

// Not in a hook, which Bun ends after 5 s.
it("an edge, a session master and an endpoint are there", { timeout }, async () => {
  folder = await mkdtemp(join(tmpdir(), "sallyport-by-proxy-"));
  endpoint = createServer((socket) => void socket.on("error", () => {}).pipe(socket));
  endpoint.listen(0, "127.0.0.1");
  await once(endpoint, "listening");
  ({ port: edgePort, master } = await startServe(
    (args) => edge = new Program(args),
    join(folder, "edge"),
  ));
});
after(async () => {
  for (const child of children) {
    child.kill("SIGTERM");
    if (child.exitCode === null) await Promise.race([once(child, "exit"), delay(2_000)]);
    child.kill("SIGKILL");
  }
  await edge.kill();
  endpoint.close();
  await rm(folder, { recursive: true, force: true });
});

/** Starts a proxy, waits until it listens, and gives what it has written so far. */
async function startProxy(name: SystemProgram, args: readonly string[], port: number): Promise<() => string> {
  const child = spawn(await findProgram(name) ?? name, [...args], { stdio: ["ignore", "pipe", "pipe"] });
  children.push(child);
  let text = "";
  for (const output of [child.stdout, child.stderr]) output.on("data", (part) => text += String(part));
  await untilListening(child, port, () => text);
  return () => text;
}

/** An agent that goes through the proxy serves a visitor. */
async function serves(
  name: string,
  flags: readonly string[],
  env: Record<string, string> = {},
): Promise<void> {
  const { port } = endpoint.address() as AddressInfo;
  const agent = new Program([
    ...["agent", "--master", master, "--credential-file", join(folder, "edge", "admin.key")],
    ...[
      "--data-dir",
      join(folder, name),
      "--hostname",
      `${name}.example`,
      "--to",
      `127.0.0.1:${port}`,
      ...flags,
    ],
  ], env);
  try {
    await edge.seen(new RegExp(`agent connected[^\\n]*hostname=${name}\\.example`), "stderr");
    const visitor = connect(edgePort, "127.0.0.1");
    visitor.write(clientHello(`${name}.example`));
    assert.equal((await once(visitor, "data") as [Buffer])[0][0], 22);
    visitor.destroy();
  } finally {
    await agent.kill();
  }
}

describe("squid", { skip: await skipWithout("squid") }, () => {
  it(
    "lets an agent through that names it by --proxy, and one that has HTTPS_PROXY",
    { timeout },
    async () => {
      const port = await freePorts(1);
      const config = join(folder, "squid.conf");
      // Where root starts it, squid goes on as somebody else.
      const logFile = join(folder, "access.log");
      await writeFile(logFile, "");
      await chmod(logFile, 0o666);
      await chmod(folder, 0o755);
      await writeFile(
        config,
        `http_port 127.0.0.1:${port}
http_access allow all
cache deny all
access_log stdio:${logFile}
buffered_logs off
memory_cache_shared off
cache_log /dev/null
pid_filename none
coredump_dir ${folder}
shutdown_lifetime 0 seconds
visible_hostname localhost
`,
      );
      await startProxy("squid", ["-N", "-n", `sallyport${process.pid}`, "-f", config], port);
      /** Squid writes a line when a connection has ended. */
      const connects = async (to: string, times: number) => {
        const pattern = new RegExp(`CONNECT (?:localhost|127\\.0\\.0\\.1):${to} `, "g");
        const found = () => [...readFileSync(logFile, "utf8").matchAll(pattern)].length;
        await until(() => found() >= times);
        assert.equal(found(), times, to);
      };
      const masterPort = new URL(master).port;
      await serves("flag", ["--proxy", `http://127.0.0.1:${port}`]);
      await connects(String(edgePort), 1);
      await connects(masterPort, 1);
      await serves("not", [], { HTTPS_PROXY: `http://127.0.0.1:${port}`, NO_PROXY: "localhost,127.0.0.1" });
      await serves("environment", [], {
        HTTPS_PROXY: `http://127.0.0.1:${port}`,
        NO_PROXY: "",
        no_proxy: "",
      });
      await connects(String(edgePort), 2);
    },
  );
});

describe("microsocks", { skip: await skipWithout("microsocks") }, () => {
  it("lets an agent through, with a password and without", { timeout }, async () => {
    const [open, closed] = [await freePorts(1), await freePorts(1)];
    const log = await startProxy("microsocks", ["-i", "127.0.0.1", "-p", String(open)], open);
    const secured = await startProxy(
      "microsocks",
      ["-i", "127.0.0.1", "-p", String(closed), "-u", "user", "-P", "pass"],
      closed,
    );
    await serves("socks", ["--proxy", `socks5://127.0.0.1:${open}`]);
    await serves("secured", ["--proxy", `socks5://user:pass@127.0.0.1:${closed}`]);
    assert.match(log() + secured(), new RegExp(`connected to (localhost|127\\.0\\.0\\.1):${edgePort}`));
    const wrong = start([
      ...["agent", "--master", master, "--credential-file", join(folder, "edge", "admin.key")],
      ...["--data-dir", join(folder, "wrong"), "--hostname", "wrong.example", "--to", "127.0.0.1:1"],
      ...["--proxy", `socks5://127.0.0.1:${closed}`],
    ]);
    await wrong.seen(/it requires socks5:\/\/USER:PASSWORD@HOST:PORT/, "stderr");
    await wrong.kill();
  });
});
