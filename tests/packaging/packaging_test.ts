/** What lies in packaging/ fits the program: settings that exist, one version, and a file that runs by itself. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, readdir, readFile, rename, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import process from "node:process";
import { after, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { parse, parseAllDocuments } from "yaml";
import { buildFor, thisMachine } from "../../packaging/build.ts";
import { SETTINGS } from "../../src/config/settings.ts";
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

function run(
  command: string,
  args: readonly string[],
  more: Readonly<Record<string, string>> = {},
): Promise<{ code: number; text: string }> {
  const env = { ...process.env, ...more };
  return new Promise((resolve) => {
    execFile(command, args, { timeout: 170_000, cwd: ROOT, env }, (error, stdout, stderr) => {
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

  it("is YAML where it says so", async () => {
    for (const { name, text } of await files()) {
      if (!name.endsWith(".yaml")) continue;
      const documents = parseAllDocuments(text, { merge: true });
      assert.deepEqual(documents.flatMap(({ errors }) => errors), [], name);
    }
  });

  it("has an add-on for Home Assistant that uses its options, and listens where the watchdog asks", async () => {
    const [config, script] = await Promise.all(
      ["config.yaml", "run.sh"].map((name) => readFile(join(PACKAGING, "home-assistant", name), "utf8")),
    );
    const [, host, port] = /METRICS_LISTEN=(\S+):(\d+)$/m.exec(script!) ?? [];
    assert.match(config!, /^host_network: true$/m);
    assert.equal(host, "172.30.32.1", "the supervisor can't reach another address of the host's network");
    assert.match(config!, new RegExp(`^watchdog: http://\\[HOST\\]:\\[PORT:${port}\\]/healthz$`, "m"));
    // Each option is used, and none that the user can't set.
    const { options, schema } = parse(config!);
    const used = new Set(
      [...script!.matchAll(/bashio::config(?:\.require)? (\w+)/g)].map(([, name]) => name),
    );
    assert.deepEqual([Object.keys(options), Object.keys(schema)], [[...used], [...used]]);
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

// It shows the same on either runtime: the file has Bun inside.
const skip = process.platform === "win32" || process.versions.deno !== undefined;

describe("a single file", { skip }, () => {
  let folder: string;
  let file: string;
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), "sallyport-file-"));
  });
  after(() => rm(folder, { recursive: true, force: true }));

  it(
    "runs in an empty folder, and says that it is ready",
    { timeout },
    async () => {
      file = join(folder, "sallyport");
      await rename(buildFor(thisMachine(), folder), file);
      assert.ok(!(await readFile(file)).includes(ROOT), "the folder of the build stands in it");
      const foreign = { command: file, args: [], foreign: true };
      const ports = [
        "--listen",
        "127.0.0.1:0",
        "--master-listen",
        "127.0.0.1:0",
        "--curve-listen",
        "127.0.0.1:0",
      ];
      const program = new Program(["serve", ...ports], {}, folder, foreign);
      try {
        const [, url = ""] = await program.seen(/session master +(http:\/\/127\.0\.0\.1:\d+)/);
        const health = await run(file, ["health", url]);
        assert.deepEqual([health.code, health.text.includes('"ready"')], [0, true], health.text);
        // The page's files are inside as well.
        for (const name of ["style.css", "script.js", "chart.js", "chart.css"]) {
          const answer = await fetch(`${url}/page/${name}`);
          assert.equal(answer.status, 200, name);
          assert.ok((await answer.text()).length > 1_000, name);
        }
        program.signal("SIGTERM");
        assert.equal(await program.ended, 0, program.stderr);
        const gone = await run(file, ["health", url]);
        assert.equal(gone.code, 1);
        assert.match(gone.text, /^not ready: /);
      } finally {
        await program.kill();
      }
    },
  );

  // `deno task test -- --program FILE` runs all tests that start the program.
  it("passes the tests of the whole program", { timeout: 180_000 }, async () => {
    const tests = ["curve", "certificates", "service"].map((name) => `./tests/cli/${name}_test.ts`);
    const { code, text } = await run(process.execPath, ["test", "--only-failures", ...tests], {
      SALLYPORT_PROGRAM: file,
    });
    assert.equal(code, 0, text);
  });
});
