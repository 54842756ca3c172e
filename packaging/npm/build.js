/**
 * Builds what `npm pack` ships: JavaScript and declarations in dist/, from mod.ts and the command line. It runs under
 * Node, Bun and Deno alike, since it's package.json's `prepack`.
 *
 * @module
 */
import { execFileSync } from "node:child_process";
import { copyFileSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";

const ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const DIST = join(ROOT, "dist");

rmSync(DIST, { recursive: true, force: true });
const tsc = join(ROOT, "node_modules", "typescript", "bin", "tsc");
execFileSync(process.execPath, [tsc, "--project", join(ROOT, "tsconfig.build.json")], {
  cwd: ROOT,
  stdio: "inherit",
});
// Files that are imported as texts go along as they are.
for (const name of ["page/script.js", "page/style.css", "reference.css"]) {
  copyFileSync(join(ROOT, "src", "master", name), join(DIST, "src", "master", name));
}
for (const entry of readdirSync(DIST, { recursive: true, withFileTypes: true })) {
  if (!entry.isFile() || !entry.name.endsWith(".d.ts")) continue;
  const path = join(entry.parentPath, entry.name);
  const text = readFileSync(path, "utf8");
  // tsc rewrites the extension of imports in code, and leaves it in declarations.
  writeFileSync(path, text.replace(/(from |import\()"(\.[^"]*)\.tsx?"/g, '$1"$2.js"'));
}
