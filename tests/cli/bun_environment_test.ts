/** What Bun is started with: it knows the option, and a program started without it gets it, in every way to start it. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { copyFile, link, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import process from "node:process";
import { describe, it } from "node:test";
import { fileURLToPath } from "node:url";

const MAIN = join(dirname(dirname(dirname(fileURLToPath(import.meta.url)))), "main.ts");
const VARIABLE = "BUN_JSC_useFTLJIT";

/** Runs the program on Bun and returns its outcome and its options of JavaScriptCore, one list for each start. */
function run(args: string[], env: Record<string, string> = {}, runtime: string = process.execPath) {
  const { [VARIABLE]: _, ...own } = process.env;
  const { stdout, stderr, status } = spawnSync(runtime, [MAIN, ...args], {
    env: { ...own, BUN_JSC_dumpOptions: "1", ...env },
    encoding: "utf8",
  });
  return { starts: (stdout + stderr).split("Modified JSC options:\n").slice(1), stdout, stderr, status };
}

describe("the program on Bun", { skip: process.versions.bun === undefined }, () => {
  it("restarts itself without JavaScriptCore's third compiler, once, where it carries bytes", () => {
    for (const command of ["serve", "edge", "agent", "pipe"]) {
      const { starts, stdout, status } = run([command, "--help"]);
      assert.equal(starts.length, 2, command);
      assert.doesNotMatch(starts[0]!, /useFTLJIT=/);
      assert.match(starts[1]!, /\buseFTLJIT=false \(default: true\)/);
      assert.match(stdout, new RegExp(`^Usage: sallyport ${command}`, "m"));
      assert.equal(status, 0);
    }
  });

  it("doesn't where it carries none, or where the variable is set", () => {
    assert.equal(run(["keygen", "--help"]).starts.length, 1);
    const { starts } = run(["edge", "--help"], { [VARIABLE]: "1" });
    assert.equal(starts.length, 1);
    assert.doesNotMatch(starts[0]!, /useFTLJIT=false/);
  });

  it("doesn't where it was given files, which Bun would close", () => {
    assert.equal(run(["agent", "--help", "--credential-file", "/dev/fd/63"]).starts.length, 1);
    assert.equal(run(["edge", "--help"], { SALLYPORT_CONFIG: "/proc/self/fd/3" }).starts.length, 1);
    // activation_test.ts passes sockets.
  });

  it("does so under another name of Bun, and with options of Bun", async () => {
    const folder = await mkdtemp(join(tmpdir(), "sallyport-bun-"));
    try {
      const other = join(folder, "javascript-1");
      await link(process.execPath, other).catch(() => copyFile(process.execPath, other));
      const { starts, stdout } = run(["agent", "--help"], { BUN_OPTIONS: "--smol" }, other);
      assert.equal(starts.length, 2);
      assert.match(stdout, /^Usage: sallyport agent/m);
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  });

  it("keeps its arguments, and its exit code", () => {
    const { starts, stderr, status } = run(["agent", "--to", "a b", "--no-such-flag=ä"]);
    assert.equal(starts.length, 2);
    assert.match(stderr, /unknown option '--no-such-flag=ä'/);
    assert.equal(status, 2);
  });
});
