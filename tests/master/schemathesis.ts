/**
 * The session master's API under Schemathesis for some seconds, on both runtimes.
 *
 * ```sh
 * deno task schemathesis [SECONDS]
 * ```
 *
 * @module
 */
import process from "node:process";
import { testApi } from "../support/schemathesis.ts";

const seconds = process.argv[2] ?? "60";
let failed = false;
for (const [name, ...runtime] of [["Deno", "deno", "run", "-A", "--no-check"], ["Bun", "bun"]] as const) {
  try {
    process.stdout.write(`${name}:\n${await testApi(runtime, ["--max-time", seconds])}\n`);
  } catch (error) {
    failed = true;
    process.stdout.write(`${name}:\n${error instanceof Error ? error.message : String(error)}\n`);
  }
}
process.exit(failed ? 1 : 0);
