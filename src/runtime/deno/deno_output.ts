/**
 * Standard output and error on Deno. Writing there by `node:fs` or `process` blocks the whole program as long as nobody
 * reads; Deno's own asynchronous write waits on a thread of its own.
 *
 * @module
 */
import type { OutputWrite } from "../line_output.ts";

/** Writes to standard output (1) or error (2). */
export function denoWrite(fd: 1 | 2): OutputWrite {
  const stream = fd === 1 ? Deno.stdout : Deno.stderr;
  return (bytes) => stream.write(bytes);
}
