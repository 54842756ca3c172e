/**
 * A session master with everything that its API needs, for programs that test it from outside: prints its URL and admin
 * key as JSON, and runs until its standard input ends.
 *
 * @module
 */
import process from "node:process";
import { FernetRing } from "../../src/crypto/fernet.ts";
import { createMasterApp } from "../../src/master/app.ts";
import { adminCredentials } from "../../src/master/credentials.ts";
import { EdgeHub } from "../../src/master/edge_hub.ts";
import { KeyRing } from "../../src/master/key_ring.ts";
import { Management } from "../../src/master/management.ts";
import { openStore } from "../../src/master/store/sql_store.ts";
import { WebhookSender } from "../../src/master/webhooks/sender.ts";
import { currentRuntime } from "../../src/runtime/mod.ts";
import { createLogger } from "../../src/telemetry/log.ts";
import { ADMIN_KEY, FERNET_KEY } from "./helpers.ts";

const runtime = await currentRuntime();
const { clock } = runtime;
const log = createLogger({
  level: "error",
  format: "json",
  write: (line) => void process.stderr.write(line),
});
const store = await openStore(process.argv[2] ?? ":memory:");
const ring = new FernetRing([FERNET_KEY]);
const keys = new KeyRing(ring, [FERNET_KEY]);
const hub = new EdgeHub({ store, keys, clock, log });
await hub.start();
// Nothing is sent anywhere.
const sender = new WebhookSender({ store, clock, log, fetch: () => Promise.resolve(new Response(null)) });
const app = createMasterApp({
  ...{ ring, clock, log },
  credentials: adminCredentials(ADMIN_KEY),
  edgeAddress: { host: "edge.example.net", port: 8443 },
  management: new Management({ store, hub, keys, clock, sender }),
  // What is tested isn't the patience of the limits.
  authFailuresPerMinute: 1_000_000_000,
  tokensPerMinute: 1_000_000_000,
  apiRequestsPerMinute: 1_000_000_000,
});
const { address } = await runtime.serveHttp({
  host: "127.0.0.1",
  port: 0,
  fetch: (request, remote) => app.fetch(request, { remote }),
});
process.stdin.on("end", () => process.exit(0)).resume();
process.stdout.write(`${JSON.stringify({ url: `http://127.0.0.1:${address.port}`, key: ADMIN_KEY })}\n`);
