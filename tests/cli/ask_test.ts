import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { after, before, describe, it } from "node:test";
import { askForMissing } from "../../src/cli/ask.ts";
import { Command } from "../../src/cli/command.ts";
import { Connecting, SILENT_EDGE_MS } from "../../src/cli/connecting.ts";
import { ANSWERS_FILE, CREDENTIAL_FILE } from "../../src/cli/data_dir.ts";
import type { CliIo } from "../../src/cli/io.ts";
import { createMemoryNetwork } from "../../src/runtime/memory/memory.ts";
import { type LogLine, recordingLogger } from "../support/tunnel.ts";

describe("askForMissing: the questions of `agent`", () => {
  let folder: string;
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), "sallyport-test-"));
  });
  after(() => rm(folder, { recursive: true, force: true }));

  function terminal(answers: string[], env: Record<string, string> = {}) {
    const asked: string[] = [];
    const io: CliIo = {
      ...{ program: "sallyport", env, out: () => {}, err: () => {}, exit: () => {} },
      onStop: () => () => {},
      onReload: () => () => {},
      ask: (question) => {
        asked.push(question);
        return Promise.resolve(answers.shift() ?? assert.fail(`no answer to ${question}`));
      },
    };
    return { io, asked };
  }
  const agent = (options: Record<string, string>) => {
    const command = new Command("agent");
    for (const [name, value] of Object.entries(options)) command.setOptionValue(name, value);
    return command;
  };

  it("are asked once, and the answers remembered", async () => {
    const dataDir = join(folder, "first");
    // An empty answer takes the standard one, and a question without one is asked again.
    const { io, asked } = terminal(["https://m.test", "", "the-credential", "a.test", ""]);
    const first = agent({ dataDir });
    await askForMissing(first, io);
    assert.equal(asked.length, 5);
    const path = join(dataDir, ANSWERS_FILE);
    assert.equal(first.opts().config, path);
    assert.deepEqual(JSON.parse(await readFile(path, "utf8")), {
      master: "https://m.test",
      hostname: "a.test",
      to: "127.0.0.1:443",
      credential_file: join(dataDir, CREDENTIAL_FILE),
    });
    assert.equal(await readFile(join(dataDir, CREDENTIAL_FILE), "utf8"), "the-credential\n");
    if (process.platform !== "win32") {
      for (const name of [ANSWERS_FILE, CREDENTIAL_FILE]) {
        assert.equal((await stat(join(dataDir, name))).mode & 0o777, 0o600);
      }
    }
    const again = agent({ dataDir });
    await askForMissing(again, { ...io, ask: undefined } as CliIo);
    assert.equal(again.opts().config, path);
  });

  it("end with the link of `agents add`, which stands for key and names", async () => {
    const dataDir = join(folder, "link");
    const { io, asked } = terminal(["https://m.test/#a-code", "http://127.0.0.1:3000"]);
    const command = agent({ dataDir });
    await askForMissing(command, io);
    assert.equal(asked.length, 2);
    assert.equal(command.opts().join, "https://m.test/#a-code");
    const kept = JSON.parse(await readFile(join(dataDir, ANSWERS_FILE), "utf8"));
    assert.deepEqual(kept, { to: "http://127.0.0.1:3000" });
  });

  it("are only about what is missing", async () => {
    const { io, asked } = terminal(["key"], { SALLYPORT_MASTER: "http://m.test" });
    await askForMissing(agent({ dataDir: join(folder, "part"), service: "a.test=127.0.0.1:1" }), io);
    assert.equal(asked.length, 1);
    assert.match(asked[0] ?? "", /^The credential/);
  });

  it("aren't asked without a terminal, nor with a configuration file", async () => {
    const given: Record<string, string>[] = [{ config: "x.yaml" }, { dataDir: join(folder, "none") }];
    for (const options of given) {
      const { io } = terminal([]);
      const command = agent(options);
      await askForMissing(command, { ...io, ask: undefined } as CliIo);
      assert.deepEqual(command.opts(), options);
    }
  });
});

describe("Connecting: messages about the first connection", () => {
  it("is told step by step, and an edge that says nothing is called one", async () => {
    const network = createMemoryNetwork();
    const lines: LogLine[] = [];
    const log = recordingLogger(lines);
    const connecting = new Connecting(network.clock, log);
    connecting.asksMaster("http://m.test");
    connecting.dials({ host: "e.test", port: 8443 }, "snitun");
    await network.advance(SILENT_EDGE_MS - 1);
    assert.deepEqual(lines.map(({ message }) => message), [
      "asking the session master for a token",
      "connecting to the edge",
    ]);
    await network.advance(1);
    assert.match(lines.at(-1)?.message ?? "", /^no answer from e\.test:8443 yet: is it an edge's port/);
    // The next attempt takes the same steps: they are told once, silence each time.
    connecting.asksMaster("http://m.test");
    connecting.dials({ host: "e.test", port: 8443 }, "snitun");
    await network.advance(SILENT_EDGE_MS);
    assert.equal(lines.length, 4);
    connecting.dials({ host: "other.test", port: 8443 }, "snitun");
    assert.match(lines.at(-1)?.message ?? "", /^connecting to the edge/);
    connecting.done();
    await network.advance(SILENT_EDGE_MS);
    connecting.dials({ host: "third.test", port: 8443 }, "snitun");
    assert.equal(lines.length, 5);
  });
});
