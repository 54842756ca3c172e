/**
 * The bill of materials in CycloneDX: what the program is made of, from bun.lock, with licences from node_modules. It
 * is the same for the same commit: no serial number, and the commit's time.
 *
 * @module
 */
import { Contrib, Enums, Models, Serialize, Spec } from "@cyclonedx/cyclonedx-library";
import { readFile } from "node:fs/promises";
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

/**
 * The bill of materials of the program in `root`, as JSON.
 *
 * @param builtAt the time that it names
 * @param bunVersion the runtime inside the single files
 */
export async function makeSbom(root: string, builtAt: Date, bunVersion: string): Promise<string> {
  // bun.lock is JSON with commas behind the last member, which YAML takes.
  const lock = parse(await readFile(join(root, "bun.lock"), "utf8")) as Lock;
  const manifest = JSON.parse(await readFile(join(root, "package.json"), "utf8")) as {
    name: string;
    version: string;
    license: string;
  };
  const licences = new Contrib.License.Factories.LicenseFactory((text) => / (AND|OR|WITH) /.test(text));
  const program = new Models.Component(Enums.ComponentType.Application, manifest.name, {
    version: manifest.version,
    bomRef: `${manifest.name}@${manifest.version}`,
    purl: `pkg:npm/${manifest.name}@${manifest.version}`,
    licenses: new Models.LicenseRepository([licences.makeFromString(manifest.license)]),
  });
  const bom = new Models.Bom({ metadata: new Models.Metadata({ component: program, timestamp: builtAt }) });
  const components = new Map<string, Models.Component>();

  const add = async (key: string): Promise<Models.Component> => {
    const known = components.get(key);
    if (known !== undefined) return known;
    const [ident, , needs, integrity] = lock.packages[key]!;
    const cut = ident.lastIndexOf("@");
    const [name, version] = [ident.slice(0, cut), ident.slice(cut + 1)];
    const component = new Models.Component(Enums.ComponentType.Library, name, {
      version,
      bomRef: ident,
      purl: `pkg:npm/${name.replace("@", "%40")}@${version}`,
    });
    components.set(key, component);
    if (integrity?.startsWith("sha512-")) {
      const hex = Buffer.from(integrity.slice("sha512-".length), "base64").toString("hex");
      component.hashes.set(Enums.HashAlgorithm["SHA-512"], hex);
    }
    const licence = await licenceOf(root, key);
    if (licence !== undefined) component.licenses.add(licences.makeFromString(licence));
    for (const needed of Object.keys({ ...needs.dependencies, ...needs.optionalDependencies }).sort()) {
      const found = resolve(lock, key, needed);
      // What is optional and made for another system isn't locked.
      if (found !== undefined) component.dependencies.add((await add(found)).bomRef);
    }
    bom.components.add(component);
    return component;
  };
  for (const name of Object.keys(lock.workspaces[""].dependencies ?? {}).sort()) {
    program.dependencies.add((await add(name)).bomRef);
  }
  const bun = new Models.Component(Enums.ComponentType.Platform, "bun", {
    version: bunVersion,
    bomRef: `bun@${bunVersion}`,
    purl: `pkg:npm/bun@${bunVersion}`,
    description: "The runtime inside the single files; the npm package brings none.",
  });
  bom.components.add(bun);
  program.dependencies.add(bun.bomRef);
  const serializer = new Serialize.JsonSerializer(new Serialize.JSON.Normalize.Factory(Spec.Spec1dot6));
  return `${serializer.serialize(bom, { sortLists: true, space: 2 })}\n`;
}

/** Where bun.lock has what a package needs: below itself, else below one that it is below, else at the top. */
function resolve(lock: Lock, key: string, needed: string): string | undefined {
  for (let above = key;; above = above.slice(0, Math.max(0, above.lastIndexOf("/")))) {
    const found = above === "" ? needed : `${above}/${needed}`;
    if (found in lock.packages) return found;
    if (above === "") return undefined;
  }
}

async function licenceOf(root: string, key: string): Promise<string | undefined> {
  // A key is a path of names, and a name with a scope has a slash of its own.
  const path = key.match(/@[^/]+\/[^/]+|[^/]+/g)!.map((name) => join("node_modules", name));
  const text = await readFile(join(root, ...path, "package.json"), "utf8").catch(() => undefined);
  return text === undefined ? undefined : (JSON.parse(text) as { license?: string }).license;
}
