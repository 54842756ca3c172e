/**
 * Runs the program on a terminal of its own, by util-linux's `script`.
 *
 * @module
 */
import { spawnSync } from "node:child_process";
import process from "node:process";
import { Program, programWords } from "./program.ts";

/** Why there are no terminals here; false where there are. */
export const noTerminal: string | false = process.platform !== "linux"
  ? "script takes other flags here"
  : spawnSync("script", ["--version"]).status === 0
  ? false
  : "script isn't on PATH";

/** A terminal, as the program sees it. */
export interface TerminalOptions {
  readonly columns?: number;
  /** What TERM says; "xterm" when absent. */
  readonly term?: string;
  readonly env?: Readonly<Record<string, string>>;
}

/** Starts the program on a terminal: what it writes to either output comes at `stdout`, its lines ended by CR LF. */
export function onTerminal(args: readonly string[], options: TerminalOptions = {}): Program {
  const { columns = 80, term = "xterm", env = {} } = options;
  const words = [...programWords(args), ...args];
  const line = `stty cols ${columns}; exec ${words.map(quoted).join(" ")}`;
  const script = { command: "script", args: ["-qec", line, "/dev/null"], foreign: true };
  return new Program([], { TERM: term, COLUMNS: "", ...env }, undefined, script);
}

function quoted(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`;
}
