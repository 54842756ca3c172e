/**
 * Picks the adapter of the runtime that this program runs on.
 *
 * @module
 */

import { SallyportError } from "../errors.ts";
import type { Runtime } from "./port.ts";

/**
 * The current runtime. Only its own adapter is loaded: the other uses globals that don't exist here. Rejects with
 * `not_supported` on anything but Deno and Bun.
 */
export async function currentRuntime(): Promise<Runtime> {
  if ("Deno" in globalThis) return (await import("./deno/deno.ts")).createDenoRuntime();
  if ("Bun" in globalThis) return (await import("./bun/bun.ts")).createBunRuntime();
  throw new SallyportError("not_supported", "Cannot start: Sallyport runs on Deno and on Bun", {
    side: "config",
  });
}
