/**
 * Asks for permissions before anything else is loaded, when Deno runs the program without flags. Library users never
 * see it: it does nothing unless the program is main.ts, mod.ts, or what is built from them.
 *
 * @module
 */
import { fileURLToPath } from "node:url";
import {
  commandOf,
  LOAD_NEEDS,
  needsOf,
  permissionFlag,
  type PermissionName,
  REASONS,
} from "./permissions.ts";

// mod.ts imports the whole library before a line of its own runs: as a program it asks here, in its first import.
for (const name of ["mod.ts", "mod.js"]) askPermissions(new URL(`../../../${name}`, import.meta.url).href);

/** Asks for what the program's command needs, if Deno runs the module at this address as the program. */
export function askPermissions(program: string): void {
  if (typeof Deno === "undefined" || Deno.mainModule !== program) return;
  const { args } = Deno;
  if (LOAD_NEEDS.every(granted)) return;
  const command = commandOf(args);
  const missing = needsOf(command).filter((name) => !granted(name));
  if (Deno.stdin.isTerminal() && Deno.stderr.isTerminal()) {
    say(
      `Sallyport needs ${missing.length} permissions of Deno. To grant them without questions: ${
        workingLine(args)
      }`,
    );
    for (const [index, name] of missing.entries()) {
      say(`\n${index + 1} of ${missing.length}, ${name}: ${REASONS[name]}`);
      // One prompt per kind: the answer covers every file, address or variable.
      if (Deno.permissions.requestSync({ name }).state !== "granted") refuse([name], args);
    }
    return;
  }
  refuse(missing, args);
}

/**
 * Whether the libraries get the permissions they request; for the environment, a set may grant only the program's
 * variables.
 */
function granted(name: PermissionName): boolean {
  const descriptor: Deno.PermissionDescriptor = name === "env"
    ? { name, variable: "SALLYPORT_LISTEN" }
    : name === "sys"
    ? { name, kind: "hostname" }
    : { name };
  return Deno.permissions.querySync(descriptor).state === "granted";
}

function refuse(missing: readonly PermissionName[], args: readonly string[]): never {
  const lines = missing.map((name) => `  ${name.padEnd(6)} ${REASONS[name]}`);
  say(
    `Cannot start: Deno didn't permit what \`${commandOf(args)}\` needs:\n\n${lines.join("\n")}\n\n` +
      `This line works:\n\n  ${workingLine(args)}\n`,
  );
  Deno.exit(2);
}

/**
 * The same command line with the permissions it needs: by the set in deno.json next to the sources, or by flags if there
 * is none. The file is named from the root, since only with a permission could its folder be compared with this one.
 */
function workingLine(args: readonly string[]): string {
  const command = commandOf(args);
  const main = Deno.mainModule;
  const isLocal = main.startsWith("file:");
  const flags = isLocal && main.endsWith(".ts")
    ? permissionFlag(command)
    : `--unstable-net ${needsOf(command).map((name) => `--allow-${name}`).join(" ")}`;
  const words = [isLocal ? fileURLToPath(main) : main, ...args];
  return `deno run ${flags} ${words.map(quoted).join(" ")}`;
}

function quoted(word: string): string {
  return /^[\w@%+=:,./[\]-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}

function say(text: string): void {
  console.error(text);
}
