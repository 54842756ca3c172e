/**
 * Standard output and error on Deno. Writing there with `node:fs` or `process` blocks the whole program while the
 * reader stalls; Deno's own asynchronous write waits on its own thread.
 *
 * @module
 */
import type { OutputWrite } from "../line_output.ts";

/** Writes to standard output (1) or error (2). */
export function denoWrite(fd: 1 | 2): OutputWrite {
  const stream = fd === 1 ? Deno.stdout : Deno.stderr;
  return (bytes) => stream.write(bytes);
}
