/**
 * Deno permissions needed by each command: the prompts of a start without flags, and the sets in deno.json.
 *
 * @module
 */

/** A permission by Deno's name for it. */
export type PermissionName = "env" | "sys" | "read" | "net" | "write";

/** Why the program needs each permission, in the order of the prompts. */
export const REASONS: Readonly<Record<PermissionName, string>> = {
  env: "settings come from SALLYPORT_ variables",
  sys: "the log names this machine, and an agent tells networks apart",
  read: "keys, settings and certificates are files",
  net: "it listens for visitors and agents, or dials an edge",
  write: "keys and what it learns are kept in the data folder",
};

/** Permissions needed to load the program: libraries request these when imported. */
export const LOAD_NEEDS: readonly PermissionName[] = ["env", "sys"];

/** Commands that work without a network and write nothing. */
const TOOLS: readonly string[] = ["completion", "help", "keygen", "token"];
/** Commands with their own permission set in deno.json; the others use the default one. */
const OWN_SETS: readonly string[] = ["agent", "edge", "master", "serve"];

/** The command in a program's arguments. Defaults to `serve`. */
export function commandOf(args: readonly string[]): string {
  const [first = "serve"] = args;
  if (["--help", "-h", "--help-all", "--version"].includes(first)) return "help";
  return first.startsWith("-") ? "serve" : first;
}

/** The permissions a command needs. */
export function needsOf(command: string): readonly PermissionName[] {
  return TOOLS.includes(command) ? ["env", "sys", "read"] : ["env", "sys", "read", "net", "write"];
}

/** The set in deno.json that a command runs with. */
export function permissionSetOf(command: string): string {
  if (TOOLS.includes(command)) return "tools";
  return OWN_SETS.includes(command) && command !== "serve" ? command : "default";
}

/** Deno's flag that loads a command's set: `-P`, or `-P=agent`. */
export function permissionFlag(command: string): string {
  const set = permissionSetOf(command);
  return set === "default" ? "-P" : `-P=${set}`;
}

/** Whether Deno has granted a permission, so that it won't prompt; true on other runtimes. */
function granted(permission: Deno.PermissionDescriptor): boolean {
  return typeof Deno === "undefined" || Deno.permissions.querySync(permission).state === "granted";
}

/** Whether a file can be read without a prompt; true on other runtimes. */
export function readPermitted(path: string): boolean {
  return granted({ name: "read", path });
}

/** Whether the machine's memory size can be read without a prompt; true on other runtimes. */
export function memoryInfoPermitted(): boolean {
  return granted({ name: "sys", kind: "systemMemoryInfo" });
}

/**
 * Whether native code (FFI, native modules) can be loaded without a prompt; true on other runtimes. Deno would prompt
 * on a terminal for an optional feature.
 */
export function nativeCodePermitted(): boolean {
  return granted({ name: "ffi" });
}

/** Deno's permissions by name. */
type OwnPermission = "read" | "write" | "net" | "env" | "sys" | "run" | "ffi";

const NAMES: readonly OwnPermission[] = ["read", "write", "net", "env", "sys", "run", "ffi"];

/** Permissions granted in full, and the others; undefined on other runtimes. */
export function ownPermissions():
  | { readonly granted: OwnPermission[]; readonly missing: OwnPermission[] }
  | undefined {
  if (typeof Deno === "undefined") return undefined;
  const has = (name: OwnPermission) => granted({ name });
  return { granted: NAMES.filter(has), missing: NAMES.filter((name) => !has(name)) };
}

/** Those of `paths` that may be read or written. */
export function grantedPaths(kind: "read" | "write", paths: readonly string[]): string[] {
  return [...new Set(paths)].filter((path) => {
    try {
      return path !== "" && granted({ name: kind, path });
    } catch {
      return false;
    }
  });
}

/** Whether this process may start a program. */
export function mayRun(command: string): boolean {
  return granted({ name: "run", command });
}
