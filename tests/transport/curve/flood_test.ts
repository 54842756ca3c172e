/** Point 1 of the ten on a real socket: 100,000 HELLOs from one process, and what another has of them. */
import assert from "node:assert/strict";
import { dirname, join } from "node:path";
import process from "node:process";
import { it } from "node:test";
import { fileURLToPath } from "node:url";
import { COOKIE_PACKET_BYTES, HELLO_BYTES } from "../../../src/wire/curve/curve_packet.ts";
import { LineChild } from "../../support/child.ts";
import { denoFlags } from "../../support/deno_flags.ts";

const LOAD = join(dirname(fileURLToPath(import.meta.url)), "../../../bench/curve/load.ts");
const HELLOS = 100_000;
/** 300 bytes kept for each of the last 80,000 would show. */
const GROWTH_MAX_MB = 24;
const timeout = 120_000;

it("1: 100,000 HELLOs leave no state, memory stays flat, no answer is larger than its question", {
  timeout,
}, async () => {
  const deno = process.versions.deno === undefined
    ? []
    : [...denoFlags(), `--allow-run=${process.execPath}`, "--allow-sys", "--allow-env"];
  const server = LineChild.start({ command: process.execPath, args: [...deno, LOAD, "hellos"] });
  const seen = await server.next((line) => line.hellos !== undefined, timeout);
  await server.stop();
  // Datagrams may be lost, though few are on a loopback; what came was answered.
  assert.ok(Number(seen.hellos) > 0.99 * HELLOS, `${seen.hellos} came`);
  assert.equal(seen.cookiesIssued, seen.hellos);
  assert.equal(seen.not_cookies, 0);
  assert.equal(seen.answer_bytes_each, COOKIE_PACKET_BYTES);
  assert.ok(COOKIE_PACKET_BYTES < HELLO_BYTES);
  assert.deepEqual([seen.connections, seen.pending], [0, 0]);
  const [, early = NaN, ...later] = seen.rss_mb as number[];
  assert.ok(Math.max(...later) - early < GROWTH_MAX_MB, `${seen.rss_mb} MB`);
});
