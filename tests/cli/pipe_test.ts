import assert from "node:assert/strict";
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import process from "node:process";
import { after, before, beforeEach, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { denoFlags } from "../support/deno_flags.ts";
import { freePorts } from "../support/free_ports.ts";

const timeout = 60_000;
const MAIN = join(dirname(dirname(dirname(fileURLToPath(import.meta.url)))), "mod.ts");
const PATIENCE_MS = 30_000;
const windows = process.platform === "win32";
const ENV = { SALLYPORT_PIPE_LOGIN: "name", SALLYPORT_PIPE_PASSPHRASE: "the secret phrase" };

/** How to start a runtime: the one that the tests run on first, the other where it is installed. */
const RUNTIMES: { readonly name: string; readonly command: readonly string[] }[] = [];

interface Run {
  readonly child: ChildProcess;
  readonly ended: Promise<{ code: number | string; stdout: Buffer; stderr: string }>;
  seen(pattern: RegExp): Promise<RegExpExecArray>;
}

let folder = "";
let publicKey = "";
const running = new Set<ChildProcess>();

function start(
  args: readonly string[],
  { env = ENV, input, runtime = 0 }: { env?: Record<string, string>; input?: Uint8Array; runtime?: number } =
    {},
): Run {
  const [command, ...own] = RUNTIMES[runtime]!.command as [string, ...string[]];
  const inherited = Object.entries(process.env).filter(([name]) => !name.startsWith("SALLYPORT_"));
  const child = spawn(command, [...own, MAIN, "pipe", ...args], {
    cwd: folder,
    env: { ...Object.fromEntries(inherited), NO_COLOR: "1", ...env },
    stdio: ["pipe", "pipe", "pipe"],
  });
  running.add(child);
  const stdout: Buffer[] = [];
  let stderr = "";
  let look = () => {};
  child.stdin!.on("error", () => {});
  child.stdin!.end(input);
  child.stdout!.on("data", (part: Buffer) => void stdout.push(part));
  child.stderr!.on("data", (part) => {
    stderr += String(part);
    look();
  });
  const ended = new Promise<{ code: number | string; stdout: Buffer; stderr: string }>((resolve) => {
    child.on("close", (code, signal) => {
      running.delete(child);
      look();
      resolve({ code: code ?? signal ?? "?", stdout: Buffer.concat(stdout), stderr });
    });
  });
  const seen = (pattern: RegExp) =>
    new Promise<RegExpExecArray>((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`no ${pattern} in time:\n${stderr}`)), PATIENCE_MS);
      look = () => {
        const match = pattern.exec(stderr);
        if (match === null && running.has(child)) return;
        clearTimeout(timer);
        if (match === null) reject(new Error(`it ended without ${pattern}:\n${stderr}`));
        else resolve(match);
      };
      look();
    });
  return { child, ended, seen };
}

/** Starts a receiver and answers where it listens. */
async function listen(args: readonly string[], runtime = 0): Promise<{ receiver: Run; to: string }> {
  const receiver = start(["receive", "--listen", "127.0.0.1:0", "--key-file", "pipe.key", ...args], {
    runtime,
  });
  const [, to] = await receiver.seen(/Listening on (\S+), public key [0-9a-f]{64}\n/);
  return { receiver, to: to! };
}

/** Not child.kill: Deno reports the signal then, whatever code the process ends with. */
const interrupt = ({ child }: Run): void => void process.kill(child.pid!, "SIGINT");

const send = (to: string, args: readonly string[], options: Parameters<typeof start>[1] = {}): Run =>
  start(["send", "--to", to, "--public-key", publicKey, ...args], options);

const bytes = (size: number): Buffer => {
  const filled = Buffer.alloc(size);
  for (let at = 0; at < size; at += 4) filled.writeUInt32LE((at * 2654435761) >>> 0, at);
  return filled;
};

before(async () => {
  const deno = denoFlags();
  const own = process.versions.deno === undefined ? "bun" : "deno";
  RUNTIMES.push({ name: own, command: [process.execPath, ...(own === "deno" ? deno : [])] });
  const other = own === "deno" ? "bun" : "deno";
  await promisify(execFile)(other, ["--version"]).then(
    () => RUNTIMES.push({ name: other, command: [other, ...(other === "deno" ? deno : [])] }),
    () => {},
  );
  folder = await mkdtemp(join(tmpdir(), "sallyport-"));
  const made = await start(["keygen", "pipe.key"]).ended;
  assert.equal(made.code, 0, made.stderr);
  publicKey = made.stdout.toString().trim();
});
after(async () => {
  for (const child of running) child.kill("SIGKILL");
  await rm(folder, { recursive: true, force: true });
});
beforeEach(() => {
  for (const child of running) child.kill("SIGKILL");
});

describe("pipe", () => {
  it(
    "keygen writes a secret for its owner and prints the public half; it overwrites nothing",
    { timeout },
    async () => {
      assert.match(publicKey, /^[0-9a-f]{64}$/);
      const secret = await readFile(join(folder, "pipe.key"), "utf8");
      assert.match(secret, /^[0-9a-f]{64}\n$/);
      assert.notEqual(secret.trim(), publicKey);
      if (!windows) assert.equal((await stat(join(folder, "pipe.key"))).mode & 0o777, 0o600);
      const again = await start(["keygen", "pipe.key"]).ended;
      assert.equal(again.code, 2);
      assert.equal(await readFile(join(folder, "pipe.key"), "utf8"), secret);
    },
  );

  it("a file arrives whole, and both end with 0", { timeout }, async () => {
    const content = bytes(5_000_000);
    await writeFile(join(folder, "in"), content);
    const { receiver, to } = await listen(["out"]);
    const sent = await send(to, ["in"]).ended;
    assert.equal(sent.code, 0, sent.stderr);
    assert.match(sent.stderr, /^Sent 5\.0 MB in .*: confirmed, and in its place\n$/);
    const received = await receiver.ended;
    assert.equal(received.code, 0, received.stderr);
    assert.match(received.stderr, /Receiving from 127\.0\.0\.1:\d+\nReceived 5\.0 MB/);
    assert.ok((await readFile(join(folder, "out"))).equals(content));
    assert.equal(sent.stdout.length + received.stdout.length, 0);
    assert.ok(!(sent.stderr + received.stderr).includes("secret phrase"));
  });

  it("standard input goes to standard output, on either runtime in either role", { timeout }, async () => {
    const content = bytes(1_000_003 & ~3);
    for (const [from, to] of [[0, 0], [0, 1], [1, 0]] as const) {
      if (RUNTIMES[from] === undefined || RUNTIMES[to] === undefined) continue;
      const { receiver, to: address } = await listen([], to);
      const sent = await send(address, [], { input: content, runtime: from }).ended;
      assert.equal(sent.code, 0, sent.stderr);
      const received = await receiver.ended;
      assert.equal(received.code, 0, received.stderr);
      assert.ok(received.stdout.equals(content), `${RUNTIMES[from]!.name} to ${RUNTIMES[to]!.name}`);
    }
  });

  it("speaks as the C programs do when told to, and says what that lacks", { timeout }, async () => {
    const { receiver, to } = await listen(["plain", "--plain"]);
    const sent = await send(to, [], { input: bytes(300_000) }).ended;
    assert.equal(sent.code, 0);
    assert.match(sent.stderr, /: confirmed\n$/);
    const received = await receiver.ended;
    assert.equal(received.code, 0);
    assert.match(received.stderr, /doesn't mark the end/);
    assert.ok((await readFile(join(folder, "plain"))).equals(bytes(300_000)));
  });

  it("a FIFO at both ends", { skip: windows, timeout }, async () => {
    await promisify(execFile)("mkfifo", [join(folder, "from"), join(folder, "into")]);
    const { receiver, to } = await listen(["into"]);
    const sender = send(to, ["from"]);
    const reader = readFile(join(folder, "into"));
    await writeFile(join(folder, "from"), bytes(2_000_000));
    assert.equal((await sender.ended).code, 0);
    assert.equal((await receiver.ended).code, 0);
    assert.ok((await reader).equals(bytes(2_000_000)));
  });

  it(
    "a wrong passphrase is 1 for the sender, and changes nothing for the receiver",
    { timeout },
    async () => {
      const { receiver, to } = await listen(["right"]);
      const env = { ...ENV, SALLYPORT_PIPE_PASSPHRASE: "guess" };
      const refused = await send(to, [], { input: bytes(8), env }).ended;
      assert.equal(refused.code, 1);
      assert.match(refused.stderr, /^error: The receiver closed without an answer/);
      await receiver.seen(/Refused 127\.0\.0\.1:\d+: Login or passphrase is wrong\n/);
      assert.equal((await send(to, [], { input: bytes(8) }).ended).code, 0);
      const received = await receiver.ended;
      assert.equal(received.code, 0);
      assert.ok(!received.stderr.includes("guess"));
    },
  );

  it("a reader that goes away is 1 for both, not a death by SIGPIPE", { timeout }, async () => {
    const { receiver, to } = await listen([]);
    receiver.child.stdout!.destroy();
    const sent = await send(to, [], { input: bytes(4_000_000) }).ended;
    assert.equal(sent.code, 1);
    assert.match(sent.stderr, /gave up: Cannot write standard output/);
    const received = await receiver.ended;
    assert.equal(received.code, 1);
    assert.match(received.stderr, /error: Cannot write standard output/);
  });

  it(
    "Ctrl-C ends a receiver that waits, and one in a transfer leaves nothing",
    { skip: windows },
    async () => {
      const idle = await listen(["never"]);
      interrupt(idle.receiver);
      const stopped = await idle.receiver.ended;
      assert.equal(stopped.code, 1);
      assert.match(stopped.stderr, /error: The transfer was interrupted\n$/);

      await promisify(execFile)("mkfifo", [join(folder, "slow")]);
      const { receiver, to } = await listen(["half"]);
      const sender = send(to, ["slow"]);
      // The FIFO's writer stays, so that the sender waits for more.
      const writer = spawn("sh", ["-c", "exec 3>slow; head -c 100000 /dev/zero >&3; read x"], {
        cwd: folder,
      });
      running.add(writer);
      await receiver.seen(/Receiving from/);
      // Until it has all that is there, and so the change of keys after it.
      const drafts = async () => (await readdir(folder)).filter((name) => name.startsWith(".half."));
      for (const end = Date.now() + PATIENCE_MS;;) {
        const [draft] = await drafts();
        if (draft !== undefined && (await stat(join(folder, draft))).size === 100_000) break;
        assert.ok(Date.now() < end, "the bytes didn't come");
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
      interrupt(receiver);
      assert.equal((await receiver.ended).code, 1);
      const sent = await sender.ended;
      writer.kill("SIGKILL");
      running.delete(writer);
      assert.equal(sent.code, 1);
      assert.match(sent.stderr, /gave up: The transfer was interrupted/);
      assert.deepEqual((await readdir(folder)).filter((name) => name.includes("half")), []);
    },
  );

  it("wrong usage and settings are 2, and name what is wrong", { timeout }, async () => {
    const runs: [string[], Record<string, string>, RegExp][] = [
      [["send", "--to", "127.0.0.1:1"], ENV, /receiver's key is missing/],
      [["send", "--public-key", publicKey], ENV, /--to/],
      [["send", "--to", "a:b:c", "--public-key", publicKey], ENV, /needs host:port/],
      [["send", "--to", "127.0.0.1:1", "--public-key", publicKey], {}, /SALLYPORT_PIPE_LOGIN/],
      [["send", "--to", "127.0.0.1:1", "--public-key", publicKey, "none"], ENV, /Cannot read none/],
      [["receive"], ENV, /key is missing/],
      [["receive", "--key-file", "pipe.key", "pipe.key"], ENV, /it exists/],
      [["receive", "--key-file", "none"], ENV, /Cannot read none/],
      [["receive", "--key-file", "pipe.key", "--max-size", "big"], ENV, /--max-size: "big" is not a size/],
    ];
    const ended = await Promise.all(runs.map(([args, env]) => start(args, { env }).ended));
    for (const [index, { code, stderr }] of ended.entries()) {
      assert.equal(code, 2, stderr);
      assert.match(stderr, runs[index]![2]);
    }
  });

  it(
    "a transfer that is longer than --max-size is 1 for both, and nothing of it stays",
    { timeout },
    async () => {
      const { receiver, to } = await listen(["long", "--max-size", "100kB"]);
      const sent = await send(to, [], { input: bytes(100_004) }).ended;
      const received = await receiver.ended;
      assert.deepEqual([sent.code, received.code], [1, 1]);
      assert.match(sent.stderr, /gave up: Cannot receive transfer: it exceeds the limit of 100000 bytes/);
      assert.match(received.stderr, /it exceeds the limit of 100000 bytes/);
      assert.deepEqual((await readdir(folder)).filter((name) => name.includes("long")), []);
    },
  );

  it("credentials come from a file too; nobody listening is 1", { timeout }, async () => {
    await writeFile(join(folder, "credentials"), "name\nthe secret phrase\n", { mode: 0o600 });
    const { receiver, to } = await listen(["by_file", "--credentials-file", "credentials"]);
    const options = { env: {}, input: bytes(8) };
    assert.equal((await send(to, ["--credentials-file", "credentials"], options).ended).code, 0);
    assert.equal((await receiver.ended).code, 0);
    // Not the receiver's port: somebody else may have been given it meanwhile.
    const nowhere = `127.0.0.1:${await freePorts(1)}`;
    const late = await send(nowhere, ["--credentials-file", "credentials"], options).ended;
    assert.equal(late.code, 1);
    assert.match(late.stderr, /^error: Cannot connect/);
  });
});
