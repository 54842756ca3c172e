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
function isUnreadBody(error: unknown): boolean {
  const text = String(error);
  return text.includes("Read timed out") && /Network Error: 1\n/.test(text) && !text.includes("FAILURES");
}

it("every answer is one that the OpenAPI document has, whatever is asked", {
  timeout,
  skip: await skipSchemathesis(),
}, async () => {
  const runtime = [process.execPath, ...process.versions.deno === undefined ? [] : denoFlags()];
  // `deno task schemathesis` looks for longer, and elsewhere each time.
  const run = () => testApi(runtime, ["--seed", "11", "--max-time", "15"]);
  let said = run();
  // A known fault, docs/runtimes.md: on Deno about one run in two ends with a PUT whose body isn't read within 10 s.
  for (let again = 1; again < TRIES; again++) {
    said = said.catch((error) => isUnreadBody(error) ? run() : Promise.reject(error));
  }
  assert.match(await said, /No issues found/);
});
