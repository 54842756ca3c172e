/** Point 1 of the ten on a real socket: 100,000 HELLOs from another process, and what this one has of them. */
import assert from "node:assert/strict";
import { dirname, join } from "node:path";
import process from "node:process";
import { it } from "node:test";
import { fileURLToPath } from "node:url";
import { keyPair } from "../../src/curve/crypto.ts";
import { listenCurve } from "../../src/curve/listener.ts";
import { COOKIE_PACKET_BYTES, HELLO_BYTES } from "../../src/curve/packet.ts";
import { currentRuntime } from "../../src/runtime/mod.ts";
import { LineChild } from "../support/child.ts";
import { cryptoForTests, pattern } from "./support.ts";

const FLOOD = join(dirname(fileURLToPath(import.meta.url)), "../../bench/curve/load.ts");
const HELLOS = 100_000;
/** HELLOs a round of samples. */
const ROUND = 10_000;
/** 300 bytes kept for each of the last 80,000 would show. */
const GROWTH_MAX_BYTES = 24e6;
const timeout = 120_000;

it("1: 100,000 HELLOs leave no state, memory stays flat, no answer is larger than its question", {
  timeout,
}, async () => {
  const crypto = await cryptoForTests();
  const listener = await listenCurve({
    runtime: await currentRuntime(),
    host: "127.0.0.1",
    port: 0,
    crypto,
    keys: keyPair(crypto, pattern(32)),
    accept: () => assert.fail("a HELLO made a connection"),
  });
  const deno = process.versions.deno === undefined ? [] : ["run", "-A", "--no-check"];
  const flooder = LineChild.start({
    command: process.execPath,
    args: [...deno, FLOOD, "flood", String(listener.address.port)],
  });
  const { stats } = listener;
  const rss: number[] = [];
  const sampler = setInterval(() => {
    if (stats.hellos >= rss.length * ROUND) rss.push(process.memoryUsage().rss);
  }, 1);
  const seen = await flooder.event("flooded", undefined, timeout);
  clearInterval(sampler);
  await flooder.stop();
  // Datagrams may be lost, though few are on a loopback; what came was answered.
  assert.ok(stats.hellos > 0.99 * HELLOS, `${stats.hellos} came`);
  assert.equal(stats.cookiesIssued, stats.hellos);
  assert.equal(seen.not_cookies, 0);
  assert.equal(seen.answer_bytes_each, COOKIE_PACKET_BYTES);
  assert.ok(COOKIE_PACKET_BYTES < HELLO_BYTES);
  assert.deepEqual([listener.size, listener.pending, stats.connectionsOpened], [0, 0, 0]);
  const [, , early = NaN] = rss;
  const growth = process.memoryUsage().rss - early;
  assert.ok(
    growth < GROWTH_MAX_BYTES,
    `${growth} bytes more: ${rss.map((bytes) => Math.round(bytes / 1e6))} MB`,
  );
  listener.close();
});
