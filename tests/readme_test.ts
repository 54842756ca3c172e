import assert from "node:assert/strict";
import { access, readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { loadConfig, SETTINGS } from "../src/config/config.ts";
import { PROBLEM_TITLES } from "../src/master/problem.ts";
import { TokenResponseSchema } from "../src/master/schemas.ts";
import { VERSION } from "../src/version.ts";
import { limitsPage, partOf, plainTable, readmeParts } from "./support/readme.ts";

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
const readme = await readFile(join(ROOT, "README.md"), "utf8");

/** Flags of the command line that are no settings. */
const OTHER_FLAGS = new Set(["help", "version", "json"]);

/** The insides of the code blocks in a language. */
function blocks(language: string): string[] {
  return [...readme.matchAll(new RegExp(`^\`\`\`${language}\\n([\\s\\S]*?)^\`\`\`$`, "gm"))].map(([, text]) =>
    text as string
  );
}

/** The anchor that a heading gets. */
function anchor(heading: string): string {
  return heading.toLowerCase().replace(/[^\p{L}\p{N}\- ]/gu, "").replaceAll(" ", "-");
}

for (const [name, part] of await readmeParts()) {
  test(`README.md has ${name} as the source has it (deno task readme writes it)`, () => {
    const found = partOf(readme, name);
    assert.ok(found !== undefined && found.length > 0, "it isn't there");
    assert.equal(plainTable(found), plainTable(part));
  });
}

test("docs/reference/limits.md lists the limits of the source (deno task readme writes it)", async () => {
  const page = await readFile(join(ROOT, "docs", "reference", "limits.md"), "utf8");
  assert.equal(plainTable(page), plainTable(await limitsPage()));
});

test("README.md's links lead somewhere", async () => {
  const headings = new Set([...readme.matchAll(/^#+ (.+)$/gm)].map(([, text]) => anchor(text as string)));
  const targets = [...readme.matchAll(/\]\(([^)\s]+)\)/g)].map(([, target]) => target as string);
  assert.ok(targets.length > 10);
  for (const target of targets) {
    if (target.startsWith("#")) assert.ok(headings.has(target.slice(1)), `${target} is no heading`);
    else if (!target.startsWith("https://")) await access(join(ROOT, target));
  }
});

test("README.md's commands exist, and its flags", async () => {
  const flags = new Set(
    Object.values(SETTINGS).flatMap((setting) => "flag" in setting ? [setting.flag] : []),
  );
  const commands = ["serve", "edge", "master", "agent", "token", "keygen", "pipe", "snocat", "cert", "demo"];
  // These have flags of their own, which aren't settings.
  const own = new Map<string, string>();
  for (const name of ["pipe", "snocat", "cert"]) {
    own.set(name, await readFile(join(ROOT, "src", "cli", `${name}.ts`), "utf8"));
  }
  const lines = [...blocks("sh").join("").replaceAll("\\\n", " ").matchAll(/ mod\.ts(.*)$/gm)]
    .concat([...readme.matchAll(/`[^`\n]*(?: mod\.ts| run server)([^`\n]*)`/g)]).map(([, rest]) =>
      rest as string
    );
  assert.ok(lines.length > 10);
  for (const line of lines) {
    const command = /^ ([a-z]+)/.exec(line)?.[1];
    assert.ok(command === undefined || commands.includes(command), line);
    for (const [, flag] of line.matchAll(/ --([a-z-]+)/g)) {
      const source = own.get(command ?? "");
      const known = source === undefined
        ? flags.has(flag as string)
        : new RegExp(`"--${flag}[ "]`).test(source);
      assert.ok(known || OTHER_FLAGS.has(flag as string), `--${flag} in ${line}`);
    }
  }
  for (const command of commands) assert.ok(readme.includes(`| \`${command}\``), command);
});

test("README.md's configuration file is one", () => {
  const [file] = blocks("json").filter((text) => text.includes("agent_listen"));
  const { config, origins } = loadConfig("serve", {
    flags: { config: "example.json" },
    env: {},
    readFile: () => file as string,
  });
  assert.equal(config.publicAddress?.host, "edge.example.org");
  // Every member counts, and the file itself.
  assert.equal(origins.size, Object.keys(JSON.parse(file as string)).length + 1);
});

test("README.md shows the session master's answers as they are", () => {
  const [answer] = blocks("json").filter((text) => text.includes("aes_key")).map((text) => JSON.parse(text));
  assert.deepEqual(Object.keys(answer), Object.keys(TokenResponseSchema.shape));
  const [problem] = blocks("json").filter((text) => text.includes("about:blank")).map((text) =>
    JSON.parse(text)
  );
  assert.equal(problem.title, PROBLEM_TITLES[422]);
  const statuses = [...readme.matchAll(/^\| (\d{3}(?:, \d{3})*) +\|/gm)].flatMap(([, text]) =>
    (text as string).split(", ")
  );
  assert.deepEqual(statuses, Object.keys(PROBLEM_TITLES));
});

test("README.md gives a reason for every dependency, and for no other", async () => {
  const manifest = JSON.parse(await readFile(join(ROOT, "package.json"), "utf8"));
  const [, section = ""] = readme.split("### Dependencies");
  const rows = section.split("\n").filter((line) => /^\| \[?`/.test(line)).map((line) =>
    line.split(" | ")[0]
  );
  const named = rows.flatMap((cell) => [...(cell as string).matchAll(/`([^`]+)`/g)].map(([, name]) => name));
  const all = Object.keys({ ...manifest.dependencies, ...manifest.devDependencies });
  assert.deepEqual(named.sort(), all.sort());
  assert.ok(section.includes(`\`fernet\` ${manifest.dependencies.fernet}`));
});

test("README.md names the versions that are in use", async () => {
  const run = await readFile(join(ROOT, ".ci", "run"), "utf8");
  for (const runtime of ["deno", "bun"]) {
    const version = new RegExp(`\\b${runtime}@([\\d.]+)`, "g");
    const [used] = [...run.matchAll(version)].map(([, found]) => found);
    assert.ok(used);
    for (const [text, found] of readme.matchAll(version)) assert.equal(found, used, text);
  }
  assert.ok(readme.includes(`Sallyport ${VERSION} on Deno`));
  const changelog = await readFile(join(ROOT, "CHANGELOG.md"), "utf8");
  assert.match(changelog, /^## \[?Unreleased/m);
});
