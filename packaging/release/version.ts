/**
 * The version: package.json has it, and every other place that names it is written from there.
 *
 * @module
 */
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";

/** A file that names the version, and where in it: the pattern's first and last groups stand around it. */
export interface VersionPlace {
  readonly file: string;
  readonly pattern: RegExp;
}

// Behind a version in a file's name stands the system's, with a dash as well.
const NUMBER = String.raw`\d+\.\d+\.\d+(?:-(?:alpha|beta|rc)\.\d+)?`;
const place = (file: string, before: string, after = ""): VersionPlace => ({
  file,
  pattern: new RegExp(`(${before})${NUMBER}(${after})`, "gm"),
});

/** Where the version stands; the first of them is the one that a release changes. */
export const VERSION_PLACES: readonly VersionPlace[] = [
  place("package.json", '^  "version": "', '"'),
  place("deno.json", '^  "version": "', '"'),
  place("src/version.ts", 'VERSION = "', '"'),
  place("README.md", "^Sallyport ", " on "),
  place("docs/install.md", "sallyport[-_]", "(?:[-_]|\\.tgz)"),
  place("packaging/deb/nfpm.yaml", "VERSION=", " "),
  place("packaging/deb/nfpm.yaml", "sallyport-", "-"),
  place("packaging/deb/build.sh", "sallyport-", "-"),
  place("packaging/kubernetes/edge.yaml", "image: sallyport:"),
  place("packaging/home-assistant/Dockerfile", "^ARG VERSION="),
  place("packaging/home-assistant/config.yaml", '^version: "', '"'),
];

/** Whether a word is a version: three numbers, and `-rc.1` or the like behind those of a pre-release. */
export function isVersion(word: string): boolean {
  return new RegExp(`^${NUMBER}$`).test(word);
}

/** The version of the project in `root`. */
export async function readVersion(root: string): Promise<string> {
  return (JSON.parse(await readFile(join(root, "package.json"), "utf8")) as { version: string }).version;
}

/** What a place names now, each time that it does. */
export async function versionsAt(root: string, { file, pattern }: VersionPlace): Promise<string[]> {
  const text = await readFile(join(root, file), "utf8");
  return [...text.matchAll(pattern)].map(([whole, before = "", after = ""]) =>
    whole.slice(before.length, whole.length - after.length)
  );
}

/** Writes a version to every place; throws where one of them names none. */
export async function writeVersion(root: string, version: string): Promise<void> {
  for (const { file, pattern } of VERSION_PLACES) {
    const path = join(root, file);
    const text = await readFile(path, "utf8");
    pattern.lastIndex = 0;
    if (!pattern.test(text)) throw new Error(`Cannot set version: ${file} names none (${pattern.source})`);
    await writeFile(path, text.replace(pattern, `$1${version}$2`));
  }
}
