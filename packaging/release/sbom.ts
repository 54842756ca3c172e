/**
 * The bill of materials in CycloneDX: what the program is made of, from bun.lock, with licences from node_modules. It
 * is the same for the same commit: no serial number, and the commit's time.
 *
 * @module
 */
import { Contrib, Enums, Models, Serialize, Spec } from "@cyclonedx/cyclonedx-library";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { readPackages } from "../packages.ts";

/**
 * The bill of materials of the program in `root`, as JSON.
 *
 * @param builtAt the time that it names
 * @param bunVersion the runtime inside the single files
 */
export async function makeSbom(root: string, builtAt: Date, bunVersion: string): Promise<string> {
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
  const packages = readPackages(root);
  const components = new Map<string, Models.Component>();
  for (const { ident, name, version, integrity, licence, isDirect } of packages) {
    const component = new Models.Component(Enums.ComponentType.Library, name, {
      version,
      bomRef: ident,
      purl: `pkg:npm/${name.replace("@", "%40")}@${version}`,
    });
    if (integrity?.startsWith("sha512-")) {
      const hex = Buffer.from(integrity.slice("sha512-".length), "base64").toString("hex");
      component.hashes.set(Enums.HashAlgorithm["SHA-512"], hex);
    }
    if (licence !== undefined) component.licenses.add(licences.makeFromString(licence));
    if (isDirect) program.dependencies.add(component.bomRef);
    components.set(ident, component);
    bom.components.add(component);
  }
  for (const { ident, needs } of packages) {
    for (const needed of needs) components.get(ident)!.dependencies.add(components.get(needed)!.bomRef);
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
