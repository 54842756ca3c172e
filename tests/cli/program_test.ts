import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { connect, createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { after, afterEach, before, describe, it } from "node:test";
import { parsePrometheus, sampleValue } from "../telemetry/prometheus.ts";
import { clientHello } from "../support/client_hello.ts";
import { skipWithout } from "../support/system_programs.ts";
import { Program } from "./program.ts";

const timeout = 60_000;
const PORTS = ["--listen", "127.0.0.1:0", "--master-listen", "127.0.0.1:0"];

let folder: string;
const running: Program[] = [];
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "sallyport-test-"));
});
after(() => rm(folder, { recursive: true, force: true }));
afterEach(async () => {
  await Promise.all(running.splice(0).map((program) => program.kill()));
});

function start(args: readonly string[], env: Record<string, string> = {}): Program {
  const program = new Program(args, env);
  running.push(program);
  return program;
}

function shell(command: string): Promise<string> {
  return new Promise((resolve, reject) => {
    execFile("/bin/sh", ["-c", command], { timeout: 60_000 }, (error, stdout, stderr) => {
      if (error === null) resolve(stdout);
      else reject(new Error(`${error.message}\n${stderr}`));
    });
  });
}

describe("the program", () => {
  it("says its version and ends with 0", { timeout }, async () => {
    const program = start(["--version"]);
    assert.equal(await program.ended, 0);
    assert.match(program.stdout, /^sallyport \d+\.\d+\.\d+\n$/);
  });

  it("ends with 2 for a wrong value in the environment", { timeout }, async () => {
    const program = start([], { SALLYPORT_LISTEN: "nowhere" });
    assert.equal(await program.ended, 2);
    assert.match(program.stderr, /^error: Cannot use SALLYPORT_LISTEN: "nowhere" is not HOST:PORT/);
  });

  it("ends with 1 where its port is taken", { timeout }, async () => {
    const other = createServer().listen(0, "127.0.0.1");
    await new Promise((resolve) => other.once("listening", resolve));
    const { port } = other.address() as AddressInfo;
    const taken = `127.0.0.1:${port}`;
    const free = "127.0.0.1:0";
    const cases: [flag: string, args: string[]][] = [
      ["--listen", ["edge", "--listen", taken, "--data-dir", join(folder, "taken")]],
      ["--listen", ["demo", "--listen", taken, "--master-listen", free]],
      ["--master-listen", ["demo", "--listen", free, "--master-listen", taken]],
    ];
    for (const [flag, args] of cases) {
      const program = start(args);
      assert.equal(await program.ended, 1);
      const [first = ""] = program.stderr.split("\n").filter((line) => line.startsWith("error: "));
      assert.ok(first.includes(`${taken}: the address is in use; ${flag} HOST:PORT`), program.stderr);
    }
    other.close();
  });
});

describe("serve", () => {
  it(
    "runs without a command's name, makes its keys once, gives tokens, and stops in order",
    { timeout },
    async () => {
      const dataDir = join(folder, "data");
      const first = start([...PORTS, "--data-dir", dataDir, "--log-format", "json"]);
      const [, edgePort] = await first.seen(/visitors and agents +127\.0\.0\.1:(\d+)/);
      const [, master] = await first.seen(/session master +(http:\/\/127\.0\.0\.1:\d+)/);
      await first.seen(/--credential-file .*admin\.key/);
      assert.match(first.stdout, /fernet\.keys, made just now/);
      if (process.platform !== "win32") {
        assert.equal((await stat(dataDir)).mode & 0o777, 0o700);
        for (const name of ["fernet.keys", "admin.key", "edge.key"]) {
          assert.equal((await stat(join(dataDir, name))).mode & 0o777, 0o600, name);
        }
      }
      const adminKey = (await readFile(join(dataDir, "admin.key"), "utf8")).trim();
      assert.ok(!first.stdout.includes(adminKey), "the admin key isn't printed");
      const ask = (key: string) =>
        fetch(`${master}/v1/tokens`, {
          method: "POST",
          headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
          body: JSON.stringify({ hostname: "a.example.org" }),
        });
      const answer = await ask(adminKey);
      assert.equal(answer.status, 201);
      const { edge } = await answer.json() as { edge: unknown };
      const [, publicKey] = await first.seen(/edge's public key +([\w-]{43})$/m);
      assert.deepEqual(edge, {
        host: "localhost",
        port: Number(edgePort),
        public_key: publicKey,
        transports: ["snitun", "sealed"],
      });
      const refused = await ask("another-key-of-some-length");
      assert.equal(refused.status, 401);
      await refused.body?.cancel();
      const ready = await fetch(`${master}/readyz`);
      assert.equal(ready.status, 200);
      await ready.body?.cancel();
      first.signal("SIGINT");
      assert.equal(await first.ended, 0);
      for (const line of first.stderr.split("\n").filter((line) => line.startsWith("{"))) JSON.parse(line);

      const second = start(["serve", ...PORTS, "--data-dir", dataDir]);
      await second.seen(/admin\.key$/m);
      assert.equal((await second.seen(/edge's public key +([\w-]{43})$/m))[1], publicKey);
      assert.doesNotMatch(second.stdout, /made just now/);
      assert.equal((await readFile(join(dataDir, "admin.key"), "utf8")).trim(), adminKey);
      second.signal("SIGTERM");
      assert.equal(await second.ended, 0);
    },
  );
});

describe("transfers at the edge", () => {
  it("need a folder, a key, credentials and a port, and say which is missing", { timeout }, async () => {
    const dataDir = join(folder, "pipes");
    const key = join(folder, "gate.key");
    assert.equal(await start(["pipe", "keygen", key]).ended, 0);
    const sealed = ["--sealed-listen", "127.0.0.1:0"];
    const pipes = ["--pipe-folder", folder, "--pipe-key-file", key];
    const cases: [string[], RegExp][] = [
      [pipes, /--pipe-folder needs --sealed-listen/],
      [[...sealed, ...pipes.slice(0, 2)], /--pipe-folder needs --pipe-key-file/],
      [[...sealed, ...pipes], /login and passphrase are missing/],
      [[...sealed, "--pipe-folder", key, ...pipes.slice(2)], /gate\.key isn't a folder/],
    ];
    for (const [args, why] of cases) {
      const edge = start(["edge", "--listen", "127.0.0.1:0", "--data-dir", dataDir, ...args]);
      assert.equal(await edge.ended, 2);
      assert.match(edge.stderr, why);
    }
    const drop = join(folder, "drop");
    await mkdir(drop);
    const login = { SALLYPORT_PIPE_LOGIN: "name", SALLYPORT_PIPE_PASSPHRASE: "a phrase" };
    const bounds = ["--pipe-transfer-max", "8kB", "--pipe-folder-max", "12KiB"];
    const edge = start(
      ["edge", "--listen", "127.0.0.1:0", "--data-dir", dataDir, ...sealed, ...pipes, ...bounds]
        .map((arg, i, all) => all[i - 1] === "--pipe-folder" ? drop : arg),
      login,
    );
    const [, publicKey] = await edge.seen(/transfers by pipe +into .*, public key ([0-9a-f]{64})$/m);
    const [, port] = await edge.seen(/sealed agents +127\.0\.0\.1:(\d+)/);
    // A single file has libsodium as WebAssembly alone, and says so.
    assert.doesNotMatch(edge.stderr, /Warning(?!: Using libsodium as WebAssembly)/);
    // Each file counts for 4 KiB more than it has.
    const transfers: [number, RegExp][] = [
      [5000, /confirmed, and in its place/],
      [8001, /gave up: Cannot receive transfer: it exceeds the limit of 8000 bytes/],
      [4000, /gave up: Cannot receive transfer: there is no room for more/],
    ];
    for (const [size, says] of transfers) {
      const file = join(folder, `send ${size}`);
      await writeFile(file, new Uint8Array(size));
      const to = ["--to", `127.0.0.1:${port}`, "--public-key", publicKey!];
      const sender = start(["pipe", "send", ...to, file], login);
      assert.equal(await sender.ended, size === 5000 ? 0 : 1);
      assert.match(sender.stderr, says);
    }
    assert.equal((await readdir(drop)).length, 1);
    assert.doesNotMatch(edge.stdout + edge.stderr, /a phrase/);
    edge.signal("SIGTERM");
    assert.equal(await edge.ended, 0);
  });
});

describe("the sealed transport", () => {
  it("carries a visitor from a port of its own, and names a changed key", { timeout }, async () => {
    const dataDir = join(folder, "sealed");
    const site = createServer((socket) => socket.end("not TLS, but it came through"));
    await new Promise<void>((resolve) => site.listen(0, "127.0.0.1", resolve));
    const { port: sitePort } = site.address() as AddressInfo;
    const edge = start(["serve", ...PORTS, "--sealed-listen", "127.0.0.1:0", "--data-dir", dataDir]);
    const [, visitors] = await edge.seen(/visitors and agents +127\.0\.0\.1:(\d+)/);
    const [, sealed] = await edge.seen(/sealed agents +127\.0\.0\.1:(\d+)/);
    const [, url = ""] = await edge.seen(/session master +(http:\/\/127\.0\.0\.1:\d+)/);
    const base = [
      ...["agent", "--master", url, "--hostname", "a.test", "--to", `127.0.0.1:${sitePort}`],
      ...["--credential-file", join(dataDir, "admin.key"), "--transport", "sealed"],
      ...["--edge", `127.0.0.1:${sealed}`],
    ];
    const agent = start(base);
    await agent.seen(/connected to the edge.*transport=sealed/, "stderr");
    const answer = await new Promise<string>((resolve, reject) => {
      let text = "";
      const visitor = connect(Number(visitors), "127.0.0.1", () => visitor.write(clientHello("a.test")));
      visitor.on("data", (part) => text += String(part)).on("end", () => resolve(text)).on("error", reject);
    });
    assert.equal(answer, "not TLS, but it came through");
    agent.signal("SIGTERM");
    assert.equal(await agent.ended, 0);

    const other = start([...base, "--edge-public-key", "A".repeat(42) + "E"]);
    assert.equal(await other.ended, 1);
    assert.match(
      other.stderr,
      /^error: Cannot open session: the session master gives .* as the edge's public key, but .* --edge-public-key/m,
    );
    site.close();
  });
});

describe("demo", { skip: await skipWithout("curl") }, () => {
  it("prints a curl line that works as it stands, and stops in order", { timeout }, async () => {
    const program = start(["demo", ...PORTS]);
    const [, line = "", file = ""] = await program.seen(/^ *(curl --cacert (\S+) https:\S+)$/m);
    assert.match(await shell(`${line} --silent --show-error`), /Hello from behind the tunnel/);
    program.signal("SIGINT");
    assert.equal(await program.ended, 0);
    await assert.rejects(stat(file), "the certificate's file is gone");
  });

  it("takes free ports where its own are in use, and says so", { timeout }, async () => {
    // Where somebody else has them already, they are in use too.
    const others = await Promise.all([8443, 8080].map(async (port) => {
      const other = createServer().listen(port, "127.0.0.1");
      await new Promise((resolve) => other.once("listening", resolve).once("error", resolve));
      return other;
    }));
    const program = start(["demo"]);
    const [, line = ""] = await program.seen(/^ *(curl --cacert \S+ https:\S+)$/m);
    assert.match(program.stdout, /^ *edge .*:\d+ \(port 8443 is in use\)$/m);
    assert.match(program.stdout, /^ *session master +http:\S+:\d+ \(port 8080 is in use\)$/m);
    assert.match(await shell(`${line} --silent --show-error`), /Hello from behind the tunnel/);
    for (const other of others) other.close();
  });
});

describe("agent", () => {
  it("reaches a server by edge and master that run apart, and says why it can't", { timeout }, async () => {
    const dataDir = ["--data-dir", join(folder, "apart")];
    const metrics = ["--metrics-listen", "127.0.0.1:0"];
    const edge = start(["edge", "--listen", "127.0.0.1:0", ...metrics, ...dataDir]);
    const [, edgePort] = await edge.seen(/visitors and agents +127\.0\.0\.1:(\d+)/);
    const master = start([
      "master",
      ...["--master-listen", "127.0.0.1:0", "--public-address", `127.0.0.1:${edgePort}`, ...dataDir],
    ]);
    const [, url = ""] = await master.seen(/session master +(http:\/\/127\.0\.0\.1:\d+)/);
    const base = ["agent", "--master", url, "--hostname", "a.example.org", "--to", "127.0.0.1:9"];
    const keyFile = join(folder, "apart", "admin.key");

    const agent = start([...base, ...metrics, "--credential-file", keyFile]);
    await agent.seen(/connected to the edge/, "stderr");
    for (
      const [program, checks] of [[edge, { edge: true, keys: true }], [agent, { session: true }]] as const
    ) {
      const [, status] = await program.seen(/metrics +(http:\/\/127\.0\.0\.1:\d+)\/metrics$/m);
      assert.deepEqual(await (await fetch(`${status}/healthz`)).json(), { status: "ok" });
      assert.deepEqual(await (await fetch(`${status}/readyz`)).json(), { status: "ready", checks });
      const text = await (await fetch(`${status}/metrics`)).text();
      const sessions = sampleValue(parsePrometheus(text), "sallyport_sessions", {
        ...{ protocol_version: "2", cipher: "aes-gcm", transport: "snitun" },
      });
      assert.equal(sessions, 1);
      const other = await fetch(`${status}/v1/tokens`, { method: "POST" });
      assert.equal(other.status, 404);
      await other.body?.cancel();
    }
    agent.signal("SIGTERM");
    assert.equal(await agent.ended, 0);
    edge.signal("SIGTERM");
    assert.equal(await edge.ended, 0);

    const stranger = start([...base, "--credential", "another-key-of-some-length"]);
    assert.equal(await stranger.ended, 1);
    assert.match(stranger.stderr, /^error: Cannot get token from .*credential refused/m);
  });
});
