/**
 * Where a small message waits: alone and beside bulk transfers, hop by hop through edge and agent, there and back. And
 * where a new visitor does, from its `connect` to the endpoint's first byte.
 *
 *     deno task bench:queues     bun run bench:queues
 *
 * It runs on the runtime that runs it. A time from "out" to the next "in" includes the connection's own queue, both
 * kernels' and the wait for the receiver's turn; one from "in" to "out" is the queue of the session or the splice.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { connect, createServer, type Server, type Socket } from "node:net";
import process from "node:process";
import { clientHello } from "../../tests/support/client_hello.ts";
import type { LineChild } from "../../tests/support/child.ts";
import { portOf } from "../../tests/support/plain_peer.ts";
import { type BackgroundLoad, buildLoad, startEndpoint, startLoad } from "../load/load.ts";
import { freePorts, median, pause, stopChild, stopChildren } from "../machine.ts";
import { type RunningPeer, SERVER_NAME } from "../peers/peer.ts";
import { startScript } from "../peers/sallyport.ts";
import { markedMessage, markOf, MESSAGE_BYTES, nowUs, type Passed } from "./trace.ts";

const MESSAGES = 300;
const INTERVAL_MS = 2;
const BULK_LIMIT_MS = 60_000;
const SITUATIONS = ["alone", "beside an upload", "beside a download"] as const;

/** New visitors one after another; the first ones warm the programs up. */
const VISITORS = 4_000;
const WARM_VISITORS = 3_000;
/** Numbers of visitors are above those of messages. */
const FIRST_VISITOR = SITUATIONS.length * MESSAGES;

/** From the endpoint on, for messages and new visitors alike. */
const WAY_BACK = [
  "agent's endpoint out",
  "agent's endpoint in",
  "agent's session out",
  "edge's session in",
  "edge's visitor out",
  "received",
];

/** A new visitor's points, from its `connect` to the endpoint's first byte. */
const VISITOR_WAY = [
  "connects",
  "edge's visitor opened",
  "edge's visitor in",
  "edge's session out",
  "agent's session in",
  "agent's endpoint dialled",
  "agent's endpoint opened",
  ...WAY_BACK,
];

/** The points in their order: there, then back. */
const WAY = [
  "sent",
  "edge's visitor in",
  "edge's session out",
  "agent's session in",
  ...WAY_BACK,
];

function startEcho(): Promise<Server> {
  const server = createServer((socket) => {
    socket.setNoDelay(true);
    socket.on("error", () => {});
    socket.pipe(socket);
  });
  return new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(server)));
}

/** Opens a visitor; its ClientHello comes back first. */
async function openVisitor(port: number): Promise<Socket> {
  const hello = clientHello(`echo.${SERVER_NAME}`);
  const socket = connect({ host: "127.0.0.1", port }).setNoDelay(true);
  socket.write(hello);
  let left = hello.length;
  await new Promise<void>((resolve, reject) => {
    socket.on("error", reject);
    socket.on("data", function first(chunk: Uint8Array) {
      left -= chunk.length;
      if (left > 0) return;
      socket.off("data", first);
      resolve();
    });
  });
  return socket;
}

/** Sends messages one after another; answers when each was sent and came back. */
async function pingPong(socket: Socket, from: number): Promise<Passed[]> {
  const passed: Passed[] = [];
  for (let number = from; number < from + MESSAGES; number++) {
    const answered = new Promise<void>((resolve) => {
      let got = 0;
      socket.on("data", function take(chunk: Uint8Array<ArrayBuffer>) {
        if (got === 0 && markOf(chunk) !== number) return;
        got += chunk.length;
        if (got < MESSAGE_BYTES) return;
        socket.off("data", take);
        passed.push({ number, point: "received", atUs: nowUs(), queuedBytes: 0 });
        resolve();
      });
    });
    passed.push({ number, point: "sent", atUs: nowUs(), queuedBytes: 0 });
    socket.write(markedMessage(number));
    await answered;
    await pause(INTERVAL_MS);
  }
  return passed;
}

/** A visitor that sends its ClientHello and a message at once, and leaves when the message has come back. */
async function visit(port: number, number: number): Promise<Passed[]> {
  const flight = Buffer.concat([clientHello(`echo.${SERVER_NAME}`), markedMessage(number)]);
  const startUs = nowUs();
  const socket = connect({ host: "127.0.0.1", port }).setNoDelay(true);
  let got = 0;
  await new Promise<void>((resolve, reject) => {
    socket.on("error", reject).on("connect", () => socket.write(flight));
    socket.on("data", (chunk: Uint8Array) => {
      got += chunk.length;
      if (got >= flight.length) resolve();
    });
  });
  const endUs = nowUs();
  const closed = new Promise((resolve) => socket.on("close", resolve));
  // A reset, which ends the stream at once: after a FIN it waits for the endpoint.
  socket.resetAndDestroy();
  await closed;
  return [
    { number, point: "connects", atUs: startUs, queuedBytes: 0 },
    { number, point: "received", atUs: endUs, queuedBytes: 0 },
  ];
}

function percentile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? NaN;
}

/** Prints each hop's times, and the bytes that a message found in the queue of the connection that it was written to. */
function report(
  situation: string,
  way: readonly string[],
  from: number,
  count: number,
  passed: readonly Passed[],
): void {
  const byMessage = new Map<number, Map<string, Passed>>();
  for (const one of passed) {
    if (one.number < from || one.number >= from + count) continue;
    const points = byMessage.get(one.number) ?? new Map<string, Passed>();
    byMessage.set(one.number, points.set(one.point, points.get(one.point) ?? one));
  }
  console.log(`\n${situation}\n\n| from | to | p50, µs | p99, µs | found queued, bytes |`);
  console.log("| --- | --- | ---: | ---: | ---: |");
  const row = (start: string, end: string) => {
    const pairs = [...byMessage.values()].flatMap((points) => {
      const [one, other] = [points.get(start), points.get(end)];
      return one === undefined || other === undefined ? [] : [[one, other] as const];
    });
    if (pairs.length === 0) throw new Error(`no message has passed from "${start}" to "${end}"`);
    const times = pairs.map(([one, other]) => other.atUs - one.atUs);
    const queued = median(pairs.map(([one]) => one.queuedBytes));
    console.log(
      `| ${start} | ${end} | ${median(times).toFixed(0)} | ${
        percentile(times, 0.99).toFixed(0)
      } | ${queued} |`,
    );
  };
  for (const [index, point] of way.entries()) if (index > 0) row(way[index - 1]!, point);
  row(way[0]!, "received");
}

async function traceOf(child: LineChild): Promise<readonly Passed[]> {
  child.endInput();
  const { passed } = await child.event("trace");
  await stopChild(child);
  return passed as Passed[];
}

async function main(): Promise<void> {
  await buildLoad();
  const [endpoint, echo] = [await startEndpoint(), await startEcho()];
  const [visitors = 0, agents = 0] = await freePorts(2);
  const edge = startScript("queues/ends.ts", ["edge", String(visitors), String(agents)], {});
  await edge.event("ready");
  const ports = [agents, endpoint.port, portOf(echo)].map(String);
  const agent = startScript("queues/ends.ts", ["agent", ...ports], {});
  await agent.event("ready");
  const peer = { visitors: `127.0.0.1:${visitors}` } as RunningPeer;
  const own: Passed[] = [];
  for (const index of SITUATIONS.keys()) {
    let bulk: BackgroundLoad | undefined;
    if (index > 0) {
      bulk = await startLoad("bulk", { peer, endpoint, upload: index === 1, windowMs: BULK_LIMIT_MS });
    }
    const socket = await openVisitor(visitors);
    own.push(...await pingPong(socket, index * MESSAGES));
    socket.destroy();
    await bulk?.stop();
  }
  for (let index = 0; index < VISITORS; index++) own.push(...await visit(visitors, FIRST_VISITOR + index));
  const passed = [...own, ...await traceOf(agent), ...await traceOf(edge)];
  for (const [index, situation] of SITUATIONS.entries()) {
    report(situation, WAY, index * MESSAGES, MESSAGES, passed);
  }
  const measured = VISITORS - WARM_VISITORS;
  report("new visitors, one at a time", VISITOR_WAY, FIRST_VISITOR + WARM_VISITORS, measured, passed);
  echo.close();
  await endpoint.stop();
}

try {
  await main();
} finally {
  await stopChildren();
}
process.exit(0);
