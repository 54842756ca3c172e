/** EdgeHub in virtual time: what it does by itself while its store is down or its edges are silent. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { FernetRing } from "../../src/crypto/fernet.ts";
import { CHANGES_POLL_MS, EDGE_SILENT_MS, EdgeHub, SWEEP_INTERVAL_MS } from "../../src/master/edge_hub.ts";
import { KeyRing } from "../../src/master/key_ring.ts";
import { openStore } from "../../src/master/store/sql_store.ts";
import type { Store } from "../../src/master/store/store.ts";
import { silentLogger } from "../../src/telemetry/log.ts";
import { live, report } from "../conformance/store_suite.ts";
import { type LogLine, recordingLogger } from "../support/tunnel.ts";
import { VirtualClock } from "../support/virtual_clock.ts";
import { FERNET_KEY } from "./helpers.ts";

const keys = () => new KeyRing(new FernetRing([FERNET_KEY]), [FERNET_KEY]);

describe("EdgeHub", () => {
  it("ends the sessions of an edge that reports no more, even where the clock has jumped", async () => {
    const clock = new VirtualClock();
    const store = await openStore(":memory:");
    const hub = new EdgeHub({ store, keys: keys(), clock, log: silentLogger });
    try {
      await hub.start();
      await hub.report(report(1, { sessions: [live("s1", "agent_a")] }));
      clock.setAhead(2 * EDGE_SILENT_MS);
      await clock.advance(SWEEP_INTERVAL_MS);
      await hub.report(report(2, {}));
      await clock.advance(EDGE_SILENT_MS);
      assert.ok(await store.session("s1"));
      await clock.advance(2 * SWEEP_INTERVAL_MS);
      assert.equal(await store.session("s1"), undefined);
    } finally {
      hub.close();
      await store.close();
    }
  });

  it("says in one line every few seconds that its store is down", async () => {
    const clock = new VirtualClock();
    const lines: LogLine[] = [];
    const store = await openStore(":memory:");
    const down = new Proxy(store, {
      get(target, name) {
        if (name === "kind") return "postgres";
        if (name === "changesSince") return () => Promise.reject(new Error("down"));
        return Reflect.get(target, name).bind(target);
      },
    }) as Store;
    const hub = new EdgeHub({ store: down, keys: keys(), clock, log: recordingLogger(lines) });
    try {
      await hub.start();
      await clock.advance(100 * CHANGES_POLL_MS);
      assert.ok(lines.length >= 1 && lines.length <= 6, `${lines.length} lines`);
    } finally {
      hub.close();
      await store.close();
    }
  });
});
