/** The documents' commands, run: a reader who types them gets what they say (CONTRIBUTING.md, Documents). */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import process from "node:process";
import { describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { documents } from "../support/documents.ts";
import { skipWithout } from "../support/system_programs.ts";
import { commandsOf, Reader } from "./reader.ts";

const ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const timeout = 120_000;
const skip = await skipWithout("curl");

/** What a command's output must have, by a piece of the command. */
const SHOWN: readonly [command: string, output: RegExp][] = [
  ["curl -k", /a page of my own/],
  ["/v1/tokens", /"token":"gAAAAA/],
  ["agent status", /\bsession\b/],
  ["--cipher aes-cbc --json", /"token"/],
];

const shown = new Set<string>();

// On Bun only README.md runs: the other documents name Deno's command.
const files = process.versions.bun === undefined ? await documents() : ["README.md"];
for (const file of files) {
  const commands = commandsOf(await readFile(join(ROOT, file), "utf8"), "sh");
  if (commands.length === 0) continue;
  describe(`${file}'s commands`, { skip }, () => {
    it("run in order, with the permissions that they name", { timeout }, async () => {
      const reader = await Reader.open();
      try {
        for (const { line, text } of commands) {
          await reader.run(text).catch((error) => assert.fail(`${file}:${line}: ${error.message}`));
          for (const [command, output] of SHOWN) {
            if (!text.includes(command)) continue;
            assert.match(reader.output, output, `${file}:${line}`);
            shown.add(command);
          }
        }
      } finally {
        await reader.close();
      }
    });
  });
}

it(
  "each output that is checked belongs to a command of the documents",
  { skip: files.length === 1 || skip },
  () => {
    assert.deepEqual(SHOWN.map(([command]) => command).filter((command) => !shown.has(command)), []);
  },
);
