/** What Deno's users meet: permission sets, questions on a terminal, and a message where there is none. */
import assert from "node:assert/strict";
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { readdir, readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import process from "node:process";
import { after, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import {
  commandOf,
  needsOf,
  permissionFlag,
  permissionSetOf,
  REASONS,
} from "../../src/runtime/deno/permissions.ts";
import { noTerminal } from "./terminal.ts";

const ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const timeout = 60_000;
const LOOPBACK = ["--listen", "127.0.0.1:0", "--master-listen", "127.0.0.1:0"];

interface PermissionSet {
  readonly env: { readonly allow: readonly string[]; readonly ignore: true };
  readonly sys: readonly string[];
  readonly read?: readonly string[];
  readonly write?: readonly string[];
  readonly net?: true;
}

async function permissionSets(): Promise<Record<string, PermissionSet>> {
  return JSON.parse(await readFile(join(ROOT, "deno.json"), "utf8")).permissions;
}

/** Deno is what this is about; on Bun it is tested where Deno is there too, as in CI. */
async function denoCommand(): Promise<string | undefined> {
  if (process.versions.deno !== undefined) return process.execPath;
  return await new Promise((resolve) =>
    execFile("deno", ["--version"], (error) => resolve(error === null ? "deno" : undefined))
  );
}
const deno = await denoCommand();
const environment = (): NodeJS.ProcessEnv => {
  const plain = Object.entries(process.env).filter(([name]) => !name.startsWith("SALLYPORT_"));
  return { ...Object.fromEntries(plain), NO_COLOR: "1", DENO_NO_UPDATE_CHECK: "1" };
};

function run(args: readonly string[], cwd = ROOT): Promise<{ code: number; out: string; err: string }> {
  return new Promise((resolve) => {
    // By a shell's variable: to a Deno that it sees itself start without a permission flag, Deno gives all permissions.
    const words = ["-c", 'exec "$PROGRAM" "$@"', "sh", ...args];
    const child = execFile(
      "sh",
      words,
      { cwd, env: { ...environment(), PROGRAM: deno } },
      (error, out, err) => {
        resolve({ code: error === null ? 0 : Number(error.code), out, err });
      },
    );
    child.stdin?.end();
  });
}

describe("permissionSetOf", () => {
  it("give each command what it asks for and no native code or subprocess", async () => {
    const sets = await permissionSets();
    for (const command of ["serve", "edge", "master", "agent", "token", "keygen", "demo", "pipe"]) {
      const set = sets[permissionSetOf(command)];
      assert.ok(set, command);
      assert.deepEqual(Object.keys(set).sort(), [...needsOf(command)].sort(), command);
    }
    assert.deepEqual(Object.keys(sets).sort(), ["agent", "default", "edge", "master", "tools", "workers"]);
    // --workers alone starts processes: the program itself, by Deno.
    const { run, ...rest } = sets.workers as PermissionSet & { readonly run: readonly string[] };
    assert.deepEqual([run, rest], [["deno"], sets.default]);
    assert.ok(Object.keys(REASONS).every((name) => name in (sets.default ?? {})));
  });

  it("name every environment variable that the program reads, and grant a command no other's", async () => {
    const sets = await permissionSets();
    const { allow } = sets.default!.env;
    const allowed = (name: string) =>
      allow.some((known) => known.endsWith("*") ? name.startsWith(known.slice(0, -1)) : name === known);
    for (const entry of await readdir(join(ROOT, "src"), { recursive: true, withFileTypes: true })) {
      if (!entry.isFile() || !entry.name.endsWith(".ts")) continue;
      const text = await readFile(join(entry.parentPath, entry.name), "utf8");
      for (const [, name = ""] of text.matchAll(/\benv\??\.([A-Z][A-Z0-9_]+)\b/g)) {
        assert.ok(allowed(name), `${entry.name} reads ${name}, which deno.json's default set doesn't allow`);
      }
    }
    // What a command does without: the rest is the default set's.
    const proxies = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"];
    const temporary = ["TMPDIR", "TMP", "TEMP"];
    const manager = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"];
    const visitors = ["MULTIPLEXER_*", "SSLKEYLOGFILE"];
    const agentsOwn = ["networkInterfaces", "ca"];
    const without: Readonly<Record<string, readonly string[]>> = {
      agent: temporary,
      edge: [...proxies, ...temporary, ...agentsOwn],
      master: [...visitors, ...proxies, ...temporary, ...agentsOwn],
      tools: [
        ...[...visitors, "OTEL_*", ...manager, ...proxies, ...temporary],
        ...[...agentsOwn, "systemMemoryInfo"],
      ],
    };
    const grants = ({ env, sys }: PermissionSet) => [...env.allow, ...sys];
    for (const [name, lacking] of Object.entries(without)) {
      const expected = grants(sets.default!).filter((each) => !lacking.includes(each));
      assert.deepEqual(grants(sets[name]!), expected, name);
    }
  });

  it("are found by the command", () => {
    const flags: [string[], string][] = [
      [[], "-P"],
      [["--listen", "a:1"], "-P"],
      [["serve"], "-P"],
      [["agent", "--to", "b:1"], "-P=agent"],
      [["token"], "-P=tools"],
      [["--help"], "-P=tools"],
      [["pipe", "send"], "-P"],
    ];
    for (const [args, flag] of flags) assert.equal(permissionFlag(commandOf(args)), flag, args.join(" "));
  });
});

describe("deno run mod.ts", { skip: deno === undefined && "deno isn't on PATH" }, () => {
  const running: ChildProcess[] = [];
  after(() => {
    for (const child of running) child.kill("SIGKILL");
  });

  it(
    "without a terminal says in one screen what is missing, and the line that works",
    { timeout },
    async () => {
      const { code, out, err } = await run(["run", "--no-check", "mod.ts", "keygen"]);
      assert.deepEqual([code, out], [2, ""]);
      assert.match(err, /^Cannot start: Deno didn't permit what `keygen` needs:/m);
      assert.doesNotMatch(err, /\bat .*:\d+:\d+|NotCapable/);
      assert.ok(err.split("\n").length < 24, err);
      const line = /^ {2}deno (run .*)$/m.exec(err)?.[1] ?? "";
      assert.equal(line, `run -P=tools ${join(ROOT, "mod.ts")} keygen`);
      const worked = await run(line.split(" "), tmpdir());
      assert.equal(worked.code, 0, worked.err);
      assert.match(worked.out, /^[\w-]{43}=\n$/);
    },
  );

  it("names the flag where a set doesn't do", { timeout }, async () => {
    const { code, err } = await run([
      ...["run", "-P=tools", "--no-check", "mod.ts", "token", "--hostname", "a.test"],
      ...["--fernet-keys-file", "/elsewhere/keys"],
    ]);
    assert.equal(code, 2);
    assert.match(
      err,
      /^error: Deno doesn't permit read .*deno run -P=tools --allow-read=\/elsewhere\/keys mod\.ts token/m,
    );
    // A data folder is read and written: one line permits both.
    const agent = await run([
      ...["run", "-P=agent", "--no-check", "mod.ts", "agent", "--data-dir", "/elsewhere/data"],
      ...["--join", `http://127.0.0.1:1/#${"c".repeat(27)}`, "--to", "127.0.0.1:1"],
    ]);
    assert.match(agent.err, / --allow-read=\/elsewhere\/data --allow-write=\/elsewhere\/data mod\.ts agent /);
  });

  /** Runs a command on a terminal of its own, by util-linux's `script`. */
  const onTerminal = (command: string): ChildProcess & { seen: string } => {
    const child = spawn("script", ["-qec", command, "/dev/null"], { cwd: ROOT, env: environment() });
    running.push(child);
    return Object.assign(child, { seen: "" });
  };

  for (const set of ["", "-P"]) {
    const asks = set === "" ? 5 : 0;
    it(`${set} on a terminal asks ${asks} questions, then runs`, { timeout, skip: noTerminal }, async () => {
      const child = onTerminal(`${deno} run ${set} --no-check mod.ts demo ${LOOPBACK.join(" ")}`);
      let questions = 0;
      let answering: ReturnType<typeof setInterval> | undefined;
      await new Promise<void>((resolve, reject) => {
        child.once("close", () => reject(new Error(`it ended: ${child.seen}`)));
        child.stdout?.on("data", (part) => {
          child.seen += String(part);
          questions = child.seen.split("Allow?").length - 1;
          // Deno discards what is typed before it reads the answer: so type until it has gone on.
          if (questions > 0) answering ??= setInterval(() => child.stdin?.write("y\n"), 100);
          if (child.seen.includes("curl --cacert")) resolve();
        });
      }).finally(() => clearInterval(answering));
      assert.equal(questions, asks, child.seen);
      if (asks > 0) {
        for (const reason of Object.values(REASONS)) assert.ok(child.seen.includes(reason), reason);
        assert.match(child.seen, /To grant them without questions: deno run -P \S+mod\.ts demo/);
      }
      child.removeAllListeners("close");
      const closed = new Promise((resolve) => child.once("close", resolve));
      child.stdin?.write("\x03");
      await closed;
    });
  }
});
