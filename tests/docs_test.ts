import assert from "node:assert/strict";
import { access, readdir, readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { loadConfig, SETTINGS } from "../src/config/config.ts";
import { PROBLEM_TITLES } from "../src/master/problem.ts";
import { TokenResponseSchema } from "../src/master/schemas.ts";
import { VERSION } from "../src/version.ts";
import { CONFIG_SCHEMA, documentParts, documents, partOf, plainTable } from "./support/documents.ts";

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
const read = (path: string) => readFile(join(ROOT, path), "utf8");

/** The most lines that README.md may have: a screen and a bit. */
const README_LINES_MAX = 200;

/** Flags in the documents' prose that belong to other programs: Deno, our tasks, and tools. */
const FOREIGN_FLAGS: readonly string[] = [
  ...["allow-ffi", "allow-write", "cpu-prof", "all", "only", "quick"],
  ...["jobs", "per-file", "verify-reproducible", "executions", "grow", "minutes", "seconds", "seed"],
];

/** The insides of a document's code blocks in a language. */
function blocks(text: string, language: string): string[] {
  return [...text.matchAll(new RegExp(`^\`\`\`${language}\\b.*\\n([\\s\\S]*?)^\`\`\`$`, "gm"))].map((
    [, inside],
  ) => inside as string);
}

/** The anchor that a heading gets. */
function anchor(heading: string): string {
  return heading.toLowerCase().replace(/[^\p{L}\p{N}\-_ ]/gu, "").replaceAll(" ", "-");
}

for (const [name, { file, text }] of await documentParts()) {
  test(`${file} has ${name} as the source has it (deno task docs writes it)`, async () => {
    const found = partOf(await read(file), name);
    assert.ok(found !== undefined && found.length > 0, "it isn't there");
    assert.equal(plainTable(found), plainTable(text));
  });
}

test("the JSON Schema of the configuration file is as the source has it (deno task docs writes it)", async () => {
  assert.deepEqual(JSON.parse(await read(CONFIG_SCHEMA.file)), CONFIG_SCHEMA.make());
});

test("README.md fits a screen and a bit", async () => {
  const lines = (await read("README.md")).split("\n").length - 1;
  assert.ok(lines <= README_LINES_MAX, `${lines} lines, at most ${README_LINES_MAX}`);
});

test("the documents' links lead somewhere", async () => {
  const wrong: string[] = [];
  for (const file of await documents()) {
    const targets = [...(await read(file)).matchAll(/\]\(([^)\s]+)\)/g)].map(([, target]) =>
      target as string
    );
    for (const target of targets) {
      if (/^(https?|mailto):/.test(target)) continue;
      const [path, heading] = target.split("#") as [string, string | undefined];
      const linked = path === "" ? file : join(dirname(file), path);
      if (!await access(join(ROOT, linked)).then(() => true, () => false)) wrong.push(`${file}: ${target}`);
      else if (heading !== undefined && linked.endsWith(".md")) {
        const headings = [...(await read(linked)).matchAll(/^#+ (.+)$/gm)].map(([, words]) => anchor(words!));
        if (!headings.includes(heading)) wrong.push(`${file}: ${target}`);
      }
    }
  }
  assert.deepEqual(wrong, []);
});

test("every document in docs is linked from README.md or from a document that is", async () => {
  const reached = new Set<string>();
  const visit = async (file: string): Promise<void> => {
    if (reached.has(file)) return;
    reached.add(file);
    for (const [, target] of (await read(file)).matchAll(/\]\(([^)#\s]+\.md)(?:#[^)]*)?\)/g)) {
      if (!/^https?:/.test(target!)) await visit(join(dirname(file), target!));
    }
  };
  await visit("README.md");
  assert.deepEqual((await documents()).filter((file) => !reached.has(file)), []);
});

test("the documents' commands exist, and their flags", async () => {
  // The words of all commands and the flags that are no settings, from the command line's sources.
  let sources = "";
  for (const name of await readdir(join(ROOT, "src", "cli"))) {
    if (name.endsWith(".ts")) sources += await read(`src/cli/${name}`);
  }
  const commands = new Set([...sources.matchAll(/\.command\("([a-z-]+)/g)].map(([, word]) => word));
  const flags = new Set([...sources.matchAll(/"(?:-\w, )?--([a-z-]+)/g)].map(([, flag]) => flag));
  for (const setting of Object.values(SETTINGS)) if ("flag" in setting) flags.add(setting.flag!);
  for (const flag of ["help", "version"]) flags.add(flag);
  let lines = 0;
  const wrong: string[] = [];
  for (const file of await documents()) {
    if (file === "CHANGELOG.md") continue;
    const text = await read(file);
    const found = [
      ...[...blocks(text, "sh"), ...blocks(text, "console")].join("").replaceAll("\\\n", " ").matchAll(
        /^(?:[A-Z_]+=\S+ )*(?:sudo )?(.*)$/gm,
      ),
    ].map(([, line]) => /(?:\bmod\.ts|\brun server|^sallyport)(?: (.*))?$/.exec(line!)).filter((match) =>
      match !== null
    );
    for (const [whole, rest = ""] of found) {
      lines++;
      const [command] = rest.replace(/[#|>].*$/, "").split(" ");
      if (command && !command.startsWith("-") && !commands.has(command)) wrong.push(`${file}: ${whole}`);
      for (const [, flag] of rest.replace(/#.*$/, "").matchAll(/(?:^| )--([a-z-]+)/g)) {
        if (!flags.has(flag)) wrong.push(`${file}: --${flag} in ${whole}`);
      }
    }
  }
  assert.ok(lines > 10);
  assert.deepEqual(wrong, []);
  // Flags in the prose, of the program or of those that the documents tell to call.
  const foreign = new Set(FOREIGN_FLAGS);
  const unknown: string[] = [];
  for (const file of await documents()) {
    if (file === "CHANGELOG.md") continue;
    for (const [, flag] of (await read(file)).matchAll(/`--([a-z][a-z0-9-]*)[^`]*`/g)) {
      if (!flags.has(flag) && !foreign.has(flag!)) unknown.push(`${file}: --${flag}`);
    }
  }
  assert.deepEqual(unknown, []);
});

test("docs/configuration.md's configuration file is one", async () => {
  const [file] = blocks(await read("docs/configuration.md"), "json");
  const { config, origins } = loadConfig("serve", {
    flags: { config: "example.json" },
    env: {},
    readFile: () => file as string,
  });
  assert.equal(config.publicAddress?.host, "edge.example.org");
  // Every member counts, and the file itself.
  assert.equal(origins.size, Object.keys(JSON.parse(file as string)).length + 1);
});

test("docs/session-master.md shows the session master's answers as they are", async () => {
  const text = await read("docs/session-master.md");
  const [answer] = blocks(text, "json").filter((block) => block.includes("aes_key")).map((block) =>
    JSON.parse(block)
  );
  const always = Object.entries(TokenResponseSchema.shape).filter(([, schema]) => !schema.isOptional());
  assert.deepEqual(Object.keys(answer), always.map(([name]) => name));
  const [problem] = blocks(text, "json").filter((block) => block.includes("about:blank")).map((block) =>
    JSON.parse(block)
  );
  assert.equal(problem.title, PROBLEM_TITLES[422]);
  const statuses = [...text.matchAll(/^\| (\d{3}(?:, \d{3})*) +\|/gm)].flatMap(([, codes]) =>
    codes!.split(", ")
  );
  assert.deepEqual(statuses, Object.keys(PROBLEM_TITLES));
});

test("docs/library-changes.md names what mod.ts has, and what it has no more", async () => {
  const [removed = "", added = ""] = (await read("docs/library-changes.md")).split("## Removed")[1]!.split(
    "## Added",
  );
  const mod = await read("mod.ts");
  const exported = (name: string) => new RegExp(`\\b${name}\\b`).test(mod);
  const gone = [...removed.matchAll(/^\| `(\w+)`/gm)].map(([, name]) => name!);
  const replacements = [...removed.matchAll(/^\| `\w+` +\| `(\w+)`/gm)].map(([, name]) => name!);
  const names = [...added.matchAll(/^\| (`.+?) +\| /gm)].flatMap(([, cell]) =>
    [...cell!.matchAll(/`(\w+)`/g)].map(([, name]) => name!)
  );
  assert.ok(gone.length > 0 && names.length > 50);
  assert.deepEqual(gone.filter(exported), []);
  assert.deepEqual([...replacements, ...names].filter((name) => !exported(name)), []);
});

test("docs/dependencies.md gives a reason for every dependency, and for no other", async () => {
  const manifest = JSON.parse(await read("package.json"));
  const text = await read("docs/dependencies.md");
  const rows = text.split("\n").filter((line) => /^\| \[?`/.test(line)).map((line) => line.split(" | ")[0]);
  const named = rows.flatMap((cell) => [...(cell as string).matchAll(/`([^`]+)`/g)].map(([, name]) => name));
  const all = Object.keys({
    ...manifest.dependencies,
    ...manifest.optionalDependencies,
    ...manifest.devDependencies,
  });
  assert.deepEqual(named.sort(), all.sort());
});

test("the documents name the versions that are in use", async () => {
  const run = await read(".ci/run");
  for (const runtime of ["deno", "bun"]) {
    const version = new RegExp(`\\b${runtime}@([\\d.]+)`, "g");
    const [used] = [...run.matchAll(version)].map(([, found]) => found);
    assert.ok(used);
    for (const file of await documents()) {
      for (const [text, found] of (await read(file)).matchAll(version)) {
        assert.equal(found, used, `${file}: ${text}`);
      }
    }
  }
  assert.ok((await read("README.md")).includes(`Sallyport ${VERSION} on Deno`));
  assert.match(await read("CHANGELOG.md"), /^## \[?Unreleased/m);
});
