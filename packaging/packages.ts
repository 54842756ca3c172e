/**
 * The npm packages that the program is made of: those that package.json names as its dependencies, with all that they
 * need, as bun.lock has them.
 *
 * @module
 */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parse } from "yaml";

/** A package in bun.lock: its name and version, where it is from, what it needs, and its hash. */
type Locked = readonly [ident: string, registry: string, needs: Needs, integrity?: string];
interface Needs {
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
}
interface Lock {
  readonly workspaces: { readonly "": Needs };
  readonly packages: Readonly<Record<string, Locked>>;
}

/** One package. */
export interface Package {
  /** NAME@VERSION. */
  readonly ident: string;
  readonly name: string;
  readonly version: string;
  /** Its folder below node_modules. */
  readonly folder: string;
  /** The SPDX expression in its package.json. */
  readonly licence: string | undefined;
  readonly integrity: string | undefined;
  /** The program needs it itself, not only through another package. */
  readonly isDirect: boolean;
  /** The idents of the packages that it needs. */
  readonly needs: readonly string[];
}

/** Reads bun.lock and node_modules in `root`. */
export function readPackages(root: string): Package[] {
  // bun.lock is JSON with commas behind the last member, which YAML takes.
  const lock = parse(readFileSync(join(root, "bun.lock"), "utf8")) as Lock;
  const direct = namesIn(lock.workspaces[""]);
  const packages = new Map<string, Package>();
  const add = (key: string): void => {
    if (packages.has(key)) return;
    const [ident, , needs, integrity] = lock.packages[key]!;
    const cut = ident.lastIndexOf("@");
    const folder = folderOf(root, key);
    // What is optional and made for another system isn't locked.
    const needed = namesIn(needs).map((name) => resolve(lock, key, name)).filter((found) =>
      found !== undefined
    );
    packages.set(key, {
      ...{ ident, name: ident.slice(0, cut), version: ident.slice(cut + 1), folder, integrity },
      licence: licenceIn(folder),
      isDirect: direct.includes(key),
      needs: needed.map((found) => lock.packages[found]![0]),
    });
    needed.forEach(add);
  };
  direct.forEach(add);
  return [...packages.values()];
}

function namesIn({ dependencies, optionalDependencies }: Needs): string[] {
  return Object.keys({ ...dependencies, ...optionalDependencies });
}

/** Where bun.lock has what a package needs: below itself, else below one that it is below, else at the top. */
function resolve(lock: Lock, key: string, needed: string): string | undefined {
  for (let above = key;; above = above.slice(0, Math.max(0, above.lastIndexOf("/")))) {
    const found = above === "" ? needed : `${above}/${needed}`;
    if (found in lock.packages) return found;
    if (above === "") return undefined;
  }
}

function folderOf(root: string, key: string): string {
  // A key is a path of names, and a name with a scope has a slash of its own.
  return join(root, ...key.match(/@[^/]+\/[^/]+|[^/]+/g)!.map((name) => join("node_modules", name)));
}

function licenceIn(folder: string): string | undefined {
  const path = join(folder, "package.json");
  if (!existsSync(path)) return undefined;
  return (JSON.parse(readFileSync(path, "utf8")) as { license?: string }).license;
}
