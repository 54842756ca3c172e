/** The transport "auto" by the whole program: what serve offers is tried, and what got through is remembered. */
import assert from "node:assert/strict";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { programStarter, startServe } from "./program.ts";

const timeout = 60_000;

let folder: string;
const start = programStarter();
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "sallyport-auto-"));
});
after(() => rm(folder, { recursive: true, force: true }));

/** An edge with `flags`, and an agent that has come to it by any way; says which one, and what the agent remembers. */
async function connect(
  name: string,
  flags: readonly string[],
): Promise<{ transport: string; remembered: string }> {
  const dataDir = join(folder, name);
  const { master } = await startServe(start, dataDir, flags);
  const agentDir = join(folder, `${name}-agent`);
  const agent = start([
    ...[
      "agent",
      "--master",
      master,
      "--credential-file",
      join(dataDir, "admin.key"),
      "--hostname",
      "a.example.org",
    ],
    ...["--to", "127.0.0.1:1", "--transport", "auto", "--data-dir", agentDir],
  ]);
  const [, transport = ""] = await agent.seen(/connected to the edge.*transport="?(\w+)/, "stderr");
  agent.signal("SIGTERM");
  assert.equal(await agent.ended, 0);
  const remembered = await readFile(join(agentDir, "known_transports"), "utf8");
  return { transport, remembered };
}

describe("agent --transport auto", () => {
  it("prefers UDP where the edge has it, and keeps what got through", { timeout }, async () => {
    const { transport, remembered } = await connect("udp", [
      ...["--curve-listen", "127.0.0.1:0", "--quic-listen", "127.0.0.1:0", "--quic-on-bun", "accept-risk"],
    ]);
    // On a machine under load TCP may be first all the same.
    assert.ok(["quic", "curve", "snitun"].includes(transport), transport);
    assert.match(remembered, new RegExp(`^localhost:\\d+/\\S+ ${transport} \\d+\n$`));
  });

  it("goes by TCP where that is all there is", { timeout }, async () => {
    const { transport } = await connect("tcp", []);
    assert.ok(["snitun", "sealed"].includes(transport), transport);
  });
});
