/**
 * Builds what `npm pack` ships in dist/: the library of mod.ts as JavaScript with declarations, file by file, and the
 * program as built modules, which take less memory. It is package.json's `prepack`.
 *
 * @module
 */
import { execFileSync } from "node:child_process";
import { copyFileSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { buildModules } from "../build.ts";

const ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const DIST = join(ROOT, "dist");

rmSync(DIST, { recursive: true, force: true });
const tsc = join(ROOT, "node_modules", "typescript", "bin", "tsc");
execFileSync(process.execPath, [tsc, "--project", join(ROOT, "tsconfig.build.json")], {
  cwd: ROOT,
  stdio: "inherit",
});
// The program replaces the main.js that tsc has made. Its own copy of the command line isn't part of the library.
rmSync(join(DIST, "src", "cli"), { recursive: true });
// Native libsodium comes from node_modules: a build holds the path of the library of the machine that has made it.
buildModules(DIST, ["sodium-native"]);
// Files that the library imports as texts go along as they are.
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
