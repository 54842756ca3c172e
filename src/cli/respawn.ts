/**
 * Starts another process of this program, with the same arguments and no more permissions than its own.
 *
 * @module
 */
import { type ChildProcess, spawn } from "node:child_process";
import { tmpdir } from "node:os";
import process from "node:process";
import { SallyportError } from "../errors.ts";
import { isSingleFile } from "./single_file.ts";
import {
  commandOf,
  grantedPaths,
  mayRun,
  ownPermissions,
  permissionFlag,
} from "../runtime/deno/permissions.ts";

/**
 * Starts the program with this process's arguments and outputs. `env` is added to the environment; `folders` are those
 * that it must be able to read and write. Throws `config_invalid` if Deno's permissions do not allow it.
 */
export function respawn(env: Readonly<Record<string, string>>, folders: readonly string[]): ChildProcess {
  const [command, words] = commandLine(folders);
  return spawn(command, words, {
    env: { ...process.env, ...env },
    stdio: ["ignore", "inherit", "inherit"],
  });
}

function commandLine(folders: readonly string[]): [command: string, words: string[]] {
  const args = process.argv.slice(2);
  const script = process.argv[1];
  const own = ownPermissions();
  // Compiled into one file, or not on Deno: the runtime takes no flags.
  if (own === undefined) return [process.execPath, isSingleFile() ? args : [script!, ...args]];
  if (isSingleFile()) return [process.execPath, args];
  const command = [process.execPath, "deno"].find(mayRun);
  if (command === undefined) {
    throw new SallyportError(
      "config_invalid",
      "Cannot start workers: Deno doesn't permit this program to start processes; add --allow-run, or use -P=workers",
      { side: "config" },
    );
  }
  const flags = own.granted.map((name) => `--allow-${name}`);
  if (own.missing.length > 0) flags.unshift(permissionFlag(commandOf(args)));
  // Permissions beyond the set: the folders of this run, and those named by arguments and variables.
  const named = [
    ...args,
    ...Object.entries(process.env).filter(([name]) => name.startsWith("SALLYPORT_")).map(([, value]) =>
      value ?? ""
    ),
  ];
  const candidates = [
    ...folders,
    tmpdir(),
    ...named.flatMap((word) => word.split(/[=,]/)).filter((word) => word.includes("/")),
  ];
  for (const kind of ["read", "write"] as const) {
    if (own.granted.includes(kind)) continue;
    const paths = grantedPaths(kind, candidates);
    if (paths.length > 0) flags.push(`--allow-${kind}=${paths.join(",")}`);
  }
  // As the npm package's launcher does it; elsewhere deno.json says it.
  if (/[\\/]node_modules[\\/]/.test(script!)) {
    flags.unshift("--no-config", "--node-modules-dir=manual", "--unstable-net");
  }
  return [command, ["run", "-q", "--no-prompt", ...flags, script!, ...args]];
}
