/**
 * Builds the program as single files, with everything inside and nothing to install.
 *
 * ```sh
 * deno task build                 # for this machine
 * deno task build --all           # for every system that Bun cross-compiles to
 * deno task build linux-arm64     # for one
 * deno task build modules         # a folder of JavaScript for Deno or Bun that are installed: build/modules/main.js
 * ```
 *
 * Bun compiles them; other systems' runtimes come from the npm registry. `--deno` runs `deno compile` on the modules as
 * well, which downloads its runtime, denort, from dl.deno.land, or takes the one that DENORT_BIN names. Files go to
 * build/, with their SHA-256 in build/SHA256SUMS and the licences of all that is inside in
 * build/THIRD_PARTY_NOTICES.txt.
 *
 * @module
 */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { VERSION } from "../src/version.ts";
import { withoutSignature } from "./macho.ts";
import { writeNotices } from "./notices.ts";

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
const BUILD = join(ROOT, "build");

/** What a file is named after, and what Bun calls the system. */
export const TARGETS: Readonly<Record<string, string>> = {
  "linux-x64": "bun-linux-x64",
  "linux-x64-musl": "bun-linux-x64-musl",
  "linux-arm64": "bun-linux-arm64",
  "macos-x64": "bun-darwin-x64",
  "macos-arm64": "bun-darwin-arm64",
  "windows-x64": "bun-windows-x64",
};

/** What files for this machine are named after. */
export function thisMachine(): string {
  const system = { darwin: "macos", win32: "windows" }[process.platform as string] ?? process.platform;
  return `${system}-${process.arch}`;
}

function bun(): string {
  return process.versions.bun === undefined ? "bun" : process.execPath;
}

/** Names stay as they are, so that an error's stack can be read. */
const BUNDLE_FLAGS: readonly string[] = [
  ...["--minify-syntax", "--minify-whitespace", "--sourcemap=none"],
  // Else the folder of the build stands in the result, which isn't the same for two who build it.
  ...['--define=__dirname="/sallyport"', '--define=__filename="/sallyport/module.js"'],
];

function bundle(...flags: readonly string[]): void {
  execFileSync(bun(), ["build", ...BUNDLE_FLAGS, ...flags, "main.ts"], {
    cwd: ROOT,
    stdio: ["ignore", "ignore", 2],
  });
}

/** What the folder of JavaScript is called, among the systems. */
const MODULES = "modules";

/**
 * Writes the program as JavaScript that Deno and Bun run, packages and their licences included, and returns the file to
 * run. Without types, comments and unused parts of packages an edge takes 15 MB less memory after the start on Deno, and
 * 3 less on Bun.
 *
 * @param external packages that stay outside and are loaded from node_modules
 */
export function buildModules(folder: string, external: readonly string[] = []): string {
  // Split, so that a command loads its own modules alone.
  bundle("--splitting", "--target=node", "--outdir", folder, ...external.map((name) => `--external=${name}`));
  writeNotices(ROOT, folder);
  return join(folder, "main.js");
}

/** Builds the modules in build/, without those of an earlier build. */
function rebuildModules(): string {
  const folder = join(BUILD, MODULES);
  rmSync(folder, { recursive: true, force: true });
  return buildModules(folder);
}

/** Compiles for one system, and writes the licences beside the file; the answer is the file's path. */
export function buildFor(target: string, folder: string = BUILD): string {
  const known = TARGETS[target];
  if (known === undefined) {
    throw new Error(`Cannot build for ${target}: it takes ${Object.keys(TARGETS).join(", ")} or ${MODULES}`);
  }
  mkdirSync(folder, { recursive: true });
  const file = join(folder, `sallyport-${VERSION}-${target}${target.startsWith("windows") ? ".exe" : ""}`);
  bundle("--compile", `--target=${known}`, "--outfile", file);
  writeNotices(ROOT, folder);
  // Bun signs for Apple's processors, and leaves its own signature, which is no longer right, for Intel's: macOS would
  // end the program (oven-sh/bun#39837). Without one it runs there.
  if (target === "macos-x64") writeFileSync(file, withoutSignature(readFileSync(file)), { mode: 0o755 });
  return file;
}

/** Compiles the built modules: packages as they are would make the file larger, and some overflow the compiler's stack. */
function buildWithDeno(folder: string): string | undefined {
  const file = join(folder, `sallyport-${VERSION}-${thisMachine()}-deno`);
  const flags = ["--quiet", "--no-check", "--allow-all"];
  try {
    execFileSync("deno", ["compile", ...flags, "--output", file, rebuildModules()], {
      cwd: ROOT,
      stdio: "pipe",
    });
    return file;
  } catch (error) {
    const said = String((error as { stderr?: unknown }).stderr ?? error);
    const why = /^ *\d+: (error sending request .*)$/m.exec(said)?.[1] ?? said.trim();
    console.error(
      `Cannot run deno compile: ${why}\nIt downloads its runtime, denort, from dl.deno.land; DENORT_BIN=FILE names ` +
        "one that is here",
    );
    process.exitCode = 1;
    return undefined;
  }
}

/** The SHA-256 of a file, in hexadecimal. */
export function sha256Of(path: string): string {
  return createHash("sha256").update(readFileSync(path)).digest("hex");
}

function main(args: readonly string[]): void {
  const named = args.filter((word) => !word.startsWith("-"));
  const targets = args.includes("--all") ? Object.keys(TARGETS) : named.length > 0 ? named : [thisMachine()];
  for (const target of targets) {
    if (target === MODULES) console.log(rebuildModules());
    else report(buildFor(target));
  }
  if (args.includes("--deno")) {
    const file = buildWithDeno(BUILD);
    if (file !== undefined) report(file);
  }
  mkdirSync(BUILD, { recursive: true });
  const files = readdirSync(BUILD).filter((name) => name.startsWith("sallyport-")).sort();
  writeFileSync(
    join(BUILD, "SHA256SUMS"),
    files.map((name) => `${sha256Of(join(BUILD, name))}  ${name}\n`).join(""),
  );
}

function report(file: string): void {
  console.log(`${file}  ${(statSync(file).size / 1e6).toFixed(0)} MB`);
}

if (import.meta.main) main(process.argv.slice(2));
