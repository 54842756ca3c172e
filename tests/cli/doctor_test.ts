/** `doctor` on the edge's side: what the session master knows of a name that isn't reached. */
import assert from "node:assert/strict";
import { createServer } from "node:net";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { portOf } from "../support/plain_peer.ts";
import { programStarter, startServe } from "./program.ts";
import { runHere } from "./run_here.ts";

const timeout = 90_000;
let folder: string;
const start = programStarter();
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "sallyport-doctor-"));
});
after(() => rm(folder, { recursive: true, force: true }));

describe("doctor", () => {
  it("says on the edge's side why a name isn't served, and since when", { timeout }, async () => {
    const dataDir = join(folder, "serve");
    const { master, port } = await startServe(start, dataDir);
    const manage = async (...args: string[]) => {
      const { code, out, err } = await runHere([...args, "--master", master, "--data-dir", dataDir]);
      assert.equal(code, 0, err);
      return out;
    };
    const doctor = async (name: string) => {
      const { code, out } = await runHere([
        ...["doctor", name, "--at", `127.0.0.1:${port}`, "--master", master, "--data-dir", dataDir],
      ]);
      assert.match(out, /^ok {4}side: the edge's: its session master answers$/m);
      assert.equal(code, 1, out);
      return /^FAIL {2}.*$/m.exec(out)?.[0] ?? out;
    };
    const name = "home.example.org";
    /** Asks now and then: the master limits requests, and edges report soon after a session has ended. */
    const says = async (expected: RegExp) => {
      let said = "";
      for (let asked = 0; asked < 40; asked++) {
        said = await doctor(name);
        if (expected.test(said)) return;
        await delay(500);
      }
      assert.match(said, expected);
    };
    assert.equal(await doctor(name), `FAIL  token: The session master has no agent with the name ${name}`);
    const added = JSON.parse(await manage("agents", "add", "home", "--hostname", name, "--json"));
    assert.equal(await doctor(name), "FAIL  agent: Agent home has never enrolled");

    const agentDir = join(folder, "agent");
    const agent = ["agent", "--data-dir", agentDir, "--to", "127.0.0.1:1"];
    const first = start([...agent, "--join", added.join]);
    await first.seen(/connected to the edge/, "stderr");
    await says(/^FAIL {2}endpoint: The agent can't reach the service's target/);
    first.signal("SIGTERM");
    await first.ended;
    await says(/^FAIL {2}agent: Agent home has been offline for .*, since 2\d{3}-/);
    await manage("agents", "suspend", "home");
    assert.equal(await doctor(name), "FAIL  token: Agent home is suspended");
    await manage("agents", "resume", "home");

    // It asks for a name that it doesn't have.
    const second = start([...agent, "--hostname", "other.example.org"]);
    await second.seen(/is not a name that this key may serve/, "stderr");
    await says(
      /^FAIL {2}token: Agent home got no token .* ago: .*hostname "other\.example\.org" is not a name/,
    );
  });

  it("says where it stands when it is on neither side", { timeout }, async () => {
    const server = createServer((socket) => socket.end("SSH-2.0-x\r\n"));
    server.listen(0, "127.0.0.1");
    await new Promise((resolve) => server.once("listening", resolve));
    const { code, out } = await runHere([
      ...[
        "doctor",
        "a.example.org",
        "--at",
        `127.0.0.1:${portOf(server)}`,
        "--data-dir",
        join(folder, "none"),
      ],
    ]);
    server.close();
    assert.equal(code, 1);
    assert.match(out, /^ok {4}side: neither the agent's nor the edge's/m);
    assert.match(out, /^FAIL {2}edge: No edge listens at .* it answers "SSH-2\.0-x"$/m);
  });
});
