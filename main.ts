/**
 * The program: the command line without the library of mod.ts, which would stay in memory unused.
 *
 * @module
 */
import process from "node:process";
import { restartInBunEnvironment } from "./src/cli/bun_environment.ts";
import { askPermissions } from "./src/runtime/deno/ask_permissions.ts";

// First, because libraries ask Deno for permissions when they are loaded, and a restart on Bun would load them twice.
askPermissions(import.meta.url);
restartInBunEnvironment(process.argv.slice(2));
const { runCli } = await import("./src/cli/main.ts");
process.exit(await runCli(process.argv.slice(2)));
