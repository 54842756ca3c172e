/**
 * Runs the program as its users do: as a process of the runtime that the tests run on, or, where SALLYPORT_PROGRAM names
 * one, from a single file that `deno task build` made.
 *
 * @module
 */
import { type ChildProcess, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import process from "node:process";
import { afterEach } from "node:test";
import { fileURLToPath } from "node:url";
import { denoFlags } from "../support/deno_flags.ts";
import type { OtherRuntime } from "../support/other_runtime.ts";

const ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))));

/** How long anything that a test waits for may take. */
const PATIENCE_MS = 30_000;

/** The words that start the program under test, up to its arguments, which decide on Deno's permissions. */
export function programWords(args: readonly string[]): readonly [command: string, ...words: string[]] {
  const file = process.env.SALLYPORT_PROGRAM;
  if (file) return [file];
  const flags = process.versions.deno === undefined ? [] : denoFlags(args);
  return [process.execPath, ...flags, join(ROOT, "mod.ts")];
}

/** A running program. */
export class Program {
  readonly #child: ChildProcess;
  readonly #watchers = new Set<() => void>();
  /** The exit code, or the signal's name. */
  readonly ended: Promise<number | string>;
  stdout = "";
  stderr = "";
  #over = false;
  #signalled = false;

  /**
   * Starts `mod.ts` with these arguments; of the environment's SALLYPORT_ variables only those of `env`. `on` is another
   * runtime than the tests'; with `foreign` it is another program altogether. Without a folder of its own (`cwd`) it gets
   * an empty data folder: in a common one, agents of tests that run side by side would refuse each other's names.
   */
  constructor(
    args: readonly string[],
    env: Readonly<Record<string, string>> = {},
    cwd?: string,
    on?: Pick<OtherRuntime, "command" | "args"> & { readonly foreign?: boolean },
  ) {
    // The other runtime's flags are made before its arguments are known.
    const other = on?.args[0] === "run" && args.includes("--libsodium")
      ? { ...on, args: denoFlags(args) }
      : on;
    const main = on?.foreign === true ? [] : [join(ROOT, "mod.ts")];
    const [command, ...words] = other === undefined
      ? programWords(args)
      : [other.command, ...other.args, ...main];
    const outer = Object.entries(process.env).filter(([name]) => !name.startsWith("SALLYPORT_"));
    const dataDir = cwd === undefined ? join(tmpdir(), `sallyport-data-${randomUUID()}`) : undefined;
    const given = { NO_COLOR: "1", ...dataDir === undefined ? {} : { SALLYPORT_DATA_DIR: dataDir } };
    this.#child = spawn(command, [...words, ...args], {
      cwd: cwd ?? ROOT,
      env: { ...Object.fromEntries(outer), ...given, ...env },
      stdio: [on?.foreign === true ? "pipe" : "ignore", "pipe", "pipe"],
    });
    this.#child.stdout?.on("data", (part) => this.#take(() => this.stdout += String(part)));
    this.#child.stderr?.on("data", (part) => this.#take(() => this.stderr += String(part)));
    this.ended = new Promise((resolve) => {
      this.#child.on("close", async (code, signal) => {
        if (dataDir !== undefined) await rm(dataDir, { recursive: true, force: true });
        this.#take(() => this.#over = true);
        // Windows has no signals: the program is ended at once, and its exit code says nothing.
        resolve(process.platform === "win32" && this.#signalled ? 0 : code ?? signal ?? "?");
      });
    });
  }

  /** The first match in what the program wrote or will write to an output; rejects when it ends without. */
  seen(
    pattern: RegExp,
    output: "stdout" | "stderr" = "stdout",
    patienceMs = PATIENCE_MS,
  ): Promise<RegExpExecArray> {
    return new Promise((resolve, reject) => {
      const done = (why?: string) => {
        clearTimeout(timer);
        this.#watchers.delete(look);
        if (why !== undefined) {
          reject(new Error(`${why} before ${pattern} was seen\n${this.stdout}\n${this.stderr}`));
        }
      };
      const timer = setTimeout(() => done("time is over"), patienceMs);
      const look = () => {
        const match = pattern.exec(this[output]);
        if (match === null) {
          if (this.#over) done("the program ended");
          return;
        }
        done();
        resolve(match);
      };
      this.#watchers.add(look);
      look();
    });
  }

  /** Types a line, where the program is a foreign one. */
  type(line: string): void {
    this.#child.stdin?.write(`${line}\r`);
  }

  /** Its process's id. */
  get pid(): number {
    return this.#child.pid!;
  }

  /** Sends a signal. */
  signal(name: "SIGINT" | "SIGTERM" | "SIGHUP" | "SIGSTOP" | "SIGUSR2"): void {
    this.#signalled = true;
    // Not by `kill` of the child: Deno then reports this signal as its end, whatever it ended with.
    if (!this.#over && this.#child.pid !== undefined) process.kill(this.#child.pid, name);
  }

  /** Ends it, if it still runs. */
  async kill(): Promise<void> {
    if (!this.#over) this.#child.kill("SIGKILL");
    await this.ended;
  }

  #take(change: () => void): void {
    change();
    for (const look of [...this.#watchers]) look();
  }
}

/** Starts programs for the tests of a file; after each test it ends those that still run. */
export function programStarter(): (
  args: readonly string[],
  env?: Readonly<Record<string, string>>,
) => Program {
  const running: Program[] = [];
  afterEach(async () => {
    await Promise.all(running.splice(0).map((program) => program.kill()));
  });
  return (args, env) => {
    const program = new Program(args, env);
    running.push(program);
    return program;
  };
}

/** `serve` on free ports of this machine. */
export interface RunningServe {
  readonly program: Program;
  /** Where visitors and agents connect. */
  readonly port: number;
  /** The session master's URL. */
  readonly master: string;
}

/** Starts `serve` with a data folder, and waits until it says where it listens. */
export async function startServe(
  start: (args: readonly string[]) => Program,
  dataDir: string,
  more: readonly string[] = [],
): Promise<RunningServe> {
  const program = start([
    ...["serve", "--listen", "127.0.0.1:0", "--master-listen", "127.0.0.1:0"],
    ...["--data-dir", dataDir, ...more],
  ]);
  const [, port] = await program.seen(/visitors and agents +127\.0\.0\.1:(\d+)/);
  const [, master = ""] = await program.seen(/session master +(http:\/\/127\.0\.0\.1:\d+)/);
  return { program, port: Number(port), master };
}
