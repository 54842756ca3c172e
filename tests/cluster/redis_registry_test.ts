/** The registry in a real Redis, which these tests start themselves. */
import assert from "node:assert/strict";
import { after, it } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { createClient } from "@redis/client";
import { connectRedisRegistry } from "../../src/cluster/redis_registry.ts";
import type { TunnelRegistry } from "../../src/cluster/registry.ts";
import { currentRuntime } from "../../src/runtime/mod.ts";
import { assertRejects } from "../conformance/runtime_helpers.ts";
import { registrySuite } from "../conformance/registry_suite.ts";
import { type RedisServer, skipRedis, startRedis } from "../support/redis_server.ts";

const skip = await skipRedis();
const { clock } = await currentRuntime();
let started: Promise<RedisServer> | undefined;
const redis = () => started ??= startRedis();

after(async () => await (await started)?.kill());

interface RawClient {
  flushAll(): Promise<unknown>;
  pTTL(key: string): Promise<number>;
  pExpire(key: string, ms: number): Promise<unknown>;
  set(key: string, value: string): Promise<unknown>;
}

/** One thing done to Redis behind the registry's back. */
async function raw<T>(act: (client: RawClient) => Promise<T>): Promise<T> {
  const client = createClient({ url: (await redis()).url });
  client.on("error", () => {});
  await client.connect();
  try {
    return await act(client as unknown as RawClient);
  } finally {
    await client.close();
  }
}

let stores = 0;
registrySuite(async () => {
  const { url } = await redis();
  const prefix = `test-${++stores}:`;
  const opened: TunnelRegistry[] = [];
  return {
    open: async (lifetimes) => {
      const registry = await connectRedisRegistry({ url, clock, prefix, ...lifetimes });
      opened.push(registry);
      return registry;
    },
    wipe: () => raw(async (client) => void await client.flushAll()),
    until: async (met) => {
      for (let i = 0; i < 2_000 && !await met(); i++) await delay(10);
      assert.ok(await met());
    },
    close: async () => void await Promise.all(opened.map((registry) => registry.close())),
  };
}, skip);

const tunnel = { id: "1", name: "a", node: "n", transport: "quic", attributes: new Map() };

it(
  "lifetimes are 60 s and 600 s, and each renewal begins them again",
  { skip, timeout: 60_000 },
  async () => {
    const registry = await connectRedisRegistry({ url: (await redis()).url, clock });
    await registry.register(tunnel);
    const left = () =>
      raw(async (client) =>
        [await client.pTTL("sallyport:tunnel:1"), await client.pTTL("sallyport:name:a")] as const
      );
    const fresh = ([record, name]: readonly [number, number]) =>
      record > 30_000 && record <= 60_000 && name > 500_000 && name <= 600_000;
    assert.ok(fresh(await left()));
    await raw(async (client) => {
      await client.pExpire("sallyport:tunnel:1", 20_000);
      await client.pExpire("sallyport:name:a", 20_000);
    });
    assert.ok(!fresh(await left()));
    await registry.renew(tunnel);
    assert.ok(fresh(await left()));
    await registry.close();
  },
);

it("what isn't a record is none", { skip, timeout: 60_000 }, async () => {
  const registry = await connectRedisRegistry({ url: (await redis()).url, clock, prefix: "bad:" });
  for (
    const text of ["", "null", "{", '{"id":1}', '{"id":"1","name":"a","node":"n","transport":"t"}', "[]"]
  ) {
    await raw(async (client) => void await client.set("bad:tunnel:1", text));
    assert.equal(await registry.byId("1"), undefined, text);
  }
  await registry.close();
});

it(
  "a Redis that isn't there rejects, and one that comes back is used again",
  { skip, timeout: 60_000 },
  async () => {
    const own = await startRedis();
    const registry = await connectRedisRegistry({ url: own.url, clock });
    await registry.register(tunnel);
    await own.kill();
    await assertRejects(registry.renew(tunnel), "io_failed");
    await own.restart();
    while (await registry.renew(tunnel).then(() => false, () => true)) await delay(20);
    assert.deepEqual(await registry.byName("a"), tunnel);
    await own.kill();
    await registry.close();
    await assertRejects(connectRedisRegistry({ url: own.url, clock }), "io_failed");
    await assertRejects(connectRedisRegistry({ url: "http://127.0.0.1", clock }), "config_invalid");
  },
);
