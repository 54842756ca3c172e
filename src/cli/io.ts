/**
 * The commands' interface to the process, so that tests can replace it.
 *
 * @module
 */
import { basename, parse, relative } from "node:path";
import process from "node:process";
import { createInterface } from "node:readline/promises";
import { isatty } from "node:tty";
import { SallyportError } from "../errors.ts";
import { LineOutput, OUTPUT_WAITING_MAX_BYTES, processWrite } from "../runtime/line_output.ts";
import { terminalText } from "../telemetry/log.ts";
import { commandOf, permissionFlag } from "../runtime/deno/permissions.ts";

/** A stop signal within this time of another is the same Ctrl-C, forwarded by `bun run` or npx. */
export const SIGNAL_ECHO_MS = 300;

/** Signals for an orderly shutdown. */
export type StopSignal = "SIGINT" | "SIGTERM";

/** Output for logs. */
interface LogOutput {
  readonly colour: boolean;
  /** Writes a line including its newline. */
  write(line: string): void;
  /** Number of output lines lost because they couldn't be written. */
  lostLines(): number;
  /** Sets a handler that receives the number of lost lines once writing works again. */
  whenRecovered(handler: (lost: number) => void): void;
}

/** The process around a command. */
export interface CliIo {
  /** How to call this program, for examples in messages: `deno run -P mod.ts`; see {@link commandLine}. */
  readonly program: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Writes a line to standard output: results and what to do next. */
  out(line: string): void;
  /** Writes a line to standard error: faults. Logs go there too. */
  err(line: string): void;
  /** Calls `handler` on every stop signal; the returned function undoes it. */
  onStop(handler: (signal: StopSignal) => void): () => void;
  /** Calls `handler` on every reload signal (SIGHUP, if the system has it); the returned function undoes it. */
  onReload(handler: () => void): () => void;
  /** Calls `handler` on every upgrade signal (SIGUSR2, if the system has it); the returned function undoes it. */
  onUpgrade?(handler: () => void): () => void;
  /** Prompts on the terminal, and resolves with the line typed; absent without a terminal. */
  ask?(question: string): Promise<string>;
  /** Ends the process at once. */
  exit(code: number): void;
  /** Standard error for logs, whose lines are already sanitised and may be coloured. */
  readonly logs?: LogOutput;
  /** Resolves when all output has left the process, so that exiting loses nothing. */
  flushed?(): Promise<void>;
}

/** How long a long-running program waits on exit for the readers of its output. */
const FLUSH_GRACE_MS = 1_000;

/** The real process. */
export function processIo(): CliIo {
  let recovered = (lost: number) => err.write(`Warning: ${lost} lines were lost here\n`);
  const out = new LineOutput(processWrite(1));
  const err = new LineOutput(processWrite(2), (lost) => recovered(lost));
  // A command that prints and exits loses nothing, and waits for its reader (`| less`); a long-running one must be able
  // to go on and to stop.
  let graceMs = Infinity;
  out.waitingMaxBytes = err.waitingMaxBytes = Infinity;
  const startedOnTerminal = process.stdin.isTTY === true;
  /** SIGHUP requests a reload, unless it means that the terminal has closed, which ends the program. */
  const onHangUp = (handler: (terminalIsGone: boolean) => void) => {
    if (process.platform === "win32") return () => {};
    const call = () => handler(startedOnTerminal && !isatty(0));
    process.on("SIGHUP", call);
    return () => void process.off("SIGHUP", call);
  };
  const flushed = async () => void await Promise.all([out.flushed(graceMs), err.flushed(graceMs)]);
  const ask = async (question: string) => {
    // The prompt bypasses the output queues: what precedes it must have left them.
    await flushed();
    return await askOnTerminal(question);
  };
  return {
    program: programName(),
    env: process.env,
    out: (line) => out.write(`${terminalText(line)}\n`),
    err: (line) => err.write(`${terminalText(line)}\n`),
    logs: {
      colour: process.stderr.isTTY === true && !process.env.NO_COLOR && process.env.TERM !== "dumb",
      write: (line) => err.write(line),
      lostLines: () => out.lost + err.lost,
      whenRecovered: (handler) => void (recovered = handler),
    },
    flushed,
    onStop(handler) {
      graceMs = FLUSH_GRACE_MS;
      out.waitingMaxBytes = err.waitingMaxBytes = OUTPUT_WAITING_MAX_BYTES;
      const signals: readonly StopSignal[] = ["SIGINT", "SIGTERM"];
      const stop = withoutEchoes(handler, () => performance.now());
      const handlers = signals.map((signal) => [signal, () => stop(signal)] as const);
      for (const [signal, call] of handlers) process.on(signal, call);
      const undoHangUp = onHangUp((terminalIsGone) => {
        if (terminalIsGone) stop("SIGTERM");
      });
      return () => {
        undoHangUp();
        for (const [signal, call] of handlers) process.off(signal, call);
      };
    },
    onReload(handler) {
      return onHangUp((terminalIsGone) => {
        if (!terminalIsGone) handler();
      });
    },
    onUpgrade(handler) {
      if (process.platform === "win32") return () => {};
      process.on("SIGUSR2", handler);
      return () => void process.off("SIGUSR2", handler);
    },
    ...process.stdin.isTTY && process.stderr.isTTY ? { ask } : {},
    exit: (code) => process.exit(code),
  };
}

/**
 * Calls `handler` for the first signal, and for deliberate later ones. A runner (`bun run`, npx) forwards Ctrl-C to a
 * program that has already received it from the terminal, and that must not count as the second one.
 */
export function withoutEchoes(
  handler: (signal: StopSignal) => void,
  nowMs: () => number,
): (signal: StopSignal) => void {
  let lastMs = -Infinity;
  return (signal) => {
    const now = nowMs();
    if (now - lastMs < SIGNAL_ECHO_MS) return;
    lastMs = now;
    handler(signal);
  };
}

async function askOnTerminal(question: string): Promise<string> {
  // A dumb terminal does its own line editing, and shows control sequences verbatim.
  const terminal = process.env.TERM !== "dumb";
  const lines = createInterface({ input: process.stdin, output: process.stderr, terminal });
  const ended = new AbortController();
  lines.once("close", () => ended.abort());
  lines.once("SIGINT", () => lines.close());
  try {
    return await lines.question(question, { signal: ended.signal });
  } catch {
    throw new SallyportError("aborted", "Cannot start: the questions were left unanswered", {
      side: "local",
    });
  } finally {
    lines.close();
  }
}

/** A command line of this program ready to type: with the command's permission set if Deno runs it. */
export function commandLine({ program }: Pick<CliIo, "program">, args: string): string {
  const start = program.replace(/^deno run -P /, `deno run ${permissionFlag(commandOf(args.split(" ")))} `);
  return `${start} ${args}`.trimEnd();
}

/** The command line that started this program, up to its own arguments. */
function programName(): string {
  const script = process.argv[1];
  const runtime = basename(process.execPath).replace(/\.exe$/, "");
  // Compiled into one file, the program's executable is also the runtime.
  if (script === undefined || !/^(deno|bun)/.test(runtime)) return runtime;
  // Installed from npm, its launcher runs this file.
  if (/[\\/]dist[\\/](main|mod)\.js$|[\\/]sallyport(\.js)?$/.test(script)) return "sallyport";
  return `${runtime.startsWith("deno") ? "deno run -P" : "bun"} ${scriptPath(script, process.cwd())}`;
}

/**
 * The program's file as a user types it: from the folder that it was started in. Services start in the root folder, where
 * nobody types.
 */
export function scriptPath(script: string, cwd: string): string {
  const file = relative(cwd, script);
  return file.startsWith("..") || cwd === parse(cwd).root ? script : file;
}
