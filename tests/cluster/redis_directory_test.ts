/** The directory in a real Redis, which these tests start themselves. */
import assert from "node:assert/strict";
import { after, it } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import type { Directory, DirectoryChange } from "../../src/cluster/directory.ts";
import { parseSentinelUrl } from "../../src/cluster/redis_client.ts";
import { connectRedisDirectory } from "../../src/cluster/redis_directory.ts";
import { currentRuntime } from "../../src/runtime/mod.ts";
import { silentLogger } from "../../src/telemetry/log.ts";
import { directorySuite } from "../conformance/directory_suite.ts";
import { type RedisServer, skipRedis, startRedis, startWatchedRedis } from "../support/redis_server.ts";
import { until } from "../support/until.ts";

const skip = await skipRedis();
const { clock } = await currentRuntime();
let started: Promise<RedisServer> | undefined;
const redis = () => started ??= startRedis();
const log = silentLogger;

after(async () => await (await started)?.kill());

let stores = 0;
directorySuite(async () => {
  const { url } = await redis();
  const prefix = `test-${++stores}:`;
  const opened: Directory[] = [];
  return {
    async open(leaseMs?: number) {
      const directory = await connectRedisDirectory({
        url,
        clock,
        log,
        prefix,
        ...leaseMs === undefined ? {} : { leaseMs },
      });
      opened.push(directory);
      return directory;
    },
    // Redis keeps its own time.
    expire: (leaseMs: number) => delay(leaseMs + 50),
    until,
    close: async () => void await Promise.all(opened.map((directory) => directory.close())),
  };
}, skip);

it("connectRedisDirectory reports `reconnected` after Redis was away, and works again", {
  skip,
  timeout: 60_000,
}, async () => {
  const server = await startRedis();
  const directory = await connectRedisDirectory({ url: server.url, clock, log });
  try {
    const heard: DirectoryChange[] = [];
    directory.watch((change) => heard.push(change));
    await server.kill();
    await assert.rejects(directory.lookup("home.example.org"), { code: "io_failed" });
    await server.restart();
    await until(() => heard.some(({ kind }) => kind === "reconnected"));
    let holders;
    while (holders === undefined) {
      // A pause: a rejection without IO would keep the connection from coming back.
      await delay(5);
      holders = await directory.lookup("home.example.org").catch(() => undefined);
    }
    assert.deepEqual(holders, []);
  } finally {
    await directory.close();
    await server.kill();
  }
});

it("connectRedisDirectory rejects with config_invalid for a URL that is none", async () => {
  for (
    const url of ["http://127.0.0.1:6379", "redis+sentinel://host/master", "redis+sentinel://host:26379"]
  ) {
    await assert.rejects(connectRedisDirectory({ url, clock, log }), { code: "config_invalid" }, url);
  }
});

it("parseSentinelUrl takes hosts, master, login and database", () => {
  assert.deepEqual(parseSentinelUrl("redis+sentinel://me:p%40ss@10.0.0.1:26379,[::1]:26380/main?db=3"), {
    nodes: [{ host: "10.0.0.1", port: 26379 }, { host: "::1", port: 26380 }],
    name: "main",
    username: "me",
    password: "p@ss",
    database: 3,
  });
  assert.equal(parseSentinelUrl("redis://127.0.0.1:6379"), undefined);
});

it(
  "connectRedisDirectory follows the Sentinels to the new master, and says that changes may have been missed",
  {
    skip,
    timeout: 60_000,
  },
  async () => {
    const watched = await startWatchedRedis();
    const directory = await connectRedisDirectory({ url: watched.url, clock, log });
    try {
      const heard: DirectoryChange[] = [];
      directory.watch((change) => heard.push(change));
      const record = { id: "0".repeat(32), address: "127.0.0.1:1", version: 1, sessions: 0, draining: false };
      assert.equal(await directory.enter(record), "entered");
      await watched.failOver();
      for (;;) {
        const entered = await directory.enter(record).catch(() => undefined);
        if (entered !== undefined) break;
        await delay(20);
      }
      await until(() => heard.some(({ kind }) => kind === "reconnected"));
      // It hears of changes at the new master.
      const claim = {
        name: "home.example.org",
        owner: "home.example.org",
        group: "g",
        madeAtMs: 1,
        session: "s",
      };
      for (let tries = 0; !heard.some(({ kind }) => kind === "claimed"); tries++) {
        await directory.claim({ ...claim, node: record.id, session: `s${tries}` });
        await delay(50);
      }
    } finally {
      await directory.close();
      await watched.stop();
    }
  },
);

it("RedisDirectory.first notes a key once for all nodes, and refuses tokens older than its notes", {
  skip,
}, async () => {
  const { url } = await redis();
  const prefix = "uses:";
  const [a, b] = [
    await connectRedisDirectory({ url, clock, log, prefix }),
    await connectRedisDirectory({ url, clock, log, prefix }),
  ];
  try {
    const nowS = Math.floor(clock.wallMs() / 1000);
    const use = { madeAtS: nowS + 5, noncesRepeat: true };
    assert.equal(await a.first("key", nowS + 60, use), true);
    assert.equal(await b.first("key", nowS + 60, use), false);
    await assert.rejects(b.first("older", nowS + 60, { ...use, madeAtS: nowS - 5 }), { code: "token_stale" });
    assert.equal(await b.first("older", nowS + 60, { madeAtS: nowS - 5, noncesRepeat: false }), true);
  } finally {
    await Promise.all([a.close(), b.close()]);
  }
});

it("RedisDirectory.first accepts a token issued since the first node entered, and refuses older ones", {
  skip,
}, async () => {
  const { url } = await redis();
  let wallMs = 1_900_000_000_000;
  const directory = await connectRedisDirectory({
    url,
    clock: {
      nowMs: () => clock.nowMs(),
      wallMs: () => wallMs,
      after: (delayMs, run) => clock.after(delayMs, run),
      soon: (run) => clock.soon(run),
    },
    log,
    prefix: "since:",
  });
  try {
    const startedAtS = wallMs / 1000;
    const record = { id: "1".repeat(32), address: "127.0.0.1:1", version: 1, sessions: 0, draining: false };
    await directory.enter(record);
    // The first agent logs in some seconds after its token was issued; renewals do not move the start.
    wallMs += 5_000;
    await directory.enter(record);
    const first = (key: string, madeAtS: number) =>
      directory.first(key, startedAtS + 60, { madeAtS, noncesRepeat: true });
    assert.equal(await first("issued since", startedAtS), true);
    await assert.rejects(first("issued before", startedAtS - 1), { code: "token_stale" });
  } finally {
    await directory.close();
  }
});
