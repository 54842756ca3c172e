/** The store on SQLite, in a real PostgreSQL, and what the files of SQLite are good for. */
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { DatabaseSync } from "node:sqlite";
import { after, describe, it } from "node:test";
import { inspect } from "node:util";
import { sql } from "kysely";
import { Migrator } from "kysely/migration";
import { connectDatabase, openDatabase } from "../../../src/master/store/database.ts";
import { migrations } from "../../../src/master/store/migrations.ts";
import { openStore } from "../../../src/master/store/sql_store.ts";
import { entry, someAgent, storeSuite } from "../../conformance/store_suite.ts";
import { storeWebhooksSuite } from "../../conformance/store_webhooks_suite.ts";
import { LineChild } from "../../support/child.ts";
import { type PostgresServer, skipPostgres, startPostgres } from "../../support/postgres_server.ts";

const folder = await mkdtemp(join(tmpdir(), "sallyport-store-"));
after(() => rm(folder, { recursive: true, force: true }));

/** A database of the first version's tables, with what an operator had then. */
async function makeFirst(place: string): Promise<void> {
  const { db, kind } = await connectDatabase(place);
  const { error } = await new Migrator({ db, provider: migrations(kind) }).migrateTo("0001_first");
  assert.equal(error, undefined);
  const statements = [
    `insert into agents values ('agent_old', 'default', 'old', null, 'active', '[]', '{"streams":5}', '[]', '[]', null,
      'kept', 'key', 3, 7, 1, 2)`,
    "insert into hostnames values ('old.example.org', 'agent:agent_old', 'default')",
    "insert into agent_hostnames values ('agent_old', 0, 'old.example.org')",
    `insert into audit (at, actor, action, subject, tenant, request, detail)
      values (1, 'admin', 'agent.added', 'agent_old', 'default', 'r', '{}')`,
    "insert into usage values ('agent_old', '2026-01-02', 'default', 10, 20, 3, 4000)",
    `insert into sessions values ('e/1', 'e', 'agent_old', 'default', 'old.example.org', '192.0.2.1', 'snitun', 2,
      'aes-gcm', 1, 0, 0, 0)`,
  ];
  for (const statement of statements) await sql.raw(statement).execute(db);
  await db.destroy();
}

/** What both kinds of database do with the tables of other versions. */
function versionSuite(place: () => Promise<string>, skip: string | false = false): void {
  it("a database of the first version is brought up to date, with all that was in it", {
    skip,
    timeout: 60_000,
  }, async () => {
    const at = await place();
    await makeFirst(at);
    const store = await openStore(at);
    try {
      const agent = await store.agent("agent_old");
      assert.deepEqual([
        agent?.name,
        agent?.limits,
        agent?.hostnames,
        agent?.generation,
        agent?.revision,
        agent?.notes,
      ], [
        ...["old", { streams: 5 }, ["old.example.org"], 3, 7, "kept"],
      ]);
      const [used] = await store.usage({ from: "2026-01-01", to: "2026-01-31" });
      assert.deepEqual([used?.bytesToAgent, used?.streams], [10, 3]);
      assert.equal((await store.audit({ limit: 5 })).items[0]?.subject, "agent_old");
      // What came later works on it: the session from before is known to be there, so its agent doesn't come online.
      const hook = { id: "hook_1", url: "https://x.example.org/", secret: "s", createdAtMs: 1, dropped: 0 };
      await store.addWebhook({ ...hook, tenant: "*", events: ["agent.online"] }, 5, entry("webhook.added"));
      const report = { edge: "e", epoch: "1", seq: 1, fresh: false, closed: [], watched: [], usage: [] };
      await store.applyReport({ ...report, sessions: [(await store.session("e/1"))!] }, 5);
      assert.deepEqual((await store.deliveries({ webhooks: ["hook_1"], limit: 5 })).items, []);
    } finally {
      await store.close();
    }
    await (await openStore(at)).close();
  });

  it("a database of a newer version is refused, and left as it is", { skip, timeout: 60_000 }, async () => {
    const at = await place();
    await (await openStore(at)).close();
    const { db } = await connectDatabase(at);
    await sql`insert into kysely_migration values ('9999_later', '2030-01-01')`.execute(db);
    await assert.rejects(openStore(at), {
      code: "config_invalid",
      message: /^Cannot open database .*: a newer version has changed it \(9999_later\), and this is \d/,
    });
    const { rows } = await sql`select name from kysely_migration`.execute(db);
    assert.equal(rows.length, Object.keys(await migrations("sqlite").getMigrations()).length + 1);
    await db.destroy();
  });
}

let files = 0;

describe("openStore: SQLite", () => {
  versionSuite(() => Promise.resolve(join(folder, `version-${files++}.db`)));
  storeSuite(() => openStore(":memory:"));
  storeWebhooksSuite(() => openStore(":memory:"));

  it("a backup of a database in use holds what was there, and serves as one", async () => {
    const store = await openStore(join(folder, "a.db"));
    const copy = join(folder, "backup.db");
    try {
      await store.addAgent(someAgent("a"), undefined, entry("agent.created"));
      await store.backup(copy);
      await store.addAgent(someAgent("b"), undefined, entry("agent.created"));
    } finally {
      await store.close();
    }
    const restored = await openStore(copy);
    try {
      assert.deepEqual((await restored.agents({ limit: 9 })).items.map(({ name }) => name), ["a"]);
      await restored.addAgent(someAgent("c"), undefined, entry("agent.created"));
    } finally {
      await restored.close();
    }
  });

  it("the audit log can't be rewritten by another program that has the file either", async () => {
    const path = join(folder, "audit.db");
    const store = await openStore(path);
    await store.addAgent(someAgent("a"), undefined, entry("agent.created"));
    await store.close();
    const raw = new DatabaseSync(path);
    for (const statement of ["delete from audit", "update audit set actor = 'nobody'"]) {
      assert.throws(() => raw.exec(statement), /append only/);
    }
    raw.close();
  });

  it("a disk that is full is reported as such, and writes go on once there is room", async () => {
    const { db } = await openDatabase(":memory:");
    try {
      await sql`pragma max_page_count = 100`.execute(db);
      const write = (bytes: number) =>
        db.transaction().execute(async (tx) => {
          await sql`create table filler (bytes blob)`.execute(tx);
          await sql`insert into filler values (zeroblob(${bytes}))`.execute(tx);
        });
      await assert.rejects(write(10_000_000), /full/);
      await write(10);
    } finally {
      await db.destroy();
    }
  });

  it("a file that is no database is refused with its name", async () => {
    await assert.rejects(openStore(join(folder, "missing", "a.db")), {
      code: "config_invalid",
      message: /Cannot open database .*a\.db/,
    });
  });

  it("kill -9 in the middle of writes loses nothing that was answered", { timeout: 60_000 }, async () => {
    const path = join(folder, "killed.db");
    const script = join(import.meta.dirname!, "write_agents.ts");
    const own = process.versions.deno === undefined ? [] : ["run", "-A", "--no-check"];
    const child = LineChild.start({ command: process.execPath, args: [...own, script, path] });
    let answered = 0;
    for (; answered < 60; answered++) await child.event("added", String(answered));
    process.kill(child.pid, "SIGKILL");
    await child.stop();
    const store = await openStore(path);
    try {
      const { items } = await store.agents({ limit: 100_000 });
      assert.ok(items.length >= answered, `${items.length} of ${answered}`);
      // Each agent came with its hostname and its entry in the audit log, or not at all.
      assert.ok(items.every(({ hostnames }) => hostnames.length === 1));
      assert.equal((await store.audit({ limit: 100_000 })).items.length, items.length);
    } finally {
      await store.close();
    }
  });
});

const skip = await skipPostgres();
let started: Promise<PostgresServer> | undefined;
const postgres = () => started ??= startPostgres();

describe("openStore: PostgreSQL", () => {
  versionSuite(async () => await (await postgres()).database(), skip);
  storeSuite(async () => await openStore(await (await postgres()).database()), skip);
  storeWebhooksSuite(async () => await openStore(await (await postgres()).database()), skip);

  it(
    "two masters open one database at once, and share what is in it",
    { skip, timeout: 60_000 },
    async () => {
      const url = await (await postgres()).database();
      const [one, two] = await Promise.all([openStore(url), openStore(url)]);
      try {
        await one.addAgent(someAgent("a"), undefined, entry("agent.created"));
        assert.equal((await two.agent("agent_a"))?.name, "a");
        assert.equal(await one.useNonce("n", 5), true);
        assert.equal(await two.useNonce("n", 5), false);
        await assert.rejects(one.backup("x"), { code: "not_supported", message: /pg_dump/ });
      } finally {
        await Promise.all([one.close(), two.close()]);
      }
    },
  );

  it("a database that can't be reached is refused without its password", { skip }, async () => {
    const url = "postgres://me:hunter2@127.0.0.1:1/none";
    await assert.rejects(openStore(url), {
      code: "config_invalid",
      message: /^(?!.*hunter2).*Cannot open database 127\.0\.0\.1:1/,
    });
  });

  it("a password with a character that a URL writes otherwise isn't shown", async () => {
    for (const password of ["hunter#2", "hunter/2", "hunter?2"]) {
      await assert.rejects(openDatabase(`postgres://user:${password}@127.0.0.1:1/db`), (error: Error) => {
        assert.equal((error as { code?: unknown }).code, "config_invalid");
        assert.doesNotMatch(inspect(error), /hunter/);
        return /%23 for #/.test(error.message);
      });
    }
  });

  // The last one, and no hook: Bun gives hooks five seconds, and a machine under load may need more.
  it("its server ends in order", { skip, timeout: 60_000 }, async () => await (await started)?.stop());
});
