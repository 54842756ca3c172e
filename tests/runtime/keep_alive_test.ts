/** When the system probes a silent connection, as the system itself tells it. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import process from "node:process";
import { describe, it } from "node:test";
import { currentRuntime } from "../../src/runtime/mod.ts";
import { type Conn, KEEP_ALIVE_MS } from "../../src/runtime/port.ts";
import { Watched } from "../conformance/runtime_helpers.ts";
import { until } from "../support/until.ts";

const skip = process.platform !== "linux" && "only Linux tells it";
/** `/proc/net/tcp`: the kind of a connection's timer that is keep-alive's, and the unit of its time. */
const KEEP_ALIVE = 2;
const TICK_MS = 10;

/** How long until the first probe; undefined if there is none to come, or while a byte waits for its acknowledgement. */
function probedInMs({ local, remote }: Conn): number | undefined {
  const port = (number: number) => `:${number.toString(16).toUpperCase().padStart(4, "0")}`;
  for (const line of readFileSync("/proc/net/tcp", "utf8").split("\n")) {
    const [, from, to, , , timer = ""] = line.trim().split(/\s+/);
    if (!from?.endsWith(port(local.port)) || !to?.endsWith(port(remote.port))) continue;
    const [kind = "", ticks = ""] = timer.split(":");
    return parseInt(kind, 16) === KEEP_ALIVE ? parseInt(ticks, 16) * TICK_MS : undefined;
  }
  // A long list that changes while it is read may leave lines out.
  return undefined;
}

describe("Conn.keepAlive", { skip }, () => {
  // Deno has another kind of socket for peers that speak.
  for (const peerSpeaks of [false, true]) {
    it(`has both ends' systems probe after a minute (peerSpeaks: ${peerSpeaks})`, async () => {
      const runtime = await currentRuntime();
      let server!: Watched;
      let accepted = (_conn: Conn) => {};
      const other = new Promise<Conn>((resolve) => accepted = resolve);
      const listener = await runtime.listen({
        host: "127.0.0.1",
        port: 0,
        peerSpeaks,
        accept: (conn) => {
          server = new Watched(conn);
          server.onData = () => accepted(conn);
        },
      });
      const { port } = listener.address;
      const dialled = await runtime.dial({ host: "127.0.0.1", port, peerSpeaks, timeoutMs: 10_000 });
      const client = new Watched(dialled);
      client.write(new Uint8Array(1));
      const ends = [dialled, await other];
      for (const conn of ends) {
        conn.keepAlive!();
        let inMs: number | undefined;
        await until(() => (inMs = probedInMs(conn)) !== undefined);
        assert.ok(inMs! <= KEEP_ALIVE_MS, `${inMs} ms`);
      }
      // It carries bytes as before.
      client.write(new Uint8Array(1));
      await until(() => server.byteLength === 2);
      server.write(new Uint8Array(1));
      await until(() => client.byteLength === 1);
      listener.close();
      for (const conn of ends) conn.abort();
    });
  }
});
