/** The HTTP API against its OpenAPI document, by requests that Schemathesis makes up. */
import assert from "node:assert/strict";
import process from "node:process";
import { it } from "node:test";
import { denoFlags } from "../support/deno_flags.ts";
import { skipSchemathesis, testApi } from "../support/schemathesis.ts";

/** The installation comes from PyPI. */
const timeout = 400_000;

const TRIES = 4;

/** Whether a run found nothing but one request without an answer. */
function isUnanswered(error: unknown): boolean {
  const text = String(error);
  return text.includes("Read timed out") && /Network Error: 1\n/.test(text) && !text.includes("FAILURES");
}

it("every answer is one that the OpenAPI document has, whatever is asked", {
  timeout,
  skip: await skipSchemathesis(),
}, async () => {
  const runtime = [process.execPath, ...process.versions.deno === undefined ? [] : denoFlags()];
  // `deno task schemathesis` looks for longer, and elsewhere each time.
  for (let tries = TRIES;; tries--) {
    try {
      return assert.match(await testApi(runtime, ["--seed", "11", "--max-time", "15"]), /No issues found/);
    } catch (error) {
      // A known fault, docs/runtimes.md: on Deno about one run in two ends with a PUT that isn't answered within 10 s.
      if (tries === 1 || !isUnanswered(error)) throw error;
    }
  }
});
