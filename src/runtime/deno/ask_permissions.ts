/**
 * Asks for permissions before anything else is loaded, when Deno runs the program without flags. Library users never
 * see it: it does nothing unless main.ts or mod.ts is the program.
 *
 * @module
 */
import {
  commandOf,
  LOAD_NEEDS,
  needsOf,
  permissionFlag,
  type PermissionName,
  REASONS,
} from "./permissions.ts";

/** The program, with and without the library; as source, or as in the npm package. */
const PROGRAMS: ReadonlySet<string> = new Set(
  ["main", "mod"].map((name) =>
    new URL(`../../../${name}.${import.meta.url.endsWith(".js") ? "js" : "ts"}`, import.meta.url).href
  ),
);

if (typeof Deno !== "undefined" && PROGRAMS.has(Deno.mainModule)) askPermissions(Deno.args);

function askPermissions(args: readonly string[]): void {
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
 * The same command line with the permissions it needs: by the set in deno.json next to the program, or by flags if there is
 * none.
 */
function workingLine(args: readonly string[]): string {
  const command = commandOf(args);
  const main = Deno.mainModule;
  const local = main.startsWith("file:");
  const flags = local
    ? permissionFlag(command)
    : `--unstable-net ${needsOf(command).map((name) => `--allow-${name}`).join(" ")}`;
  const words = [local ? main.slice(main.lastIndexOf("/") + 1) : main, ...args];
  return `deno run ${flags} ${words.map(quoted).join(" ")}`;
}

function quoted(word: string): string {
  return /^[\w@%+=:,./[\]-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}

function say(text: string): void {
  console.error(text);
}
