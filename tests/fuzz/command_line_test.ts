/** The command lines of the tasks `fuzz`, `chaos` and `mutate`. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { dirname, join } from "node:path";
import process from "node:process";
import { describe, it } from "node:test";
import { fileURLToPath } from "node:url";

const timeout = 60_000;

function start(
  task: string,
  ...args: string[]
): { child: ChildProcess; ended: Promise<[number | null, string]> } {
  const file = join(dirname(dirname(fileURLToPath(import.meta.url))), task);
  const runtime = process.versions.bun === undefined ? ["run", "-A", "--no-check"] : [];
  const child = spawn(process.execPath, [...runtime, file, ...args]);
  let output = "";
  for (const pipe of [child.stdout, child.stderr]) pipe.on("data", (chunk) => output += String(chunk));
  return {
    child,
    ended: new Promise((resolve) => child.on("close", (code) => resolve([code, output]))),
  };
}

describe("a task", () => {
  for (const task of ["fuzz/main.ts", "chaos/main.ts", "mutation/mutate.ts"]) {
    it(
      `${task} prints its usage: with 0 for --help, with 2 for what it doesn't know`,
      { timeout },
      async () => {
        const [help, unknown] = await Promise.all([start(task, "--help").ended, start(task, "--nope").ended]);
        assert.deepEqual([help[0], unknown[0]], [0, 2]);
        assert.match(help[1], /^\S.*\n\n {2}deno task/);
        assert.match(unknown[1], /--nope/);
        assert.ok(unknown[1].endsWith(help[1]), "the usage follows");
      },
    );
  }

  it("fuzz ends with its count at SIGTERM", { timeout }, async () => {
    const { child, ended } = start("fuzz/main.ts", "--target", "proxy", "--seconds", "600");
    // After child.kill() Deno reports the signal, not the code that the child ends with.
    child.stdout!.once("data", () => process.kill(child.pid!, "SIGTERM"));
    const [code, output] = await ended;
    assert.equal(code, 0);
    assert.match(output, /^proxy +[1-9]\d* .* stopped\nall +[1-9]\d*\n$/m);
  });
});
