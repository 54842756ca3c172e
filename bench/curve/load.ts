/**
 * Figures of the curve transport's server on one real socket: connections a second, 300 connections with a stream
 * each, and what 100,000 HELLOs cost. `bun bench/curve/load.ts`, `deno run -A bench/curve/load.ts`.
 *
 * @module
 */
import { createSocket } from "node:dgram";
import process from "node:process";
import { keyPair, loadCurveCrypto } from "../../src/curve/crypto.ts";
import type { CurveConnection } from "../../src/curve/connection.ts";
import { type CurveLink, dialCurve } from "../../src/curve/dialer.ts";
import { listenCurve } from "../../src/curve/listener.ts";
import { HELLO_BYTES, writeHello } from "../../src/curve/packet.ts";
import { SallyportError } from "../../src/errors.ts";
import { currentRuntime } from "../../src/runtime/mod.ts";

const CONNECTIONS = 300;
const HELLOS = 100_000;
const BYTES_EACH = 500_000;

const runtime = await currentRuntime();
const crypto = await loadCurveCrypto();
const connections: CurveConnection[] = [];
const listener = await listenCurve({
  runtime,
  host: "127.0.0.1",
  port: 0,
  crypto,
  keys: keyPair(crypto, new Uint8Array(32).fill(7)),
  accept: (connection) => ({
    introduced: () => {
      connections.push(connection);
      connection.admit(new Uint8Array(0));
    },
    stream: () => {},
    streamClosed: () => {},
    closed: () => {},
  }),
});
const rssMb = (): number => process.memoryUsage().rss / 1e6;
const cpu = (): number => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
};

let arrived = 0;
let all = () => {};
const dial = (): Promise<CurveLink> =>
  dialCurve({
    runtime,
    server: listener.address,
    crypto,
    serverKey: listener.publicKey,
    credential: new Uint8Array(500),
    admitted: () => ({
      stream: (stream) =>
        stream.attach({
          data: () => {},
          end: () => {
            stream.closeWrite();
            if (++arrived === CONNECTIONS) all();
          },
          drain: () => {},
          close: () => {},
        }),
      streamClosed: () => {},
      closed: () => {},
    }),
  });

let startMs = performance.now();
let startCpu = cpu();
const links: CurveLink[] = [];
while (links.length < CONNECTIONS) {
  links.push(...await Promise.all(Array.from({ length: 30 }, dial)));
}
const dialled = (performance.now() - startMs) / 1000;
console.log(JSON.stringify({
  handshakes_per_s: Math.round(CONNECTIONS / dialled),
  cpu_ms_each_both_sides: (cpu() - startCpu) / CONNECTIONS * 1000,
}));

const done = new Promise<void>((resolve) => all = resolve);
startMs = performance.now();
startCpu = cpu();
for (const connection of connections) {
  const stream = connection.open();
  stream.write(new Uint8Array(BYTES_EACH));
  stream.closeWrite();
}
await done;
const seconds = (performance.now() - startMs) / 1000;
console.log(JSON.stringify({
  connections: listener.size,
  total_mb_s: CONNECTIONS * BYTES_EACH / 1e6 / seconds,
  cpu_s_per_gb_both_sides: (cpu() - startCpu) / (CONNECTIONS * BYTES_EACH / 1e9),
  lost: listener.totals().packetsLost,
}));
for (const { connection } of links) connection.close(new SallyportError("shutdown", "done"));

const flood = createSocket("udp4");
const hello = new Uint8Array(HELLO_BYTES);
const key = new Uint8Array(32);
const rssBefore = rssMb();
const { hellos: before } = listener.stats;
startMs = performance.now();
startCpu = cpu();
for (let sent = 0; sent < HELLOS;) {
  for (let i = 0; i < 64; i++, sent++) {
    globalThis.crypto.getRandomValues(key);
    writeHello(hello, key);
    flood.send(hello.slice(), listener.address.port, "127.0.0.1");
  }
  // As fast as they are taken, so that the socket's buffer drops none.
  for (let turn = 0; turn < 200 && listener.stats.hellos - before < sent; turn++) {
    await new Promise((resolve) => setImmediate(resolve));
  }
}
const { hellos, cookiesIssued } = listener.stats;
console.log(JSON.stringify({
  hellos: hellos - before,
  cookiesIssued,
  seconds: (performance.now() - startMs) / 1000,
  cpu_us_each_with_sender: (cpu() - startCpu) / HELLOS * 1e6,
  rss_mb_before: rssBefore,
  rss_mb_after: rssMb(),
  connections: listener.size,
  pending: listener.pending,
}));
process.exit(0);
