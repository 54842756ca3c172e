/** An edge with more sessions than one report holds: over HTTP, into both databases. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { FernetRing } from "../../src/crypto/fernet.ts";
import { httpControlLink } from "../../src/edge/ledger/http_link.ts";
import { EdgeLedger } from "../../src/edge/ledger/ledger.ts";
import { type ControlLink, LedgerReporter, REPORT_INTERVAL_MS } from "../../src/edge/ledger/reporter.ts";
import { REPORT_MAX_BYTES } from "../../src/master/api/edges.ts";
import { openStore } from "../../src/master/store/sql_store.ts";
import { silentLogger } from "../../src/telemetry/log.ts";
import type { Session } from "../../src/transport/port.ts";
import { agentMembers, ID_MAX_LENGTH } from "../../src/wire/token/agent_claim.ts";
import { skipPostgres, startPostgres } from "../support/postgres_server.ts";
import { until } from "../support/until.ts";
import { VirtualClock } from "../support/virtual_clock.ts";
import { FERNET_KEY, REMOTE, WALL_MS } from "./helpers.ts";
import { managedMaster } from "./managed.ts";

const timeout = 120_000;
/** Sessions whose one report would be refused, with the longest names that there may be. */
const SESSIONS = 6_000;
const LONG_NAME = ["a", "b", "c"].map((label) => label.repeat(60)).join(".");
const skip = await skipPostgres();

/** An edge's ledger, and its sessions to be. */
function busyLedger(clock: VirtualClock) {
  const ledger = new EdgeLedger({ clock, ring: new FernetRing([FERNET_KEY]) });
  const sessions = Array.from({ length: SESSIONS }, (_, i) => {
    const session = {
      ...{ transport: "snitun", protocolVersion: 2, cipher: "aes-gcm", remote: REMOTE },
      ...{ streams: 0, bytesSent: 0, bytesReceived: 0 },
    };
    const extra = agentMembers({
      ...{ id: `agent_${i}`.padEnd(ID_MAX_LENGTH, "x"), tenant: "t".repeat(ID_MAX_LENGTH), generation: 1 },
      ...{ limits: { monthly_bytes: 1e12 }, agentNetworks: [], visitorNetworks: [] },
    });
    const request = { extra, hostname: `device-${i}.${LONG_NAME}.example.org`, remote: REMOTE };
    return { session, open: () => void ledger.opened(session as unknown as Session, request) };
  });
  return { ledger, sessions };
}

describe("LedgerReporter: more sessions than a report holds", () => {
  for (const kind of ["SQLite", "PostgreSQL"] as const) {
    it(`are all known to the master, with each byte once, on ${kind}`, {
      timeout,
      skip: kind === "PostgreSQL" && skip,
    }, async () => {
      const server = kind === "SQLite" ? undefined : await startPostgres();
      const store = await openStore(server === undefined ? ":memory:" : await server.database());
      const master = await managedMaster({}, store);
      const clock = new VirtualClock({ wallMs: WALL_MS });
      const { ledger, sessions } = busyLedger(clock);
      const largest: number[] = [];
      const losing = new Set([2, 5]);
      const http = httpControlLink({
        ...{ master: "http://master.test", edge: "edge-1", ring: new FernetRing([FERNET_KEY]), clock },
        fetch: async (request) => {
          const body = await request.text();
          largest.push(body.length);
          master.time.ms = clock.wallMs();
          const init = { method: request.method, headers: request.headers, ...body === "" ? {} : { body } };
          return await master.app.request(new URL(request.url).pathname, init, { remote: REMOTE });
        },
      });
      const link: ControlLink = {
        listen: () => new Promise(() => {}),
        async report(report) {
          const receipt = await http.report(report);
          if (losing.delete(report.seq)) throw new Error("the answer is lost");
          return receipt;
        },
      };
      const reporter = new LedgerReporter({ edge: "edge-1", ledger, link, clock, log: silentLogger });
      try {
        for (const { open, session } of sessions) {
          open();
          session.bytesSent = 3;
        }
        const whole = JSON.stringify(ledger.cut(true)).length;
        assert.ok(whole > REPORT_MAX_BYTES, `${whole} bytes`);
        for (const { session } of sessions) session.bytesSent = 10;
        await reporter.start();
        await until(async () => {
          await clock.advance(REPORT_INTERVAL_MS);
          const { sessions: known, bytesToAgent } = await store.totals({ from: "2000-01-01" });
          return losing.size === 0 && known === SESSIONS && bytesToAgent === 7 * SESSIONS;
        });
        assert.ok(Math.max(...largest) < REPORT_MAX_BYTES / 2, `${Math.max(...largest)} bytes`);
      } finally {
        await reporter.close();
        await master.close();
        await server?.stop();
      }
    });
  }
});
