/** Two session masters on one PostgreSQL, in processes of their own, while one of them is killed. */
import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { FernetRing } from "../../src/crypto/fernet.ts";
import { EdgeHub } from "../../src/master/edge_hub.ts";
import { KeyRing } from "../../src/master/key_ring.ts";
import { openStore } from "../../src/master/store/sql_store.ts";
import { currentRuntime } from "../../src/runtime/mod.ts";
import { silentLogger } from "../../src/telemetry/log.ts";
import type { EdgeMessage } from "../../src/wire/control/control_messages.ts";
import { programStarter } from "../cli/program.ts";
import { skipPostgres, startPostgres } from "../support/postgres_server.ts";
import { until } from "../support/until.ts";
import { ADMIN_KEY, FERNET_KEY } from "./helpers.ts";

const skip = await skipPostgres();
/** Agents that the first master has added when it is killed, in the middle of the next ones. */
const ADDED = 30;

let folder: string;
const start = programStarter();
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "sallyport-two-masters-"));
});
after(() => rm(folder, { recursive: true, force: true }));

async function call(url: string, method: string, path: string, body?: unknown) {
  const answer = await fetch(url + path, {
    method,
    headers: {
      authorization: `Bearer ${ADMIN_KEY}`,
      ...body === undefined ? {} : { "content-type": "application/json" },
    },
    ...body === undefined ? {} : { body: JSON.stringify(body) },
  });
  return { status: answer.status, body: await answer.json() };
}

describe("EdgeHub: two masters on one PostgreSQL", () => {
  it("one is killed in the middle of its writes: nothing that it answered is lost, and the other goes on", {
    skip,
    timeout: 180_000,
  }, async () => {
    const postgres = await startPostgres();
    try {
      const database = await postgres.database();
      const keys = join(folder, "fernet.keys");
      await writeFile(keys, `${FERNET_KEY}\n`);
      const master = async (name: string) => {
        const program = start([
          ...[
            "master",
            "--master-listen",
            "127.0.0.1:0",
            "--data-dir",
            join(folder, name),
            "--log-level",
            "error",
          ],
          ...["--database", database, "--fernet-keys-file", keys, "--admin-key", ADMIN_KEY],
        ]);
        const [, url = ""] = await program.seen(/session master +(http:\/\/127\.0\.0\.1:\d+)/);
        return { program, url };
      };
      const [first, second] = await Promise.all([master("first"), master("second")]);

      const answered: string[] = [];
      let killed = false;
      const adding = (async () => {
        for (let i = 0;; i++) {
          const name = `agent-${i}`;
          const wanted = { name, hostnames: [`${name}.example.org`] };
          const added = await call(first.url, "POST", "/v1/agents", wanted).catch((error) => {
            if (!killed) throw error;
          });
          if (added === undefined) return;
          assert.equal(added.status, 201);
          answered.push(name);
          if (answered.length === ADDED) {
            killed = true;
            void first.program.kill();
          }
        }
      })();
      // Meanwhile agents get their tokens from the other one.
      let over = false;
      let tokens = 0;
      const issuing = (async () => {
        while (!over) {
          const { status } = await call(second.url, "POST", "/v1/tokens", {
            hostname: `x${tokens % 9}.example.org`,
          });
          assert.equal(status, 201);
          tokens++;
        }
      })();
      await adding;
      const before = tokens;
      await until(() => tokens >= before + 5);
      over = true;
      await issuing;
      assert.ok(before > 0);

      const { body: list } = await call(second.url, "GET", "/v1/agents?limit=500");
      const found = new Set(list.items.map(({ name }: { readonly name: string }) => name));
      assert.deepEqual(answered.filter((name) => !found.has(name)), []);
      // Each came with its entry in the audit log, or not at all.
      const { body: audit } = await call(second.url, "GET", "/v1/audit?limit=500");
      assert.equal(audit.items.length, list.items.length);

      // An edge that listens to the first one, started again, hears of what is decided at the second.
      const { clock } = await currentRuntime();
      const store = await openStore(database);
      const ring = new FernetRing([FERNET_KEY]);
      const hub = new EdgeHub({ store, keys: new KeyRing(ring, [FERNET_KEY]), clock, log: silentLogger });
      await hub.start();
      const heard = Promise.withResolvers<EdgeMessage>();
      await hub.listen(undefined, (message) => message.kind === "agent" && heard.resolve(message));
      assert.equal((await call(second.url, "POST", "/v1/agents/agent-0/suspend")).status, 200);
      const message = await heard.promise;
      assert.ok(message.kind === "agent" && message.ruling.blocked);
      hub.close();
      await store.close();
      const again = await master("first");
      assert.equal((await call(again.url, "GET", "/v1/agents/agent-0")).body.state, "suspended");
      await Promise.all([again.program.kill(), second.program.kill()]);
    } finally {
      await postgres.stop();
    }
  });
});
