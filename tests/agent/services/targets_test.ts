/** TargetPool: connecting to the first of a service's targets that answers, and giving up those that don't. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { TargetHandler } from "../../../src/agent/services/port.ts";
import { parseTarget } from "../../../src/agent/services/target.ts";
import { TargetPool } from "../../../src/agent/services/targets.ts";
import { createMemoryNetwork } from "../../../src/runtime/memory/memory.ts";
import { DIAL_TIMEOUT_MS, IGNORE_STREAM } from "../../../src/runtime/port.ts";
import { silentLogger } from "../../../src/telemetry/log.ts";

const AGENT = "10.0.0.1";
const HOST = "10.0.0.2";
/** No host has it: nobody answers. */
const NOBODY = "10.0.0.3";

async function world(targets: readonly string[]) {
  const network = createMemoryNetwork();
  const runtime = network.runtime(AGENT);
  let accepted = 0;
  await network.runtime(HOST).listen({
    host: HOST,
    port: 1,
    accept(conn) {
      accepted++;
      conn.attach(IGNORE_STREAM);
    },
  });
  const pool = new TargetPool({
    targets: targets.map((text) => parseTarget(text)),
    runtime,
    log: silentLogger,
  });
  const outcomes: string[] = [];
  const handler: TargetHandler = {
    reached(conn, target) {
      conn.attach(IGNORE_STREAM);
      outcomes.push(`reached ${target.text}`);
    },
    unreachable: ({ code, message }) => outcomes.push(`${code}: ${message}`),
  };
  return { network, pool, handler, outcomes, accepted: () => accepted };
}

describe("TargetPool.connect", () => {
  it("reaches the first target that answers, past those that refuse", async () => {
    const { network, pool, handler, outcomes } = await world([`${HOST}:2`, `${HOST}:1`]);
    const attempt = pool.connect(handler);
    assert.deepEqual(outcomes, [], "nothing within the call");
    await network.advance(1_000);
    assert.deepEqual([outcomes, attempt.late()], [[`reached ${HOST}:1`], 0]);
    assert.equal(pool.facts[0]!.up, false);
  });

  it("gives each target its own time, told when that is over", async () => {
    const { network, pool, handler, outcomes } = await world([`${NOBODY}:1`, `${HOST}:1`]);
    const attempt = pool.connect(handler);
    await network.advance(4_000);
    assert.equal(attempt.late(), DIAL_TIMEOUT_MS - 4_000);
    await network.advance(DIAL_TIMEOUT_MS - 4_000);
    assert.deepEqual(outcomes, []);
    assert.equal(attempt.late(), DIAL_TIMEOUT_MS);
    await network.advance(1_000);
    assert.deepEqual([outcomes, attempt.late()], [[`reached ${HOST}:1`], 0]);
  });

  it("names every target that it has tried", async () => {
    const { network, pool, handler, outcomes } = await world([`${HOST}:2`, "file:///srv/www", `${NOBODY}:1`]);
    const attempt = pool.connect(handler);
    await network.advance(DIAL_TIMEOUT_MS);
    while (attempt.late() > 0) await network.advance(100);
    assert.deepEqual(outcomes, [
      `endpoint_unreachable: Cannot reach endpoint ${HOST}:2: connection refused; ` +
      `${NOBODY}:1: no answer within 10000 ms`,
    ]);
    assert.equal(attempt.late(), 0);
  });

  it("resets a connection that comes too late, and one whose handler throws", async () => {
    const { network, pool, handler, outcomes, accepted } = await world([`${HOST}:1`]);
    network.setLink(AGENT, HOST, { latencyMs: DIAL_TIMEOUT_MS });
    const attempt = pool.connect(handler);
    await network.advance(DIAL_TIMEOUT_MS);
    attempt.late();
    await network.advance(2 * DIAL_TIMEOUT_MS);
    assert.equal(accepted(), 1);
    assert.match(outcomes.join(), /^endpoint_unreachable: .*no answer within 10000 ms$/);
    network.setLink(AGENT, HOST, { latencyMs: 1 });
    pool.connect({
      reached: () => {
        throw new Error("planted");
      },
      unreachable: ({ message }) => outcomes.push(message),
    });
    await network.advance(1_000);
    assert.equal(outcomes.at(-1), "Internal error (connector): planted");
  });

  it("has nothing to connect to where all targets are folders", async () => {
    const { network, pool, handler, outcomes } = await world(["file:///srv/www"]);
    pool.connect(handler);
    assert.deepEqual(outcomes, []);
    await network.advance(1);
    assert.match(outcomes.join(), /^endpoint_unreachable/);
  });
});

describe("TargetPool.dial", () => {
  it("goes on to the next target by itself when the first doesn't answer", async () => {
    const { network, pool } = await world([`${NOBODY}:1`, `${HOST}:1`]);
    const dialled = pool.dial();
    await network.advance(DIAL_TIMEOUT_MS + 1_000);
    assert.equal((await dialled).target.text, `${HOST}:1`);
  });

  it("rejects with every target's fault", async () => {
    const { network, pool } = await world([`${NOBODY}:1`, `${NOBODY}:2`]);
    const dialled = assert.rejects(pool.dial(), {
      code: "endpoint_unreachable",
      message: `Cannot reach endpoint ${NOBODY}:1: no answer within 10000 ms; ` +
        `${NOBODY}:2: no answer within 10000 ms`,
    });
    await network.advance(2 * DIAL_TIMEOUT_MS);
    await dialled;
  });
});
