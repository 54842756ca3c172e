/** What Bun is started with: it knows the option, and every way to start the program by Bun gives it. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import process from "node:process";
import { describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { BUN_ENVIRONMENT } from "../../src/cli/bun_environment.ts";
import { MANAGERS, serviceText } from "../../src/cli/service_files.ts";

const ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const fileText = (path: string): Promise<string> => readFile(join(ROOT, path), "utf8");

describe("the environment for Bun", () => {
  it("lets JavaScriptCore's third compiler come later", { skip: process.versions.bun === undefined }, () => {
    const own = Object.fromEntries(Object.entries(process.env));
    const env = { ...own, ...BUN_ENVIRONMENT, BUN_JSC_dumpOptions: "1" };
    const { stderr, stdout } = spawnSync(process.execPath, ["-e", "0"], { env, encoding: "utf8" });
    assert.match(stdout + stderr, /\bthresholdForFTLOptimizeAfterWarmUp=640000 \(default: 64000\)/);
  });

  for (const [name, value] of Object.entries(BUN_ENVIRONMENT)) {
    it(`gives ${name} in all that starts the program by Bun or as a single file`, async () => {
      for (const manager of MANAGERS) {
        const spec = { command: "edge", program: ["/usr/bin/sallyport"], args: [] } as const;
        const text = serviceText(manager, spec);
        assert.ok(
          text.includes(`${name}=${value}\n`) ||
            text.includes(`<key>${name}</key>\n    <string>${value}</string>`),
          text,
        );
        assert.ok(!serviceText(manager, { ...spec, onDeno: true }).includes(name), manager);
      }
      const scripts = JSON.parse(await fileText("package.json")).scripts as Record<string, string>;
      for (const script of ["server", "start"]) {
        assert.ok(scripts[script]!.startsWith(`${name}=${value} bun `));
      }
      for (const path of ["packaging/container/Dockerfile", "packaging/home-assistant/run.sh"]) {
        assert.ok((await fileText(path)).includes(`${name}=${value}`), path);
      }
      assert.ok((await fileText("bin/sallyport.js")).includes(`${name}: "${value}"`));
    });
  }
});
