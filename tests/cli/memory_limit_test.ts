/** The memory that an edge takes as a process, while its visitors and agents try to fill it. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import process from "node:process";
import { it } from "node:test";
import { malice } from "../chaos/malice/malice.ts";
import { Program } from "./program.ts";

const timeout = 90_000;
const LIMIT_MIB = 384;
const runtime = process.versions.bun === undefined ? "deno" : "bun";
const skip = existsSync("/proc/self/status") ? false : "there is no /proc";

for (const only of ["20 names", "10 sessions"]) {
  it(`${only}: an edge takes no more than --memory-limit says`, { timeout, skip }, async () => {
    const edge = ["--memory-limit", `${LIMIT_MIB}MiB`];
    for await (const { attack, peakMib } of malice({ runtime, only, edge, memoryOnly: true })) {
      assert.ok(peakMib > 0 && peakMib <= LIMIT_MIB, `${attack}: ${Math.round(peakMib)} MiB`);
    }
  });
}

it("a limit that leaves no room is refused, and the message says the least", { timeout }, async () => {
  const program = new Program(["edge", "--memory-limit", "100MiB"]);
  await program.seen(/384MiB/, "stderr");
  assert.notEqual(await program.ended, 0);
});
