/**
 * Runs a command that ends by itself, in the tests' own process.
 *
 * @module
 */
import assert from "node:assert/strict";
import { runCli } from "../../src/cli/main.ts";

/** How a command ended, and what it wrote. */
export interface CommandResult {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

/** Runs it to its end. */
export async function runHere(
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<CommandResult> {
  const [out, err]: [string[], string[]] = [[], []];
  const code = await runCli(args, {
    program: "sallyport",
    env,
    out: (line) => void out.push(line),
    err: (line) => void err.push(line),
    onStop: () => () => {},
    onReload: () => () => {},
    exit: () => assert.fail("the process must not be ended"),
  });
  return { code, out: out.join("\n"), err: err.join("\n") };
}
