/**
 * Executables that `deno compile` made.
 *
 * @module
 */

/** Whether `deno compile` put this program into its executable; false on other runtimes. */
export function isDenoStandalone(): boolean {
  return typeof Deno !== "undefined" && Deno.build.standalone;
}
