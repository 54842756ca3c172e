/**
 * What Deno permits this process, so that a process that it starts gets no more.
 *
 * @module
 */

/** Deno's permissions by name. */
export type OwnPermission = "read" | "write" | "net" | "env" | "sys" | "run" | "ffi";

const NAMES: readonly OwnPermission[] = ["read", "write", "net", "env", "sys", "run", "ffi"];

/** Those that are granted without limits, and the others; undefined on other runtimes. */
export function ownPermissions():
  | { readonly granted: OwnPermission[]; readonly missing: OwnPermission[] }
  | undefined {
  if (typeof Deno === "undefined") return undefined;
  const has = (name: OwnPermission) => Deno.permissions.querySync({ name }).state === "granted";
  return { granted: NAMES.filter(has), missing: NAMES.filter((name) => !has(name)) };
}

/** Those of `paths` that may be read or written. */
export function grantedPaths(kind: "read" | "write", paths: readonly string[]): string[] {
  return [...new Set(paths)].filter((path) => {
    try {
      return path !== "" && Deno.permissions.querySync({ name: kind, path }).state === "granted";
    } catch {
      return false;
    }
  });
}

/** Whether this process may start a program. */
export function mayRun(command: string): boolean {
  return Deno.permissions.querySync({ name: "run", command }).state === "granted";
}
