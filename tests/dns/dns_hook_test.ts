import assert from "node:assert/strict";
import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { dnsHookProgram } from "../../src/dns/dns_hook.ts";

const RECORD = { domain: "a.example", name: "_acme-challenge.a.example", value: "v" };
const folder = await mkdtemp(join(tmpdir(), "dns-hook-"));
after(() => rm(folder, { recursive: true }));

async function program(text: string): Promise<string> {
  const path = join(folder, "hook");
  await writeFile(path, `#!/bin/sh\n${text}\n`);
  await chmod(path, 0o700);
  return path;
}

describe("dnsHookProgram", () => {
  it("is run with the record, and what it says is told when it fails", async () => {
    await dnsHookProgram(await program(`test "$1 $2 $3" = "present ${RECORD.name} v"`)).present(RECORD);
    const failing = dnsHookProgram(await program("echo forbidden >&2; exit 3"));
    await assert.rejects(failing.cleanUp(RECORD), {
      code: "certificate_unavailable",
      message:
        /^Cannot set DNS record _acme-challenge\.a\.example by .* cleanup: it ended with 3: forbidden$/,
    });
  });

  it("is given up in time, also where a program that it has started holds its output open", async () => {
    // The reader ends by itself soon after the test.
    const hanging = dnsHookProgram(await program("sleep 5 & wait"), 50);
    await assert.rejects(hanging.present(RECORD), { message: /it didn't end within 0\.05 s$/ });
  });

  it("is named where it is missing", async () => {
    await assert.rejects(dnsHookProgram(join(folder, "none")).present(RECORD), {
      message: /none present: there is no such program$/,
    });
  });
});
