/**
 * The project's files as committed, for builds and checks that must not see what lies in the work tree.
 *
 * @module
 */
import { execFileSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));

/** Puts what HEAD has into a folder; returns the names of the files. */
export function exportHead(folder: string): string[] {
  mkdirSync(folder, { recursive: true });
  const archive = execFileSync("git", ["archive", "--format=tar", "HEAD"], { cwd: ROOT, maxBuffer: 1 << 28 });
  execFileSync("tar", ["-x", "-C", folder], { input: archive });
  const names = execFileSync("tar", ["-t", "--quoting-style=literal"], { input: archive, encoding: "utf8" });
  return names.split("\n").filter((name) => name !== "" && !name.endsWith("/"));
}
