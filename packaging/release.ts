/**
 * Makes a release. Nothing is changed, tagged or published unless `--commit` says so.
 *
 * ```sh
 * deno task release                         # builds and checks what HEAD would release, in build/release/
 * deno task release 0.2.0                   # the same with this version and its section of the changelog
 * deno task release --verify-reproducible   # builds twice, in two folders, and compares the hashes
 * deno task release 0.2.0 --commit          # writes version and changelog, commits them, tags v0.2.0
 * ```
 *
 * `--only linux-x64` builds for some systems. `--no-checks` leaves the checks out; one of them runs the tests of the whole
 * program against this machine's single file, which takes minutes. The checksums are signed with the minisign key of
 * `--key FILE`, or of MINISIGN_SECRET_KEY in the environment. Debian packages are made where nfpm is on PATH.
 * .github/workflows/release.yml runs it for each tag.
 *
 * @module
 */
import { execFileSync, spawnSync } from "node:child_process";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { sha256Of, TARGETS, thisMachine } from "./build.ts";
import { exportHead } from "./head.ts";
import { NOTICES } from "./notices.ts";
import { cutChangelog, releaseNotes } from "./release/changelog.ts";
import { sign } from "./release/minisign.ts";
import { makeSbom } from "./release/sbom.ts";
import { packSource } from "./release/source.ts";
import { isVersion, readVersion, VERSION_PLACES, versionsAt, writeVersion } from "./release/version.ts";

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
const OUT = join(ROOT, "build", "release");
const CHECKSUMS = "SHA256SUMS";
/** Checks of the npm package that aren't dependencies: `npx` fetches these very versions. */
const PACKAGE_CHECKS: readonly (readonly string[])[] = [
  ["publint@0.3.25", "--strict"],
  ["@arethetypeswrong/cli@0.18.5", "--profile", "esm-only"],
];
/** What Debian calls the processors. */
const DEBIAN: Readonly<Record<string, string>> = { "linux-x64": "amd64", "linux-arm64": "arm64" };

/** What one run releases. */
interface Release {
  readonly version: string;
  readonly targets: readonly string[];
  /** The time of the commit: all that carries a time carries this one. */
  readonly builtAt: Date;
  readonly bunVersion: string;
}

/** What HEAD has, in a folder of its own. */
interface Source {
  readonly folder: string;
  /** Its files; what checks and builds add to the folder isn't among them. */
  readonly files: readonly string[];
}

const startedMs = performance.now();
try {
  await main();
} catch (error) {
  // What ran has printed why it failed; a stack of this file says no more.
  console.error(`error: ${error instanceof Error ? error.message : error}`);
  process.exit(1);
}

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    args: process.argv.slice(2).filter((word) => word !== "--"),
    allowPositionals: true,
    options: {
      "commit": { type: "boolean", default: false },
      "verify-reproducible": { type: "boolean", default: false },
      "no-checks": { type: "boolean", default: false },
      "only": { type: "string", multiple: true },
      "key": { type: "string" },
    },
  });
  const targets = values.only ?? Object.keys(TARGETS);
  for (const target of targets) {
    if (!(target in TARGETS)) {
      throw new Error(`Cannot build for ${target}: it takes ${Object.keys(TARGETS).join(", ")}`);
    }
  }
  const version = positionals[0] ?? await readVersion(ROOT);
  if (!isVersion(version)) throw new Error(`Cannot release ${version}: a version is MAJOR.MINOR.PATCH`);
  if (values.commit) return await commitRelease(version);

  const secret = values.key === undefined
    ? process.env.MINISIGN_SECRET_KEY
    : readFileSync(values.key, "utf8");
  const builtAt = new Date(Number(git("log", "-1", "--format=%ct")) * 1000);
  const release = { version, targets, builtAt, bunVersion: run("bun", ["--version"], ROOT).trim() };
  const dirty = git("status", "--porcelain");
  if (dirty !== "") say(`Not in it, since it isn't committed:\n${dirty.trimEnd()}`);

  const sources = [await exportSource(version)];
  try {
    if (!values["no-checks"]) await check(sources[0]!.folder, version);
    await build(sources[0]!, release, OUT);
    if (!values["no-checks"]) {
      checkPackage(join(OUT, `sallyport-${version}.tgz`));
      checkFile(sources[0]!.folder, release);
    }
    if (values["verify-reproducible"]) {
      sources.push(await exportSource(version));
      const second = join(sources[1]!.folder, "second");
      await build(sources[1]!, release, second);
      compare(OUT, second);
    }
    if (secret) {
      const sums = join(OUT, CHECKSUMS);
      writeFileSync(`${sums}.minisig`, sign(readFileSync(sums), secret, `sallyport ${version}`));
    }
    say(`Sallyport ${version} is in ${OUT}: ${readdirSync(OUT).length} files`);
    say(
      `  ${values["no-checks"] ? "not checked (--no-checks)" : "checked"}, ` +
        `${values["verify-reproducible"] ? "built twice with equal hashes" : "built once"}, ` +
        (secret
          ? `signed (${CHECKSUMS}.minisig)`
          : "not signed: --key FILE or MINISIGN_SECRET_KEY gives the key"),
    );
    say("  Nothing was published, and no file of the project changed");
  } finally {
    for (const { folder } of sources) rmSync(folder, { recursive: true, force: true });
  }
}

/** Exports what HEAD has, and nothing else; with another version where that is asked for. */
async function exportSource(version: string): Promise<Source> {
  const folder = mkdtempSync(join(tmpdir(), "sallyport-release-"));
  const files = exportHead(folder);
  if (version !== await readVersion(folder)) await prepare(folder, version);
  run("bun", ["install", "--frozen-lockfile"], folder);
  return { folder, files };
}

/** Writes the version and the changelog's section. */
async function prepare(root: string, version: string): Promise<void> {
  await writeVersion(root, version);
  const path = join(root, "CHANGELOG.md");
  const date = new Date().toISOString().slice(0, 10);
  writeFileSync(path, cutChangelog(readFileSync(path, "utf8"), version, date));
}

async function commitRelease(version: string): Promise<void> {
  if (git("status", "--porcelain") !== "") {
    throw new Error("Cannot commit release: commit or stash your changes first");
  }
  const tag = `v${version}`;
  if (git("tag", "--list", tag) !== "") {
    throw new Error(`Cannot commit release: there is a tag ${tag} already`);
  }
  await prepare(ROOT, version);
  git("commit", "--all", "--message", `Release ${version}`);
  git("tag", "--annotate", tag, "--message", `Sallyport ${version}`);
  say(`Committed and tagged ${tag}. \`git push --follow-tags\` publishes it: the workflow does the rest`);
}

/** What must hold before anything is built. */
async function check(source: string, version: string): Promise<void> {
  for (const place of VERSION_PLACES) {
    for (const found of await versionsAt(source, place)) {
      if (found !== version) throw new Error(`Cannot release ${version}: ${place.file} names ${found}`);
    }
  }
  if (!releaseNotes(readFileSync(join(source, "CHANGELOG.md"), "utf8"), version)) {
    throw new Error(`Cannot release ${version}: CHANGELOG.md says nothing of it`);
  }
  say("checking formatting, lint and types");
  show("deno", ["task", "test", "--", "--only", "static"], source);
  say("checking JSR's layout");
  show("deno", ["publish", "--dry-run", "--allow-dirty"], source);
}

function checkPackage(tarball: string): void {
  for (const [name = "", ...args] of PACKAGE_CHECKS) {
    say(`checking the npm package with ${name}`);
    const words = name.startsWith("publint") ? [...args, tarball] : [tarball, ...args];
    show("npx", ["--yes", name, ...words], ROOT);
  }
}

/** Runs all tests that start the program, against this machine's single file. */
function checkFile(source: string, { version, targets }: Release): void {
  const target = thisMachine();
  if (!targets.includes(target)) return say(`no tests of a single file: none is built for ${target}`);
  say(`testing the single file for ${target}`);
  const file = join(OUT, `sallyport-${version}-${target}`);
  // One process at a time: what is judged is the file, not how busy the machine is.
  show("deno", ["task", "test", "--", "--program", file, "--jobs", "1"], source);
}

/** Builds everything from `source` into `out`. */
async function build(
  { folder: source, files }: Source,
  { version, targets, builtAt, bunVersion }: Release,
  out: string,
): Promise<void> {
  rmSync(out, { recursive: true, force: true });
  mkdirSync(out, { recursive: true });
  const env = { ...process.env, SOURCE_DATE_EPOCH: String(builtAt.getTime() / 1000) };
  say("npm package");
  run("npm", ["pack", "--silent", "--pack-destination", out], source, env);
  say(`single files for ${targets.join(", ")}`);
  run("bun", ["packaging/build.ts", ...targets], source, env);
  const built = readdirSync(join(source, "build")).filter((name) => name.startsWith("sallyport-"));
  for (const name of [...built, NOTICES]) {
    copyFileSync(join(source, "build", name), join(out, name));
  }
  debianPackages(source, out, version, targets, env);
  say("source, bill of materials, notes, checksums");
  const name = `sallyport-${version}`;
  const builtAtSeconds = builtAt.getTime() / 1000;
  packSource({ root: source, files, name, builtAtSeconds }, join(out, `${name}-source.tar.gz`));
  writeFileSync(join(out, "sbom.cdx.json"), await makeSbom(source, builtAt, bunVersion));
  const notes = releaseNotes(readFileSync(join(source, "CHANGELOG.md"), "utf8"), version) ?? "";
  const names = readdirSync(out).sort();
  writeFileSync(
    join(out, CHECKSUMS),
    names.map((name) => `${sha256Of(join(out, name))}  ${name}\n`).join(""),
  );
  writeFileSync(join(out, "NOTES.md"), `${notes}\n`);
  for (const name of names) say(`  ${name}  ${(statSync(join(out, name)).size / 1e6).toFixed(1)} MB`);
}

function debianPackages(
  source: string,
  out: string,
  version: string,
  targets: readonly string[],
  env: NodeJS.ProcessEnv,
): void {
  if (spawnSync("nfpm", ["--version"]).status !== 0) return say("no Debian packages: nfpm isn't on PATH");
  const own = join(out, `sallyport-${version}-linux-${process.arch}`);
  if (!existsSync(own)) return say("no Debian packages: they take the single file of this machine");
  for (const target of targets) {
    const arch = DEBIAN[target];
    if (arch === undefined) continue;
    say(`Debian package for ${arch}`);
    const file = join(out, `sallyport-${version}-${target}`);
    run("packaging/deb/build.sh", [file, arch], source, { ...env, SALLYPORT: own });
  }
  for (const name of readdirSync(join(source, "build")).filter((name) => name.endsWith(".deb"))) {
    copyFileSync(join(source, "build", name), join(out, name));
  }
}

/** Throws unless two builds are byte for byte the same. */
function compare(first: string, second: string): void {
  const sums = (folder: string) => readFileSync(join(folder, CHECKSUMS), "utf8").trim().split("\n");
  const others = new Set(sums(second));
  const differing = sums(first).filter((line) => !others.has(line));
  if (differing.length > 0) {
    throw new Error(
      `Cannot reproduce build: these came out otherwise the second time:\n${differing.join("\n")}`,
    );
  }
  say(`reproducible: ${others.size} files came out the same in two folders`);
  for (const line of others) say(`  ${line}`);
}

function git(...args: string[]): string {
  return run("git", args, ROOT);
}

function run(
  command: string,
  args: readonly string[],
  cwd: string,
  env: NodeJS.ProcessEnv = process.env,
): string {
  return execFileSync(command, args, {
    cwd,
    env,
    encoding: "utf8",
    maxBuffer: 1 << 26,
    stdio: ["ignore", "pipe", 2],
  });
}

/** Runs a check whose output is worth reading. */
function show(command: string, args: readonly string[], cwd: string): void {
  execFileSync(command, args, { cwd, stdio: ["ignore", "inherit", "inherit"] });
}

/** Prints what is done, after the minutes and seconds so far. */
function say(line: string): void {
  const seconds = Math.floor((performance.now() - startedMs) / 1000);
  console.log(`[${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}] ${line}`);
}
