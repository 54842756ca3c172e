/**
 * The program: the command line without the library of mod.ts, which would stay in memory unused.
 *
 * @module
 */
// First, because libraries ask Deno for permissions when they are loaded.
import "./src/runtime/deno/ask_permissions.ts";
import process from "node:process";

const { runCli } = await import("./src/cli/main.ts");
process.exit(await runCli(process.argv.slice(2)));
