/**
 * Sets up a session master's state for the commands that have one.
 *
 * @module
 */
import type { Config } from "../config/config.ts";
import { EdgeHub } from "../master/edge_hub.ts";
import { KeyRing } from "../master/key_ring.ts";
import { Management } from "../master/management.ts";
import { isPostgresUrl } from "../master/store/database.ts";
import { openStore } from "../master/store/sql_store.ts";
import { webhookFetch } from "../master/webhooks/destination.ts";
import { WebhookSender } from "../master/webhooks/sender.ts";
import { DATABASE_FILE, DataDir } from "./data_dir.ts";
import type { FoundFernetKeys } from "./keys.ts";
import type { MasterPolicy } from "./master_policy.ts";
import { type Base, networks } from "./parts.ts";

type Place = Pick<Config, "database" | "dataDir">;

/** Opens the database, and loads its Fernet keys. */
export async function openManagement(
  base: Base,
  config: Place,
  fernet: FoundFernetKeys,
  policy: MasterPolicy,
): Promise<Management> {
  const { runtime, log, metrics, life, tracer } = base;
  const { clock } = runtime;
  const place = databasePlace(config);
  // SQLite's files are protected only by the folder and the umask, so the folder is accessible only to its owner.
  if (config.database === undefined) await new DataDir(config.dataDir).make();
  const store = await openStore(place);
  life.add("database", () => store.close());
  const keys = new KeyRing(fernet.value, fernet.texts);
  const retention = () => {
    const { auditRetention: auditMs, usageRetention: usageMs } = policy.current;
    return { ...auditMs === undefined ? {} : { auditMs }, ...usageMs === undefined ? {} : { usageMs } };
  };
  const hub = new EdgeHub({ store, keys, clock, log, retention });
  life.add("edges", () => hub.close());
  await hub.start();
  const webhookNetworks = () => networks(policy.current.webhookNetworks);
  const sender = new WebhookSender({
    store,
    clock,
    log,
    metrics,
    tracer,
    fetch: webhookFetch(runtime, webhookNetworks),
  });
  life.add("webhooks", () => sender.close());
  sender.start();
  return new Management({ store, hub, keys, clock, sender, webhookNetworks });
}

/** Location of the database. */
export function databasePlace({ database, dataDir }: Place): string {
  return database ?? new DataDir(dataDir).file(DATABASE_FILE);
}

/** The start message's line with the database's location, without its password. */
export function databaseFact(config: Place): readonly [string, string] {
  const place = databasePlace(config);
  return ["database", isPostgresUrl(place) ? `PostgreSQL at ${new URL(place).host}` : place];
}
