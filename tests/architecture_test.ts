import assert from "node:assert/strict";
import { readdir, readFile } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { VERSION } from "../src/version.ts";

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));

/**
 * Who may import whom: a room imports from rooms with a smaller number, and from itself. Rooms of the same number
 * don't know each other.
 */
const LEVELS: Record<string, number> = {
  "version.ts": 0,
  "errors.ts": 0,
  "calendar.ts": 0,
  bytes: 1,
  crypto: 2,
  wire: 3,
  protocol: 5,
  runtime: 5,
  telemetry: 5,
  transport: 6,
  cluster: 7,
  tunnel: 8,
  oidc: 8,
  dns: 8,
  edge: 9,
  pipe: 9,
  agent: 9,
  master: 9,
  snocat: 10,
  config: 11,
  cli: 12,
};
/** Types alone: importable from anywhere above wire, though they live in a room of adapters. */
const PORTS = ["src/runtime/port.ts", "src/runtime/quic_port.ts"];
const PORT_LEVEL = 4;

interface Source {
  readonly path: string;
  readonly text: string;
}

async function sources(...folders: string[]): Promise<Source[]> {
  const found: Source[] = [];
  for (const folder of folders) {
    const entries = await readdir(join(ROOT, folder), { recursive: true, withFileTypes: true }).catch(
      () => [],
    );
    for (const entry of entries) {
      if (!entry.isFile() || !/\.tsx?$/.test(entry.name)) continue;
      const path = join(entry.parentPath, entry.name);
      found.push({ path: relative(ROOT, path).replaceAll("\\", "/"), text: await readFile(path, "utf8") });
    }
  }
  return found;
}

/** Source text without comments and without the insides of plain strings. */
function code(text: string): string {
  return text.replace(/\/\*[\s\S]*?\*\//g, "").replace(/"(?:[^"\\\n]|\\.)*"/g, '""').replace(/\/\/.*$/gm, "");
}

/** What a file imports, statically or dynamically, type imports too. */
function imports(text: string): string[] {
  const plain = text.replace(/\/\*[\s\S]*?\*\//g, "").replace(/^\s*\/\/.*$/gm, "");
  return [...plain.matchAll(/(?:\bfrom\s*|\bimport\s*\(?\s*)"([^"]+)"/g)].map((match) => match[1] as string);
}

function roomOf(path: string): string {
  return path.replace(/^src\//, "").split("/")[0] as string;
}

function levelOf(path: string): number {
  if (PORTS.includes(path)) return PORT_LEVEL;
  const level = LEVELS[roomOf(path)];
  assert.notEqual(level, undefined, `${path} lies in a room that tests/architecture_test.ts doesn't know`);
  return level as number;
}

/** The imports of a file that go against the order, as readable lines. */
function wrongImports({ path, text }: Source): string[] {
  const wrong: string[] = [];
  for (const name of imports(text)) {
    if (!name.startsWith(".")) continue;
    const target = join(dirname(path), name).replaceAll("\\", "/");
    if (!target.startsWith("src/")) {
      wrong.push(`${path} imports ${target}, which is outside src`);
      continue;
    }
    const same = PORTS.includes(path) ? PORTS.includes(target) : roomOf(target) === roomOf(path);
    if (!same && levelOf(target) >= levelOf(path)) wrong.push(`${path} imports ${target}`);
  }
  return wrong;
}

test("imports point one way", async () => {
  const files = await sources("src");
  assert.ok(files.length > 0);
  assert.deepEqual(files.flatMap(wrongImports), []);
});

test("the check of imports sees what is wrong", () => {
  const wrong = (path: string, text: string) => wrongImports({ path, text }).length;
  assert.equal(wrong("src/protocol/mux/session.ts", 'import { a } from "../../edge/edge.ts";'), 1);
  assert.equal(wrong("src/protocol/mux/session.ts", 'import type { A } from "../../transport/port.ts";'), 1);
  assert.equal(wrong("src/wire/tls/hello.ts", 'export { A } from "../../runtime/port.ts";'), 1);
  assert.equal(wrong("src/protocol/mux/session.ts", 'await import("../../../tests/run.ts");'), 1);
  assert.equal(
    wrong("src/protocol/session.ts", 'import { a } from "../wire/b.ts";\nimport { c } from "./d.ts";'),
    0,
  );
  assert.equal(
    wrong("src/protocol/mux/session.ts", 'import type { ByteStream } from "../../runtime/port.ts";'),
    0,
  );
});

test("a runtime's own names occur in its adapter alone", async () => {
  const found: string[] = [];
  for (const { path, text } of await sources("src")) {
    const plain = code(text);
    for (const [name, home] of [["Deno", "src/runtime/deno/"], ["Bun", "src/runtime/bun/"]] as const) {
      const uses = new RegExp(`\\b${name}\\s*(\\?\\.|\\.|\\[)`).test(plain);
      if (uses && !path.startsWith(home)) found.push(`${path} uses ${name}`);
    }
    if (/from\s*"(bun|bun:[^"]*)"/.test(text) && !path.startsWith("src/runtime/bun")) {
      found.push(`${path} imports bun`);
    }
  }
  assert.deepEqual(found, []);
});

test("an exported type, function or class has a user in another file", async () => {
  const used = new Set<string>();
  const whole = new Set<string>();
  const files = [...await sources("src", "tests", "bench", "examples", "packaging")];
  for (const path of ["mod.ts", "main.ts"]) {
    files.push({ path, text: await readFile(join(ROOT, path), "utf8") });
  }
  for (const { path, text } of files) {
    const target = (name: string) => join(dirname(path), name).replaceAll("\\", "/");
    for (const [, names = "", from = ""] of text.matchAll(/\{([^}]*)\}\s*from\s*"([^"]+)"/g)) {
      for (const name of names.split(",")) {
        used.add(`${target(from)} ${name.trim().replace(/^type\s+/, "").split(" as ")[0]}`);
      }
    }
    for (const [, from = ""] of text.matchAll(/(?:\*[^;{}"]*\bfrom\s*|\bimport\(\s*)"([^"]+)"/g)) {
      whole.add(target(from));
    }
  }
  const idle = files.filter(({ path }) =>
    path.startsWith("src/") && !path.endsWith(".d.ts") && !whole.has(path)
  )
    .flatMap(({ path, text }) =>
      [...text.matchAll(/^export (?:abstract |async )?(?:interface|type|function\*?|class) (\w+)/gm)]
        .map(([, name]) => `${path} ${name}`)
    )
    .filter((name) => !used.has(name));
  assert.deepEqual(idle, [], "no other file imports these: leave out the word export");
});

test("no public member is only marked as internal: it is private, or belongs to an object that the owner holds", async () => {
  const marked = (await sources("src")).filter(({ text }) =>
    /\/\*\*[\s*]*(Internal[.:]|@internal)/.test(text)
  );
  assert.deepEqual(marked.map(({ path }) => path), []);
});

/** Folders of tests that run whole programs or foreign peers: their names say the command or the peer. */
const PROGRAM_TESTS = /^tests\/(bench|browser|chaos|cli|documents|fuzz|interop|mutation|packaging)\//;

test("a unit test's describe names a symbol of src, or a request of the master's API", async () => {
  const declared = new Set<string>();
  const functions = new Set<string>();
  for (const { text } of await sources("src")) {
    for (const [, kind, name] of text.matchAll(/\b(function\*?|class|interface|type|const) (\w+)/g)) {
      declared.add(name as string);
      if (kind === "function") functions.add(name as string);
    }
  }
  const namesSymbol = (name: string): boolean =>
    /(^| )\/v1\/|^GET \//.test(name) || functions.has(/^\w+/.exec(name)?.[0] ?? "") ||
    (name.match(/\w+/g) ?? []).some((word) => /[A-Z]/.test(word) && declared.has(word));
  const files = (await sources("tests")).filter(({ path }) =>
    path.includes("/", "tests/".length) && !PROGRAM_TESTS.test(path)
  );
  const nameless = files.flatMap(({ path, text }) =>
    [...text.matchAll(/^ *describe\(\s*(["`])(.*?)\1,/gm)].map(([, , name]) => name as string)
      .filter((name) => !namesSymbol(name)).map((name) => `${path}: ${name}`)
  );
  assert.deepEqual(nameless, []);
});

test("file and folder names are snake_case", async () => {
  const odd = [...await sources("src", "tests", "bench")].map(({ path }) => path)
    .filter((path) => !/^([a-z0-9]+(_[a-z0-9]+)*\/)*[a-z0-9]+(_[a-z0-9]+)*(\.d)?\.tsx?$/.test(path));
  assert.deepEqual(odd, []);
});

test("every place names the same version", async () => {
  const read = async (name: string) =>
    JSON.parse(await readFile(join(ROOT, name), "utf8")) as { version: string };
  assert.equal((await read("package.json")).version, VERSION);
  assert.equal((await read("deno.json")).version, VERSION);
});

test("dependencies are pinned to exact versions, and deno.json adds none of its own", async () => {
  const manifest = JSON.parse(await readFile(join(ROOT, "package.json"), "utf8")) as Record<string, unknown>;
  for (const kind of ["dependencies", "devDependencies"]) {
    for (const [name, version] of Object.entries(manifest[kind] as Record<string, string>)) {
      assert.match(version, /^\d+\.\d+\.\d+(-[\w.]+)?$/, `${name} in ${kind}`);
    }
  }
  const deno = JSON.parse(await readFile(join(ROOT, "deno.json"), "utf8")) as Record<string, unknown>;
  assert.equal(deno.imports, undefined);
});

test("the test command is the same in the runner's help, .ci/run and, where it stands, the README", async () => {
  const command = "npx -y -p deno@2.9.6 -p bun@1.4.5 deno task test";
  assert.ok((await readFile(join(ROOT, ".ci", "run"), "utf8")).includes(command));
  assert.ok((await readFile(join(ROOT, "tests", "run.ts"), "utf8")).includes(command));
  const readme = await readFile(join(ROOT, "README.md"), "utf8").catch(() => command);
  assert.ok(readme.includes(command), "README.md");
});
