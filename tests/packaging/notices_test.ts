/** The licences of other people's packages, which each form of the program brings along. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import process from "node:process";
import { after, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { makeNotices } from "../../packaging/notices.ts";

const ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const timeout = 60_000;

describe("the third-party notices", () => {
  let folder: string;
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), "sallyport-notices-"));
  });
  after(() => rm(folder, { recursive: true, force: true }));

  it("name every package in the bundle, in list and texts, the same each time", { timeout }, async () => {
    const notices = makeNotices(ROOT);
    assert.equal(makeNotices(ROOT), notices);
    assert.ok(!notices.includes(ROOT), "the folder of the build stands in it");
    const bun = process.versions.bun === undefined ? "bun" : process.execPath;
    const metafile = join(folder, "bundle.json");
    const flags = [
      "--target=node",
      "--splitting",
      "--outdir",
      join(folder, "bundle"),
      `--metafile=${metafile}`,
    ];
    execFileSync(bun, ["build", ...flags, "main.ts"], { cwd: ROOT, stdio: ["ignore", "ignore", 2] });
    const { inputs } = JSON.parse(await readFile(metafile, "utf8")) as { inputs: Record<string, unknown> };
    const found = Object.keys(inputs).map((path) =>
      /^.*node_modules\/(?:@[^/]+\/)?[^/]+/.exec(path.replaceAll("\\", "/"))?.[0]
    );
    const folders = new Set(found.filter((path) => path !== undefined));
    assert.ok(folders.size > 80, `${folders.size} packages in the bundle`);
    for (const path of folders) {
      const { name, version } = JSON.parse(await readFile(join(ROOT, path, "package.json"), "utf8"));
      assert.ok(notices.includes(`\n${name}@${version}: `), `${name}@${version} isn't in the list`);
      assert.ok(notices.includes(`\n${name}@${version}\n`), `${name}@${version} has no text`);
    }
  });

  it("have libsodium inside sodium-native, and what is inside Bun", () => {
    const notices = makeNotices(ROOT);
    assert.match(notices, /^sodium-native@.*: MIT\n {2}contains libsodium as native code: ISC/m);
    assert.match(notices, /^Bun\n\nBun itself is MIT-licensed\.[^]*JavaScriptCore.*LGPL-2[^]*`boringssl`/m);
  });

  /** A program with one package, which has these files. */
  async function withPackage(manifest: object, files: Record<string, string> = {}): Promise<string> {
    const root = await mkdtemp(join(folder, "root-"));
    const all: Record<string, string> = {
      "bun.lock":
        '{"workspaces":{"":{"dependencies":{"it":"1.0.0"}}},"packages":{"it":["it@1.0.0","",{},""],}}',
      "LICENSE": await readFile(join(ROOT, "LICENSE"), "utf8"),
      "node_modules/bun-types/docs/project/license.mdx": "Bun itself is MIT-licensed.",
      "node_modules/it/package.json": JSON.stringify(manifest),
    };
    for (const [name, text] of Object.entries(files)) all[`node_modules/it/${name}`] = text;
    for (const [name, text] of Object.entries(all)) {
      await mkdir(dirname(join(root, name)), { recursive: true });
      await writeFile(join(root, name), text);
    }
    return root;
  }

  it("take each licence file, else the readme's section, else the terms of MIT", async () => {
    const files = {
      "LICENSE.md": "Its terms.\r\n",
      "NOTICE": "Its notice.\n",
      "README.md": "# Licence\n\nMIT\n",
    };
    const whole = makeNotices(await withPackage({ license: "Apache-2.0" }, files));
    assert.match(whole, /\nit@1\.0\.0: Apache-2\.0\n/);
    assert.match(whole, /\nit@1\.0\.0\n\nIts terms\.\n\n-+\nit@1\.0\.0\n\nIts notice\.\n\n-+\nBun\n/);
    const readme = { "README.md": "# It\n\n## License\n\nCopyright (c) Somebody. Do as you like.\n" };
    assert.match(
      makeNotices(await withPackage({ license: "Own" }, readme)),
      /\nit@1\.0\.0\n\nCopyright \(c\) Somebody\. Do as you like\.\n/,
    );
    const terms = makeNotices(await withPackage({ license: "MIT" }, { "README.md": "# Licence\n\nMIT\n" }));
    assert.match(
      terms,
      /\nit@1\.0\.0\n\nCopyright \(c\) the authors of it@1\.0\.0\n\nPermission is hereby granted/,
    );
    assert.match(terms, /WITHOUT WARRANTY OF ANY KIND/);
  });

  it("can't be written for a package without a licence", async () => {
    const refused = async (manifest: object, why: RegExp) => {
      const root = await withPackage(manifest, { "index.js": "" });
      assert.throws(() => makeNotices(root), why);
    };
    await refused({}, /Cannot write THIRD_PARTY_NOTICES\.txt: it@1\.0\.0 .*names no licence/);
    await refused({ license: "SSPL-1.0" }, /it@1\.0\.0 .*has SSPL-1\.0, whose terms aren't known here/);
  });
});
