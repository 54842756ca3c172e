/** The HTTP API against its OpenAPI document, by requests that Schemathesis makes up. */
import assert from "node:assert/strict";
import process from "node:process";
import { it } from "node:test";
import { denoFlags } from "../support/deno_flags.ts";
import { skipSchemathesis, testApi } from "../support/schemathesis.ts";

/** The installation comes from PyPI. */
const timeout = 400_000;

it("every answer is one that the OpenAPI document has, whatever is asked", {
  timeout,
  skip: await skipSchemathesis(),
}, async () => {
  const runtime = [process.execPath, ...process.versions.deno === undefined ? [] : denoFlags()];
  // `deno task schemathesis` looks for longer, and elsewhere each time.
  const said = await testApi(runtime, ["--seed", "11", "--max-time", "15"]);
  assert.match(said, /No issues found/);
});
