/**
 * The QUIC transport in all four pairings of the two runtimes: 400 streams at once beside 150 whose visitors never read,
 * which is more than a client on Bun lets its server open.
 */
import assert from "node:assert/strict";
import { dirname, join } from "node:path";
import process from "node:process";
import { after, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { LineChild } from "../support/child.ts";
import { type OtherRuntime, otherRuntime } from "../support/other_runtime.ts";
import { runAgent, runEdge, type Tell } from "./quic_peer.ts";

const FILE = join(dirname(fileURLToPath(import.meta.url)), "quic_peer.ts");
const timeout = 90_000;
const MiB = 1024 * 1024;
type Line = Parameters<Tell>[0];

const other = await otherRuntime();
const skip = other === undefined && !process.env.CI ? "the other runtime isn't installed" : false;

/** Every byte came back, and the sleepers' bytes stopped: a window and what is on its way. */
function assertChecked(line: Readonly<Record<string, unknown>>): void {
  assert.deepEqual([line.equal, line.streams, line.sleepers], [true, 400, 150]);
  assert.ok(Number(line.stalledBytes) <= 4 * MiB, `${line.stalledBytes} bytes went to who reads nothing`);
}

interface RunningEdge {
  readonly port: number;
  readonly fingerprint: string;
  readonly lines: Line[];
  readonly over: Promise<void>;
}

async function edgeHere(): Promise<RunningEdge> {
  const lines: Line[] = [];
  const listening = Promise.withResolvers<Line>();
  const over = runEdge((line) => {
    lines.push(line);
    if (line.event === "listening") listening.resolve(line);
  });
  const { port, fingerprint } = await listening.promise;
  return { port: Number(port), fingerprint: String(fingerprint), lines, over };
}

it("a QUIC session within one runtime", { timeout }, async () => {
  const edge = await edgeHere();
  await runAgent(edge.port, edge.fingerprint, () => {});
  await edge.over;
  assertChecked(edge.lines.find(({ event }) => event === "checked")!);
});

describe("a QUIC session between Deno and Bun", { skip }, () => {
  let child: LineChild | undefined;
  before(() => assert.ok(other !== undefined, "the other runtime isn't on PATH"));
  after(() => child?.stop());

  function start({ command, args }: OtherRuntime, ...words: string[]): LineChild {
    return child = LineChild.start({ command, args: [...args, FILE, ...words] });
  }

  it("edge here, agent there", { timeout }, async () => {
    const edge = await edgeHere();
    const agent = start(other!, "agent", String(edge.port), edge.fingerprint);
    const stream = await agent.event("stream", undefined, timeout);
    assert.deepEqual([stream.address, stream.serverName], ["2001:db8::7", "a.test"]);
    assert.equal((await agent.event("ended", undefined, timeout)).code, "connection_lost");
    await edge.over;
    assertChecked(edge.lines.find(({ event }) => event === "checked")!);
    await agent.stop();
  });

  it("edge there, agent here", { timeout }, async () => {
    const edge = start(other!, "edge");
    const { port, fingerprint } = await edge.event("listening", undefined, timeout);
    await runAgent(Number(port), String(fingerprint), () => {});
    assertChecked(await edge.event("checked", undefined, timeout));
    await edge.stop();
  });
});
