/** What a listener does about connections that fail, on real sockets. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import process from "node:process";
import { describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { currentRuntime } from "../../src/runtime/mod.ts";
import { Watched } from "../conformance/runtime_helpers.ts";

const RESETS = 100;

/** Connections that are reset while this process doesn't look, so that none of them has been accepted before. */
function resetConnections(port: number, count: number): void {
  const script = fileURLToPath(new URL("../support/reset_connections.ts", import.meta.url).href);
  const own = process.versions.deno === undefined ? [] : ["run", "-A", "--no-check"];
  const child = spawnSync(process.execPath, [...own, script, String(port), String(count)], {
    encoding: "utf8",
  });
  assert.equal(child.status, 0, child.stderr);
}

describe("Runtime.listen", () => {
  // Deno has another kind of socket for peers that speak.
  for (const peerSpeaks of [false, true]) {
    it(`accepts at once after connections that were reset before it did (peerSpeaks: ${peerSpeaks})`, async () => {
      const runtime = await currentRuntime();
      let accepted = (_at: number) => {};
      const firstByte = new Promise<number>((resolve) => accepted = resolve);
      const listener = await runtime.listen({
        host: "127.0.0.1",
        port: 0,
        peerSpeaks,
        accept: (conn) => {
          const server = new Watched(conn);
          server.onData = () => accepted(performance.now());
        },
      });
      resetConnections(listener.address.port, RESETS);
      const sinceMs = performance.now();
      const conn = await runtime.dial({
        host: "127.0.0.1",
        port: listener.address.port,
        timeoutMs: 30_000,
      });
      const client = new Watched(conn);
      client.write(new Uint8Array([1]));
      const tookMs = await firstByte - sinceMs;
      client.abort();
      listener.close();
      // With a pause of 100 ms for each they would take 10 s.
      assert.ok(
        tookMs < 5_000,
        `a good connection waited ${Math.round(tookMs)} ms behind ${RESETS} bad ones`,
      );
    });
  }
});
