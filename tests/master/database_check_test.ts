/** DatabaseCheck: what a readiness probe learns of the database, how long it waits, and what many probes cost. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import {
  DATABASE_CHECK_KEPT_MS,
  DATABASE_CHECK_TIMEOUT_MS,
  DatabaseCheck,
} from "../../src/master/database_check.ts";
import { type LogLine, recordingLogger } from "../support/tunnel.ts";
import { programStarter } from "../cli/program.ts";
import { skipPostgres, startPostgres } from "../support/postgres_server.ts";
import { until } from "../support/until.ts";
import { VirtualClock } from "../support/virtual_clock.ts";

const start = programStarter();
const skip = await skipPostgres();

/** A check of a database that the test plays. */
function bench() {
  const clock = new VirtualClock();
  const queries: PromiseWithResolvers<void>[] = [];
  const lines: LogLine[] = [];
  const check = new DatabaseCheck({
    store: {
      ping: () => {
        const query = Promise.withResolvers<void>();
        queries.push(query);
        return query.promise;
      },
    },
    clock,
    log: recordingLogger(lines),
  });
  return { clock, queries, check, lines };
}

describe("DatabaseCheck", () => {
  it("tells whether the database responds; the log has the reason, and each change once", async () => {
    const { clock, queries, check, lines } = bench();
    const fine = check.run();
    queries[0]!.resolve();
    assert.equal(await fine, true);
    await clock.advance(DATABASE_CHECK_KEPT_MS);
    for (const at of [1, 2]) {
      const failed = check.run();
      queries[at]!.reject(new Error("gone"));
      assert.equal(await failed, false);
      await clock.advance(DATABASE_CHECK_KEPT_MS);
    }
    assert.deepEqual(lines.map(({ level, fields }) => [level, fields.error]), [["warn", "gone"]]);
    const back = check.run();
    queries[3]!.resolve();
    assert.equal(await back, true);
    assert.deepEqual(lines.map(({ level }) => level), ["warn", "info"]);
  });

  it("asks once for all probes at once, and for those of the next second", async () => {
    const { clock, queries, check } = bench();
    const probes = Array.from({ length: 1_000 }, () => check.run());
    queries[0]!.resolve();
    assert.deepEqual(new Set(await Promise.all(probes)), new Set([true]));
    await clock.advance(DATABASE_CHECK_KEPT_MS - 1);
    assert.equal(await check.run(), true);
    assert.equal(queries.length, 1);
    await clock.advance(1);
    void check.run();
    assert.equal(queries.length, 2);
  });

  it("doesn't wait for long, and sends no further queries to a database that is silent", async () => {
    const { clock, queries, check } = bench();
    for (let i = 0; i < 5; i++) {
      const probe = check.run();
      await clock.advance(DATABASE_CHECK_TIMEOUT_MS);
      assert.equal(await probe, false);
      await clock.advance(DATABASE_CHECK_KEPT_MS);
    }
    assert.equal(queries.length, 1);
    const probe = check.run();
    queries[0]!.resolve();
    assert.equal(await probe, true);
  });
});

describe("DatabaseCheck: GET /readyz while the database is away", () => {
  it("fails for a master, and names the check for serve, whose visitors need none; /healthz stays", {
    skip,
    timeout: 120_000,
  }, async () => {
    const postgres = await startPostgres();
    const get = async (url: string) => {
      const answer = await fetch(url);
      return { status: answer.status, body: await answer.json() as { checks: Record<string, unknown> } };
    };
    try {
      const listen = ["--master-listen", "127.0.0.1:0", "--log-level", "error"];
      const programs = [
        { command: "master", away: 503, args: ["--public-address", "edge.example.org:8443"] },
        { command: "serve", away: 200, args: ["--listen", "127.0.0.1:0"] },
      ].map(async ({ command, away, args }) => {
        const program = start([command, ...listen, ...args, "--database", await postgres.database()]);
        const [, url = ""] = await program.seen(/session master +(http:\/\/127\.0\.0\.1:\d+)/);
        return { url, away };
      });
      const running = await Promise.all(programs);
      for (const { url } of running) {
        const { status, body } = await get(`${url}/readyz`);
        assert.deepEqual([status, body.checks.database], [200, true]);
      }
      await postgres.stop();
      for (const { url, away } of running) {
        await until(async () => (await get(`${url}/readyz`)).body.checks.database !== true);
        const { status, body } = await get(`${url}/readyz`);
        assert.equal(status, away);
        assert.equal(body.checks.database, false);
        assert.equal((await get(`${url}/healthz`)).status, 200);
      }
    } finally {
      await postgres.stop();
    }
  });
});
