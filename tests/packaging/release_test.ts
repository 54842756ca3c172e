/** The pieces of a release; `deno task release --verify-reproducible` puts them together, which takes minutes. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { cp, mkdir, mkdtemp, readFile, rm, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import process from "node:process";
import { after, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { cutChangelog, releaseNotes } from "../../packaging/release/changelog.ts";
import { makeKeys, sign, verify } from "../../packaging/release/minisign.ts";
import { makeSbom } from "../../packaging/release/sbom.ts";
import { packSource } from "../../packaging/release/source.ts";
import {
  isVersion,
  readVersion,
  VERSION_PLACES,
  versionsAt,
  writeVersion,
} from "../../packaging/release/version.ts";

const timeout = 60_000;
const ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))));

let folder: string;
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "sallyport-release-"));
});
after(() => rm(folder, { recursive: true, force: true }));

describe("the version", () => {
  it("is package.json's in every place that names it", { timeout }, async () => {
    const version = await readVersion(ROOT);
    for (const place of VERSION_PLACES) {
      const found = await versionsAt(ROOT, place);
      assert.ok(found.length > 0, `${place.file} names no version`);
      for (const each of found) assert.equal(each, version, place.file);
    }
  });

  it("is written to all of them, and no dependency's with it", { timeout }, async () => {
    for (const { file } of VERSION_PLACES) {
      await mkdir(join(folder, dirname(file)), { recursive: true });
      await cp(join(ROOT, file), join(folder, file));
    }
    await writeVersion(folder, "12.3.4-rc.1");
    for (const place of VERSION_PLACES) {
      assert.deepEqual([...new Set(await versionsAt(folder, place))], ["12.3.4-rc.1"], place.file);
    }
    const read = async (root: string) => JSON.parse(await readFile(join(root, "package.json"), "utf8"));
    const [before, after] = [await read(ROOT), await read(folder)];
    assert.deepEqual({ ...after, version: before.version }, before);
    await writeVersion(folder, before.version);
    for (const { file } of VERSION_PLACES) {
      assert.equal(
        await readFile(join(folder, file), "utf8"),
        await readFile(join(ROOT, file), "utf8"),
        file,
      );
    }
    assert.deepEqual(["1.2.3", "1.2.3-rc.1", "v1.2.3", "1.2", ""].map(isVersion), [
      ...[true, true, false, false, false],
    ]);
  });
});

describe("the changelog", () => {
  const text = "# Changelog\n\n## Unreleased\n\n### Added\n\n- A thing.\n\n## 0.1.0 - 2026-01-01\n\n- Old.\n";

  it("gives what is unreleased a section with version and day", () => {
    const cut = cutChangelog(text, "0.2.0", "2026-11-27");
    assert.equal(
      cut,
      "# Changelog\n\n## Unreleased\n\n## 0.2.0 - 2026-11-27\n\n### Added\n\n- A thing.\n\n" +
        "## 0.1.0 - 2026-01-01\n\n- Old.\n",
    );
    assert.equal(releaseNotes(cut, "0.2.0"), "### Added\n\n- A thing.");
    assert.equal(releaseNotes(text, "0.2.0"), "### Added\n\n- A thing.");
    assert.equal(releaseNotes(cut, "0.1.0"), "- Old.");
  });

  it("is refused where there is nothing to release, or the version has been", () => {
    assert.throws(() => cutChangelog(text, "0.1.0", "2026-11-27"), /has a section of 0\.1\.0 already/);
    const cut = cutChangelog(text, "0.2.0", "2026-11-27");
    assert.throws(() => cutChangelog(cut, "0.3.0", "2026-11-28"), /nothing is unreleased/);
    assert.throws(() => cutChangelog("# Changelog\n", "0.3.0", "2026-11-28"), /no line "## Unreleased"/);
  });

  it("of this project can be cut", { timeout }, async () => {
    cutChangelog(await readFile(join(ROOT, "CHANGELOG.md"), "utf8"), "999.0.0", "2026-11-27");
  });
});

describe("a signature", () => {
  const bytes = new TextEncoder().encode("what is released\n");
  const keys = makeKeys();

  it("is good for these bytes, this comment and this key alone", () => {
    const signature = sign(bytes, keys.secret, "sallyport 1.2.3");
    assert.equal(verify(bytes, signature, keys.public), true);
    assert.equal(verify(bytes.slice(1), signature, keys.public), false);
    assert.equal(verify(bytes, signature.replace("1.2.3", "1.2.4"), keys.public), false);
    assert.equal(verify(bytes, signature, makeKeys().public), false);
    // A build service's secret often is the second line alone.
    const line = keys.secret.trim().split("\n")[1]!;
    assert.equal(verify(bytes, sign(bytes, line, "one line"), keys.public), true);
    assert.throws(() => sign(bytes, "bm8gbWluaXNpZ24ga2V5", ""), /not one of minisign's/);
  });

  const minisign = spawnSync("minisign", ["-v"]).error === undefined;
  it(
    "is taken by minisign, whose keys are taken too",
    { skip: !minisign && "minisign isn't on PATH" },
    async () => {
      const [file, key] = [join(folder, "file"), join(folder, "minisign")];
      await writeFile(file, bytes);
      await writeFile(`${key}.pub`, keys.public);
      await writeFile(`${file}.minisig`, sign(bytes, keys.secret, "sallyport 1.2.3"));
      const verified = spawnSync("minisign", ["-V", "-H", "-p", `${key}.pub`, "-m", file], {
        encoding: "utf8",
      });
      assert.equal(verified.status, 0, verified.stderr);
      assert.match(verified.stdout, /Trusted comment: sallyport 1\.2\.3/);
      const made = spawnSync("minisign", ["-G", "-W", "-f", "-p", `${key}2.pub`, "-s", `${key}2.key`]);
      if (made.status !== 0) return; // Before 0.11 it makes no keys without a password.
      const theirs = await readFile(`${key}2.key`, "utf8");
      assert.equal(verify(bytes, sign(bytes, theirs, "x"), await readFile(`${key}2.pub`, "utf8")), true);
    },
  );
});

const linux = process.platform === "linux";
describe("the source archive", { skip: !linux && "a release is made on Linux, with GNU tar" }, () => {
  it("has the named files alone, and the same bytes in another folder, at another time, for another umask", {
    timeout,
  }, async () => {
    const made: Uint8Array[] = [];
    for (const [index, mode] of [0o644, 0o600].entries()) {
      const root = join(folder, `source${index}`);
      await mkdir(join(root, "src"), { recursive: true });
      for (const name of ["b.ts", "src/a.ts", "left by a check"]) {
        await writeFile(join(root, name), name, { mode });
      }
      await utimes(join(root, "b.ts"), index + 1, index + 1);
      const files = index === 0 ? ["src/a.ts", "b.ts"] : ["b.ts", "src/a.ts"];
      const path = join(folder, `source${index}.tar.gz`);
      packSource({ root, files, name: "sallyport-1.2.3", builtAtSeconds: 1_795_000_000 }, path);
      made.push(await readFile(path));
    }
    assert.deepEqual(made[0], made[1]);
    const listed = spawnSync("tar", ["-tzf", join(folder, "source0.tar.gz")], { encoding: "utf8" });
    assert.equal(listed.stdout, "sallyport-1.2.3/b.ts\nsallyport-1.2.3/src/a.ts\n");
  });
});

describe("the bill of materials", () => {
  it("names all that the program is made of, the same each time", { timeout }, async () => {
    const builtAt = new Date("2026-11-27T00:00:00Z");
    const text = await makeSbom(ROOT, builtAt, "1.4.5");
    assert.equal(await makeSbom(ROOT, builtAt, "1.4.5"), text);
    const bom = JSON.parse(text) as {
      specVersion: string;
      metadata: { component: { version: string; "bom-ref": string } };
      components: { name: string; version: string; hashes?: unknown[]; licenses?: unknown[] }[];
      dependencies: { ref: string; dependsOn?: string[] }[];
    };
    assert.equal(bom.specVersion, "1.6");
    assert.equal(bom.metadata.component.version, await readVersion(ROOT));
    const manifest = JSON.parse(await readFile(join(ROOT, "package.json"), "utf8"));
    const named = new Map(bom.components.map((component) => [component.name, component]));
    for (const [name, version] of Object.entries(manifest.dependencies as Record<string, string>)) {
      const component = named.get(name);
      assert.equal(component?.version, version, name);
      assert.ok(component?.hashes?.length === 1 && component.licenses?.length === 1, name);
    }
    for (const name of Object.keys(manifest.devDependencies)) assert.equal(named.has(name), false, name);
    const known = new Set(bom.dependencies.map(({ ref }) => ref));
    for (const { dependsOn = [] } of bom.dependencies) {
      for (const ref of dependsOn) assert.ok(known.has(ref), ref);
    }
    const own = bom.dependencies.find(({ ref }) => ref === bom.metadata.component["bom-ref"]);
    assert.equal(own?.dependsOn?.length, Object.keys(manifest.dependencies).length + 1);
  });
});
