/** `serve`, `edge` and `master` take up changed keys at SIGHUP and when the file changes, and keep the old ones if they can't. */
import assert from "node:assert/strict";
import { appendFile, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { generateFernetKey } from "../../src/crypto/fernet.ts";
import { programStarter } from "./program.ts";

const COMMANDS: Readonly<Record<string, readonly string[]>> = {
  serve: ["--listen", "127.0.0.1:0", "--master-listen", "127.0.0.1:0"],
  edge: ["--listen", "127.0.0.1:0"],
  master: ["--master-listen", "127.0.0.1:0"],
};

let folder: string;
const start = programStarter();
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "sallyport-reload-"));
});
after(() => rm(folder, { recursive: true, force: true }));

describe("changed keys", () => {
  for (const [command, args] of Object.entries(COMMANDS)) {
    it(`\`${command}\` takes them up at SIGHUP and when the file changes`, { timeout: 60_000 }, async () => {
      const dataDir = join(folder, command);
      const program = start([command, ...args, "--data-dir", dataDir]);
      await program.seen(/Fernet keys/);
      const file = join(dataDir, "fernet.keys");
      await appendFile(file, `${generateFernetKey()}\n`);
      program.signal("SIGHUP");
      await program.seen(/keys reloaded[^\n]*count=2/, "stderr");
      // Without a signal: the file is looked at from time to time.
      await appendFile(file, `${generateFernetKey()}\n`);
      await program.seen(/keys reloaded[^\n]*count=3/, "stderr");
      const good = await readFile(file, "utf8");
      await writeFile(file, "no key\n");
      program.signal("SIGHUP");
      await program.seen(/Cannot reload keys and settings, the old ones stay/, "stderr");
      await writeFile(file, good);
      program.signal("SIGHUP");
      program.signal("SIGTERM");
      assert.equal(await program.ended, 0);
    });
  }
});

describe("changed settings", () => {
  it(
    "`master` takes up its policy from the file, and names what needs a restart",
    { timeout: 60_000 },
    async () => {
      const dataDir = join(folder, "policy");
      const config = join(folder, "policy.yaml");
      const write = (tokens: number, more = "") => writeFile(config, `tokens_per_minute: ${tokens}\n${more}`);
      await write(2);
      const program = start([
        ...["master", "--config", config, "--data-dir", dataDir, "--master-listen", "127.0.0.1:0"],
      ]);
      const [, url = ""] = await program.seen(/session master +(http:\/\/127\.0\.0\.1:\d+)/);
      const key = (await readFile(join(dataDir, "admin.key"), "utf8")).trim();
      const token = async () => {
        const answer = await fetch(`${url}/v1/tokens`, {
          method: "POST",
          headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
          body: JSON.stringify({ hostname: "a.example.org" }),
        });
        await answer.body?.cancel();
        return answer.status;
      };
      assert.deepEqual([await token(), await token(), await token()], [201, 201, 429]);
      // Without a signal: the file has changed.
      await write(100, "oidc_audience: other\n");
      await program.seen(/settings reloaded[^\n]*SALLYPORT_TOKENS_PER_MINUTE/, "stderr");
      await program.seen(/take effect after a restart[^\n]*SALLYPORT_OIDC_AUDIENCE/, "stderr");
      assert.equal(await token(), 201);
      await writeFile(config, "tokens_per_minute: many\n");
      await program.seen(/the old ones stay: [^\n]*tokens_per_minute/, "stderr");
      assert.equal(await token(), 201);
      program.signal("SIGTERM");
      assert.equal(await program.ended, 0);
    },
  );
});
