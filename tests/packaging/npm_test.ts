/** What `npm pack` ships, used as a project that installed it uses it: types, examples and the command, on both runtimes. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import process from "node:process";
import { after, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";

const ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const timeout = 180_000;

interface Ended {
  readonly code: number;
  readonly out: string;
}

function run(
  command: string,
  args: readonly string[],
  cwd: string,
  env: Record<string, string> = {},
): Promise<Ended> {
  const outer = Object.entries(process.env).filter(([name]) => !name.startsWith("SALLYPORT_"));
  return new Promise((resolve) => {
    const whole = { cwd, env: { ...Object.fromEntries(outer), NO_COLOR: "1", ...env }, maxBuffer: 1 << 24 };
    const child = execFile(command, args, whole, (error, out, err) => {
      const code = error === null ? 0 : typeof error.code === "number" ? error.code : 1;
      resolve({ code, out: `${out}${err}` });
    });
    child.stdin?.end();
  });
}

async function fine(command: string, args: readonly string[], cwd: string): Promise<string> {
  const { code, out } = await run(command, args, cwd);
  assert.equal(code, 0, `${command} ${args.join(" ")}\n${out}`);
  return out;
}

// One runtime runs it: what it shows is about both, and doesn't depend on the one below the test.
const skip = process.versions.deno === undefined ? "it runs once, under Deno" : process.platform === "win32";

describe("the npm package", { skip }, () => {
  let folder: string;
  let project: string;
  let installed: string;
  let files: string[];
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), "sallyport-npm-"));
    project = join(folder, "project");
    await mkdir(project);
    await fine("npm", ["pack", "--silent", "--pack-destination", project], ROOT);
    const [tarball = ""] = (await readdir(project)).filter((name) => name.endsWith(".tgz"));
    const modules = join(project, "node_modules");
    files = (await fine("tar", ["-tzf", tarball], project)).trim().split("\n");
    installed = join(folder, "global", "lib", "node_modules", "sallyport");
    for (const place of [join(modules, "sallyport"), installed]) {
      await mkdir(place, { recursive: true });
      await fine("tar", ["-xzf", tarball, "--strip-components=1", "-C", place], project);
    }
    // As by `npm install --global`, where nothing else lies around it.
    await symlink(join(ROOT, "node_modules"), join(installed, "node_modules"));
    // Its dependencies as the project's lock file has them, without a download.
    for (const name of await readdir(join(ROOT, "node_modules"))) {
      if (name !== ".bin") await symlink(join(ROOT, "node_modules", name), join(modules, name));
    }
    await writeFile(join(project, "package.json"), `{"type":"module","dependencies":{"sallyport":"*"}}`);
    const compilerOptions = {
      ...{ target: "esnext", module: "nodenext", strict: true, noEmit: true, skipLibCheck: false },
      types: ["node"],
    };
    await writeFile(join(project, "tsconfig.json"), JSON.stringify({ compilerOptions, include: ["*.ts"] }));
    for (const name of await readdir(join(ROOT, "examples"))) {
      const text = await readFile(join(ROOT, "examples", name), "utf8");
      await writeFile(join(project, name), text.replaceAll('"../mod.ts"', '"sallyport"'));
    }
  }, { timeout });
  after(() => rm(folder, { recursive: true, force: true }));
  const examples = async () => (await readdir(project)).filter((name) => name.endsWith(".ts"));

  it("holds the program, its types and its papers, and nothing else", () => {
    const kinds = new Set(
      files.map((name) => name.replace(/^package\//, "").replace(/^dist\/.*(\.d\.ts|\.js)$/, "dist/*$1")),
    );
    assert.deepEqual([...kinds].sort(), [
      ...["CHANGELOG.md", "LICENSE", "README.md", "SECURITY.md", "bin/sallyport.js"],
      ...[
        "dist/*.d.ts",
        "dist/*.js",
        "dist/THIRD_PARTY_NOTICES.txt",
        "dist/src/master/page/style.css",
        "dist/src/master/reference.css",
        "package.json",
      ],
    ]);
  });

  it("has types that tsc and deno check take, with the examples", { timeout }, async () => {
    await fine("node", [join(ROOT, "node_modules/typescript/bin/tsc"), "--project", "."], project);
    await fine(process.execPath, ["check", "--node-modules-dir=manual", ...await examples()], project);
  });

  it("runs the examples on both runtimes", { timeout }, async () => {
    const deno = ["run", "--quiet", "--node-modules-dir=manual", "--unstable-net", "--no-prompt"];
    const allowed = ["--allow-env", "--allow-sys", "--allow-net", "--allow-read"];
    for (const name of await examples()) {
      await fine("bun", [name], project);
      await fine(process.execPath, [...deno, ...allowed, name], project);
    }
  });

  it(
    "has a command that finds a runtime, and says what is missing where there is none",
    { timeout },
    async () => {
      const launcher = join(installed, "bin/sallyport.js");
      for (const runtime of ["bun", "deno"]) {
        const key = join(folder, `${runtime}.key`);
        const { code, out } = await run("node", [launcher, "pipe", "keygen", key], folder, {
          SALLYPORT_RUNTIME: runtime,
        });
        assert.equal(code, 0, out);
        // Without a warning: libsodium is native.
        assert.match(out, /^[0-9a-f]{64}\n$/);
      }
      const wrong = await run("node", [launcher, "agnet"], project);
      assert.equal(wrong.code, 2);
      assert.match(wrong.out, /Did you mean agent\?.*`sallyport --help`/);
      const node = (await run("which", ["node"], project)).out.trim();
      const bare = { PATH: join(project, "empty"), SALLYPORT_RUNTIME: "deno" };
      const none = await run(node, [launcher, "keygen"], project, bare);
      assert.equal(none.code, 1);
      assert.match(none.out, /^error: Cannot start: there is no deno of version 2\.9 or newer on PATH/);
    },
  );
});
