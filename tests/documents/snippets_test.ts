/** The documents' TypeScript: every `ts` block type-checks, with `sallyport` standing for mod.ts. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import process from "node:process";
import { test } from "node:test";
import { fileURLToPath, pathToFileURL } from "node:url";
import { documents } from "../support/documents.ts";

const ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))));

// Deno has a type checker; on Bun the same check would be tsc's, of the same text.
const skip = process.versions.deno === undefined && "checked by Deno";

test("every ts block of the documents type-checks", { skip, timeout: 120_000 }, async () => {
  const folder = await mkdtemp(join(tmpdir(), "sallyport-snippets-"));
  try {
    const files: string[] = [];
    for (const document of await documents()) {
      const text = await readFile(join(ROOT, document), "utf8");
      for (const [, block] of text.matchAll(/^```ts\n([^]*?)^```$/gm)) {
        const file = join(folder, `${document.replaceAll(/\W/g, "_")}_${files.length}.ts`);
        const library = pathToFileURL(join(ROOT, "mod.ts")).href;
        const process = /\bprocess\./.test(block!) ? 'import process from "node:process";\n' : "";
        await writeFile(
          file,
          process + block!.replace(/from "(?:sallyport|\.\.\/mod\.ts)"/g, `from "${library}"`),
        );
        files.push(file);
      }
    }
    assert.ok(files.length > 2);
    for (const name of ["package.json", "deno.lock"]) await symlink(join(ROOT, name), join(folder, name));
    const { code, out } = await new Promise<{ code: number; out: string }>((resolve) =>
      execFile(
        process.execPath,
        ["check", "--config", join(ROOT, "deno.json"), ...files],
        { cwd: ROOT, env: { ...process.env, NO_COLOR: "1" } },
        (error, out, err) => resolve({ code: error === null ? 0 : 1, out: out + err }),
      )
    );
    assert.equal(code, 0, out);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});
