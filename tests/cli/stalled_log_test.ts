/** Programs whose log nobody reads, or that can't be written, as processes. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import process from "node:process";
import { after, afterEach, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { clientHello } from "../support/client_hello.ts";
import { denoFlags } from "../support/deno_flags.ts";

const timeout = 60_000;
const ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
/** Each request is a line of the log that is about so long. */
const PATH = `/${"x".repeat(900)}`;
const LINES = 1_600;

let folder: string;
let children: ChildProcess[] = [];
before(async () => void (folder = await mkdtemp(join(tmpdir(), "sallyport-log-"))));
after(() => rm(folder, { recursive: true, force: true }));
afterEach(() => {
  for (const child of children) child.kill("SIGKILL");
  children = [];
});

interface Started {
  readonly child: ChildProcess;
  readonly base: string;
  /** The edge's. */
  readonly port: number;
}

/**
 * Starts an edge and a session master in one process; its standard error goes where the shell's words say, or to a pipe
 * that nobody reads.
 */
async function start(redirection: string): Promise<Started> {
  const args = [
    ...["serve", "--listen", "127.0.0.1:0", "--master-listen", "127.0.0.1:0"],
    ...["--data-dir", folder, "--log-level", "debug"],
  ];
  const own = process.versions.deno === undefined ? [] : denoFlags(args);
  const script = `exec "$0" "$@" ${redirection}`;
  const child = spawn("/bin/sh", ["-c", script, process.execPath, ...own, join(ROOT, "mod.ts"), ...args], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  children.push(child);
  return await new Promise<Started>((resolve, reject) => {
    let text = "";
    child.stdout!.on("data", (part) => {
      text += String(part);
      const port = /visitors and agents +127\.0\.0\.1:(\d+)/.exec(text)?.[1];
      const base = /(http:\/\/127\.0\.0\.1:\d+)/.exec(text)?.[1];
      if (port !== undefined && base !== undefined) resolve({ child, base, port: Number(port) });
    });
    child.on("close", (code) => reject(new Error(`it ended with ${code}: ${text}`)));
  });
}

/** A visitor is answered: by an alert, since no agent has the name. */
async function visit(port: number): Promise<void> {
  const socket = connect(port, "127.0.0.1", () => socket.write(clientHello("nobody.test")));
  try {
    const [first] = await once(socket, "data", { signal: AbortSignal.timeout(10_000) });
    assert.equal((first as Uint8Array)[0], 0x15);
  } finally {
    socket.destroy();
  }
}

async function makeLines(base: string, count: number): Promise<void> {
  let left = count;
  const worker = async () => {
    while (left-- > 0) {
      const response = await fetch(base + PATH, { signal: AbortSignal.timeout(10_000) });
      assert.equal(response.status, 404);
      await response.body?.cancel();
    }
  };
  await Promise.all(Array.from({ length: 8 }, worker));
}

async function lost(base: string): Promise<number> {
  const text = await (await fetch(`${base}/metrics`)).text();
  return Number(/^sallyport_log_lines_lost_total (\d+)$/m.exec(text)?.[1]);
}

function ended(child: ChildProcess): Promise<number | null> {
  return new Promise((resolve) => child.on("exit", (code) => resolve(code)));
}

function terminate(child: ChildProcess): Promise<number | null> {
  const over = ended(child);
  // Not by `kill` of the child: Deno then reports this signal as its end, whatever it ended with.
  process.kill(child.pid!, "SIGTERM");
  return over;
}

describe("edge whose log isn't read", { skip: process.platform === "win32" }, () => {
  it(
    "that nobody reads holds nothing up, and says what was lost when somebody does",
    { timeout },
    async () => {
      const { child, base, port } = await start("");
      await makeLines(base, LINES);
      await visit(port);
      const count = await lost(base);
      assert.ok(count > 0 && count < LINES, `${count} lines were lost`);
      let text = "";
      const told = new Promise<void>((resolve) => {
        child.stderr!.on("data", (part) => {
          if (/lines of this log were lost.*lost_lines=\d+/.test(text += String(part))) resolve();
        });
      });
      await told;
      assert.equal(await terminate(child), 0);
    },
  );

  it("that nobody reads doesn't keep the program from stopping", { timeout }, async () => {
    const { child, base, port } = await start("");
    await makeLines(base, 400);
    await visit(port);
    assert.equal(await terminate(child), 0);
  });

  it("on a full disk, or into a closed pipe, doesn't either", { timeout }, async () => {
    for (const redirection of ["2>/dev/full", "2>&-", ""]) {
      const { child, base, port } = await start(redirection);
      if (redirection === "") child.stderr!.destroy();
      await makeLines(base, 20);
      await visit(port);
      if (redirection === "2>/dev/full") assert.ok(await lost(base) > 0);
      assert.equal(await terminate(child), 0);
    }
  });
});
