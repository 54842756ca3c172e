/** The curve transport between the two runtimes, each in both roles. */
import assert from "node:assert/strict";
import { dirname, join } from "node:path";
import process from "node:process";
import { after, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { LineChild } from "../support/child.ts";
import { type OtherRuntime, otherRuntime } from "../support/other_runtime.ts";
import { runAgent, runEdge, type Tell } from "./curve_peer.ts";

const FILE = join(dirname(fileURLToPath(import.meta.url)), "curve_peer.ts");
const timeout = 60_000;

const other = await otherRuntime();
const skip = other === undefined && !process.env.CI ? "the other runtime isn't installed" : false;

describe("a curve session between Deno and Bun", { skip }, () => {
  let child: LineChild | undefined;
  before(() => assert.ok(other !== undefined, "the other runtime isn't on PATH"));
  after(() => child?.stop());

  function start({ command, args }: OtherRuntime, ...words: string[]): LineChild {
    return child = LineChild.start({ command, args: [...args, FILE, ...words] });
  }

  it("edge here, agent there", { timeout }, async () => {
    const lines: Parameters<Tell>[0][] = [];
    const listening = Promise.withResolvers<number>();
    const edge = runEdge((line) => {
      lines.push(line);
      if (line.event === "listening") listening.resolve(Number(line.port));
    });
    const agent = start(other!, "agent", String(await listening.promise));
    const stream = await agent.event("stream", undefined, timeout);
    assert.deepEqual([stream.address, stream.port, stream.serverName], ["2001:db8::7", 50_000, "a.test"]);
    assert.equal((await agent.event("ended", undefined, timeout)).code, "shutdown");
    await edge;
    assert.deepEqual(lines.find(({ event }) => event === "checked"), {
      event: "checked",
      equal: true,
      streams: 3,
    });
    assertMoved(lines.find(({ event }) => event === "counted")!);
    await agent.stop();
  });

  it("edge there, agent here", { timeout }, async () => {
    const edge = start(other!, "edge");
    const { port } = await edge.event("listening", undefined, timeout);
    const lines: Parameters<Tell>[0][] = [];
    await runAgent(Number(port), (line) => void lines.push(line));
    assert.equal((await edge.event("checked", undefined, timeout)).equal, true);
    assert.equal((await edge.event("ended", undefined, timeout)).code, "shutdown");
    assertMoved(await edge.event("counted", undefined, timeout));
    assert.equal(lines.filter(({ event }) => event === "stream").length, 3);
    assert.equal(lines.at(-1)?.code, "shutdown");
    await edge.stop();
  });
});

/** The session crossed the network, and went on from another port. */
function assertMoved(counted: Readonly<Record<string, unknown>>): void {
  assert.ok(Number(counted.packetsSent) > 3_000 && Number(counted.packetsReceived) > 3_000);
  assert.ok(Number(counted.pathMoves) >= 1, "the agent's path has moved");
}
