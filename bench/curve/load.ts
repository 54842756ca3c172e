/**
 * Figures of the curve transport's server on one real socket; its clients are another process.
 *
 *     bun bench/curve/load.ts            deno run -A bench/curve/load.ts
 *
 * prints a line of JSON each for 100,000 HELLOs from random keys (memory, processor time, sizes of questions and
 * answers), for handshakes a second, and for 300 connections with a stream each; `hellos` after it stops after the
 * first. CLIENT, a command like `deno run -A`, runs the clients on another runtime.
 *
 * @module
 */
import { spawn } from "node:child_process";
import process from "node:process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { keyPair, loadSodium } from "../../src/crypto/sodium.ts";
import type { CurveConnection } from "../../src/protocol/curve/connection.ts";
import { connectCurve } from "../../src/transport/curve/socket_dialer.ts";
import { bindCurve, type CurveListener } from "../../src/transport/curve/socket_listener.ts";
import { COOKIE_PACKET_BYTES, HELLO_BYTES, writeHello } from "../../src/wire/curve/curve_packet.ts";
import { currentRuntime } from "../../src/runtime/mod.ts";
import type { Address, Bytes } from "../../src/runtime/port.ts";

const CONNECTIONS = 300;
const DIALS_AT_ONCE = 30;
const HELLOS = 100_000;
/** HELLOs that wait for an answer at most: the socket's buffer should drop none. */
const HELLOS_AT_ONCE = 32;
const BYTES_EACH = 500_000;
const HOST = "127.0.0.1";

const runtime = await currentRuntime();
const crypto = await loadSodium();
const keys = keyPair(crypto, new Uint8Array(32).fill(7));
const [role, portText] = process.argv.slice(2);
const server: Address = { host: HOST, port: Number(portText) };

const cpuSeconds = (): number => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
};
const print = (line: Record<string, unknown>): void => console.log(JSON.stringify(line));

if (role === "flood") await flood();
else if (role === "clients") await dialAll();
else await serve(role === "hellos");
process.exit(0);

/** Sends HELLOs and looks at the answers. */
async function flood(): Promise<void> {
  const data = Array.from({ length: HELLOS_AT_ONCE }, () => new Uint8Array(HELLO_BYTES));
  const to = data.map(() => server);
  const key = new Uint8Array(32);
  let answered = 0;
  let answerBytes = 0;
  let others = 0;
  let wake = () => {};
  const socket = await runtime.bindDatagram({
    host: HOST,
    port: 0,
    receive: (packet) => {
      answered++;
      answerBytes += packet.length;
      if (packet.length !== COOKIE_PACKET_BYTES) others++;
      wake();
    },
  });
  for (let sent = 0; sent < HELLOS; sent += HELLOS_AT_ONCE) {
    for (const hello of data) {
      globalThis.crypto.getRandomValues(key);
      writeHello(hello, key);
    }
    socket.sendMany(data, to, HELLOS_AT_ONCE);
    const enough = answered + HELLOS_AT_ONCE;
    await new Promise<void>((resolve) => {
      // A lost one must not end the run.
      const late = setTimeout(resolve, 200);
      wake = () => {
        if (answered < enough) return;
        clearTimeout(late);
        resolve();
      };
    });
  }
  print({
    event: "flooded",
    answered,
    not_cookies: others,
    question_bytes_each: HELLO_BYTES,
    answer_bytes_each: answerBytes / answered,
  });
}

/** Opens all connections, then reads what comes. */
async function dialAll(): Promise<void> {
  const dial = () =>
    connectCurve({
      runtime,
      server,
      crypto,
      serverKey: keys.publicKey,
      credential: new Uint8Array(500),
      admitted: () => ({
        stream: (stream) =>
          stream.attach({ data: () => {}, end: () => stream.closeWrite(), drain: () => {}, close: () => {} }),
        streamClosed: () => {},
        closed: () => {},
      }),
    });
  const startMs = performance.now();
  for (let count = 0; count < CONNECTIONS; count += DIALS_AT_ONCE) {
    await Promise.all(Array.from({ length: DIALS_AT_ONCE }, dial));
  }
  print({ event: "dialled", seconds: (performance.now() - startMs) / 1000 });
  await new Promise(() => {});
}

/** Starts this file again as the other side. */
function start(part: string, port: number) {
  const file = fileURLToPath(import.meta.url);
  const own = process.versions.deno === undefined ? [process.execPath] : [process.execPath, "run", "-A"];
  const [command = "", ...args] = process.env.CLIENT?.split(" ") ?? own;
  const child = spawn(command, [...args, file, part, String(port)], { stdio: ["ignore", "pipe", "inherit"] });
  const line = new Promise<Record<string, unknown>>((resolve, reject) => {
    createInterface({ input: child.stdout }).once("line", (text) => resolve(JSON.parse(text)));
    child.once("error", reject);
  });
  return { line, stop: () => void child.kill("SIGKILL") };
}

async function listen(connections: CurveConnection[], streamOver: () => void): Promise<CurveListener> {
  return await bindCurve({
    runtime,
    host: HOST,
    port: 0,
    crypto,
    keys,
    accept: (connection) => ({
      introduced: () => {
        connections.push(connection);
        connection.admit(new Uint8Array(0));
      },
      stream: () => {},
      streamClosed: streamOver,
      closed: () => {},
    }),
  });
}

async function serve(hellosAlone: boolean): Promise<void> {
  const connections: CurveConnection[] = [];
  let streamsOver = 0;
  let all = () => {};
  const listener = await listen(connections, () => void (++streamsOver === CONNECTIONS && all()));
  const { port } = listener.address;

  const rssMb: number[] = [];
  const sampler = setInterval(() => rssMb.push(process.memoryUsage().rss / 1e6), 20);
  let cpu = cpuSeconds();
  const flooder = start("flood", port);
  const { event: _flooded, ...seen } = await flooder.line;
  cpu = cpuSeconds() - cpu;
  clearInterval(sampler);
  const { hellos, cookiesIssued } = listener.stats;
  // What the first tenth brings is the programs' own start.
  const samples = rssMb.slice(Math.floor(rssMb.length / 10));
  print({
    hellos,
    cookiesIssued,
    server_cpu_us_each: cpu / hellos * 1e6,
    ...seen,
    rss_mb: samples.filter((_, at) => at % Math.ceil(samples.length / 10) === 0).map(Math.round),
    connections: listener.size,
    pending: listener.pending,
  });
  if (hellosAlone) return;

  cpu = cpuSeconds();
  const clients = start("clients", port);
  const { seconds } = await clients.line;
  print({
    handshakes_per_s: Math.round(CONNECTIONS / Number(seconds)),
    server_cpu_ms_each: (cpuSeconds() - cpu) / CONNECTIONS * 1000,
    hellos_repeated: listener.stats.hellos - hellos - CONNECTIONS,
  });

  const chunk: Bytes = new Uint8Array(BYTES_EACH);
  cpu = cpuSeconds();
  const startMs = performance.now();
  const done = new Promise<void>((resolve) => all = resolve);
  for (const connection of connections) {
    const stream = connection.open();
    stream.attach({ data: () => {}, end: () => {}, drain: () => {}, close: () => {} });
    stream.write(chunk);
    stream.closeWrite();
  }
  await done;
  const total = listener.totals();
  print({
    connections: listener.size,
    total_mb_s: CONNECTIONS * BYTES_EACH / 1e6 / ((performance.now() - startMs) / 1000),
    server_cpu_s_per_gb: (cpuSeconds() - cpu) / (CONNECTIONS * BYTES_EACH / 1e9),
    packets: total.packetsSent,
    // Given up; of those, the ones that had arrived all the same.
    lost: total.packetsLost,
    late: total.lateAcks,
    refused_by_socket: listener.refusedByNetwork,
  });
  clients.stop();
}
