/**
 * The system's C library, called as native code.
 *
 * @module
 */

const LIBRARY = "libc.so.6";

/** Opens it for these functions, if this is Linux and native code is permitted without a prompt. */
export function openSystemLibrary<Functions extends Deno.ForeignLibraryInterface>(
  functions: Functions,
): Deno.DynamicLibrary<Functions>["symbols"] | undefined {
  if (Deno.build.os !== "linux") return undefined;
  try {
    if (Deno.permissions.querySync({ name: "ffi", path: LIBRARY }).state !== "granted") return undefined;
    return Deno.dlopen(LIBRARY, functions).symbols;
  } catch {
    return undefined;
  }
}
