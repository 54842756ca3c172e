/** The stored corpus once more, and some thousand new inputs, for every target. `deno task fuzz` runs longer. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { fuzz } from "./fuzzer.ts";
import { makeTargets } from "./targets.ts";

const SEED = 1;

const targets = await makeTargets();

describe("what reads bytes of strangers answers with typed errors, the same however they are cut", () => {
  for (const target of targets) {
    it(target.name, { timeout: 60_000 }, async () => {
      const { executions } = await fuzz(target, SEED, { seconds: 2, executions: 1_500 });
      assert.ok(executions >= target.seeds.length);
    });
  }
});
