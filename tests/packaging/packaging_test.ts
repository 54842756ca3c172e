/** What lies in packaging/ fits the program: settings that exist, one version, and a file that runs with nothing around it. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { chmod, copyFile, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import process from "node:process";
import { after, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { parseAllDocuments } from "yaml";
import { SETTINGS } from "../../src/config/settings.ts";
import { VERSION } from "../../src/version.ts";
import { Program } from "../cli/program.ts";

const ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const PACKAGING = join(ROOT, "packaging");
const timeout = 120_000;

async function files(): Promise<{ name: string; text: string }[]> {
  const entries = await readdir(PACKAGING, { recursive: true, withFileTypes: true });
  return await Promise.all(
    entries.filter((entry) => entry.isFile()).map(async (entry) => {
      const path = join(entry.parentPath, entry.name);
      return { name: path.slice(ROOT.length + 1), text: await readFile(path, "utf8") };
    }),
  );
}

function run(command: string, args: readonly string[]): Promise<{ code: number; text: string }> {
  return new Promise((resolve) => {
    execFile(command, args, { timeout: 60_000, cwd: ROOT }, (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : Number(error.code ?? 1), text: `${stdout}${stderr}` });
    });
  });
}

describe("packaging", () => {
  it("sets only what is a setting", async () => {
    const known = new Set(Object.values(SETTINGS).map(({ env }) => env));
    let seen = 0;
    for (const { name, text } of await files()) {
      if (/\.(ts|js)$/.test(name)) continue;
      for (const [variable] of text.matchAll(/\bSALLYPORT_[A-Z_]*[A-Z]\b/g)) {
        seen++;
        assert.ok(known.has(variable), `${name} sets ${variable}`);
      }
    }
    assert.ok(seen > 10);
  });

  it("is YAML where it says so, and names this version", async () => {
    for (const { name, text } of await files()) {
      if (!name.endsWith(".yaml")) continue;
      const documents = parseAllDocuments(text, { merge: true });
      assert.deepEqual(documents.flatMap(({ errors }) => errors), [], name);
      for (const [, version] of text.matchAll(/(?:image: sallyport:|^version: ")(\d+\.\d+\.\d+)/gm)) {
        assert.equal(version, VERSION, name);
      }
    }
  });

  it("gives every container no rights, a read-only file system and probes", async () => {
    for (const { name, text } of await files()) {
      if (!name.endsWith(".compose.yaml")) continue;
      for (const needed of ["read_only: true", "cap_drop: [ALL]", "no-new-privileges:true"]) {
        assert.ok(text.includes(needed), `${name} lacks ${needed}`);
      }
    }
    const pods = parseAllDocuments(await readFile(join(PACKAGING, "kubernetes/edge.yaml"), "utf8"))
      .map((document) => document.toJS()).filter(({ kind }) =>
        kind === "Deployment" || kind === "StatefulSet"
      );
    assert.equal(pods.length, 2);
    for (const { spec } of pods) {
      const [container] = spec.template.spec.containers;
      assert.equal(container.securityContext.readOnlyRootFilesystem, true);
      for (const probe of ["startupProbe", "readinessProbe", "livenessProbe"]) {
        assert.ok(container[probe], probe);
      }
    }
  });
});

// It takes root, and shows the same on either runtime: the file has Bun inside.
const skip = process.platform !== "linux" || process.getuid?.() !== 0 || process.versions.deno !== undefined;

describe("a single file", { skip }, () => {
  let root: string;
  before(async () => {
    root = await mkdtemp(join(tmpdir(), "sallyport-root-"));
    await chmod(root, 0o755);
  });
  after(() => rm(root, { recursive: true, force: true }));

  it("runs where there are only the C library and a data folder, as nobody, and says that it is ready", {
    timeout,
  }, async () => {
    const built = await run(process.execPath, [
      "build",
      "--compile",
      "mod.ts",
      "--outfile",
      join(root, "sallyport"),
    ]);
    assert.equal(built.code, 0, built.text);
    // What a distroless image has of the system.
    const { text: libraries } = await run("ldd", [join(root, "sallyport")]);
    for (const [path] of libraries.matchAll(/\/\S+(?= \()/g)) {
      await mkdir(join(root, dirname(path)), { recursive: true });
      await copyFile(path, join(root, path));
    }
    for (const folder of ["data", "tmp", "etc"]) await mkdir(join(root, folder), { mode: 0o755 });
    await writeFile(join(root, "etc/hosts"), "127.0.0.1 localhost\n");
    assert.equal((await run("chown", ["65532:65532", join(root, "data")])).code, 0);
    const inside = ["--userspec=65532:65532", root, "/sallyport"];
    const foreign = { command: "chroot", args: inside, foreign: true };
    const ports = [
      "--listen",
      "127.0.0.1:0",
      "--master-listen",
      "127.0.0.1:0",
      "--curve-listen",
      "127.0.0.1:0",
    ];
    const program = new Program(["serve", "--data-dir", "/data", ...ports], {}, root, foreign);
    try {
      const [, url = ""] = await program.seen(/session master +(http:\/\/127\.0\.0\.1:\d+)/);
      await program.seen(/libsodium +as WebAssembly/);
      const health = await run("chroot", [...inside, "health", url]);
      assert.deepEqual([health.code, health.text.includes('"ready"')], [0, true], health.text);
      program.signal("SIGTERM");
      assert.equal(await program.ended, 0, program.stderr);
      const gone = await run("chroot", [...inside, "health", url]);
      assert.equal(gone.code, 1);
      assert.match(gone.text, /^not ready: /);
    } finally {
      await program.kill();
    }
  });
});
