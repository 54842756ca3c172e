/**
 * The licences of all that comes with the program, as a text for those who get it: of the npm packages that are bundled
 * into it, and of the runtime inside the single files. It is the same for the same lock file.
 *
 * @module
 */
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Package, readPackages } from "./packages.ts";

/** What the file is called, in each form in which the program is distributed. */
export const NOTICES = "THIRD_PARTY_NOTICES.txt";

const LICENCE_FILE = /^(licen[cs]e|copying|copyright|notice)/i;
const HEADING = /^#+ *licen[cs]e *$/im;
const RULE = "-".repeat(80);

/** What packages contain that isn't a package itself. */
const CONTAINED: Readonly<Record<string, string>> = {
  "sodium-native":
    "contains libsodium as native code: ISC, Copyright (c) Frank Denis <j at pureftpd dot org>, " +
    "with the terms of the package libsodium, https://github.com/jedisct1/libsodium/blob/master/LICENSE",
};

const INTRODUCTION = `Third-party notices

Sallyport, which is under the MIT License, is distributed together with the npm packages in this list. The text of each
licence follows, below the names of the packages that have it.

The single files contain a runtime as well. It is Bun, whose licences are at the end; or, in a file whose name ends in
-deno, Deno: MIT, https://github.com/denoland/deno/blob/main/LICENSE.md`;

/** Writes the file into a folder; `root` has bun.lock and node_modules. */
export function writeNotices(root: string, folder: string): void {
  writeFileSync(join(folder, NOTICES), makeNotices(root));
}

/** The notices for the program in `root`. Throws for a package whose licence can't be given. */
export function makeNotices(root: string): string {
  const packages = readPackages(root).sort((a, b) => a.ident < b.ident ? -1 : 1);
  const list: string[] = [];
  // Many packages share one text.
  const owners = new Map<string, Set<string>>();
  for (const each of packages) {
    list.push(`${each.ident}: ${each.licence ?? "see its text"}`);
    if (each.name in CONTAINED) list.push(`  ${CONTAINED[each.name]}`);
    for (const text of textsOf(each, root)) {
      const tidy = text.replaceAll("\r\n", "\n").trim();
      owners.set(tidy, (owners.get(tidy) ?? new Set()).add(each.ident));
    }
  }
  const texts = [...owners].map(([text, idents]) => `${[...idents].join("\n")}\n\n${text}`);
  const parts = [`${INTRODUCTION}\n\n${list.join("\n")}`, ...texts, `Bun\n\n${licencesOfBun(root)}`];
  return `${parts.join(`\n\n${RULE}\n`)}\n`;
}

function textsOf({ ident, folder, licence }: Package, root: string): string[] {
  const names = existsSync(folder) ? readdirSync(folder).sort() : [];
  const files = names.filter((name) => LICENCE_FILE.test(name));
  if (files.length > 0) return files.map((name) => readFileSync(join(folder, name), "utf8"));
  const readme = names.find((name) => /^readme/i.test(name));
  const [, section = ""] = readme === undefined
    ? []
    : readFileSync(join(folder, readme), "utf8").split(HEADING);
  if (section.includes("Copyright")) return [section];
  // Our own licence has the terms.
  if (licence === "MIT") {
    return [`Copyright (c) the authors of ${ident}\n\n${from("Permission", join(root, "LICENSE"))}`];
  }
  const why = licence === undefined ? "names no licence" : `has ${licence}, whose terms aren't known here`;
  throw new Error(
    `Cannot write ${NOTICES}: ${ident} brings no text of its licence and ${why}. Is it installed? Else take another ` +
      "package, or add the terms to packaging/notices.ts",
  );
}

/** Bun's own list, which its types bring along. */
function licencesOfBun(root: string): string {
  return from("Bun itself", join(root, "node_modules/bun-types/docs/project/license.mdx")).trim();
}

/** A file's text from a word on. */
function from(word: string, path: string): string {
  const text = readFileSync(path, "utf8");
  return text.slice(text.indexOf(word));
}
