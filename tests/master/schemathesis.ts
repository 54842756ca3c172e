/**
 * The session master's API under Schemathesis for as long as it is told: `deno task schemathesis [SECONDS]`, on this
 * runtime and on the other one.
 *
 * @module
 */
import { join } from "node:path";
import process from "node:process";
import { LineChild } from "../support/child.ts";
import { schemathesis } from "../support/schemathesis.ts";

const seconds = process.argv[2] ?? "60";
const server = join(import.meta.dirname!, "api_server.ts");
let failed = false;
for (
  const [name, command, ...args] of [["Deno", "deno", "run", "-A", "--no-check"], [
    "Bun",
    "bun",
  ]] as string[][]
) {
  const child = LineChild.start({ command: command!, args: [...args, server] });
  try {
    const { url, key } = await child.next((event) => "url" in event, 60_000) as { url: string; key: string };
    const phases = ["--phases", "coverage,fuzzing,stateful", "--max-time", seconds];
    const said = await schemathesis({ url, key, args: phases, timeoutMs: 3_600_000 });
    process.stdout.write(`${name}:\n${said}\n`);
  } catch (error) {
    failed = true;
    process.stdout.write(`${name}:\n${error instanceof Error ? error.message : String(error)}\n`);
  } finally {
    await child.stop();
  }
}
process.exit(failed ? 1 : 0);
