/** RestartCheck: a silent path or a server that was started anew (docs/protocols/curve.md, Restarts). */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { CurveConnection } from "../../../src/protocol/curve/connection.ts";
import { RestartCheck } from "../../../src/protocol/curve/restart_check.ts";

function bench(rttSmoothedMs = 10) {
  const connection = { probesInVain: 0, stats: { packetsReceived: 5 }, gauges: { rttSmoothedMs } };
  const check = new RestartCheck();
  return {
    connection,
    check,
    tick: (ms: number) => check.tick(connection as unknown as CurveConnection, ms),
  };
}

describe("RestartCheck", () => {
  it("asks nothing before three unanswered probes", () => {
    const { connection, check, tick } = bench();
    for (let probes = 0; probes < 3; probes++) {
      connection.probesInVain = probes;
      assert.deepEqual([tick(1000), check.deadlineMs], ["wait", Infinity]);
    }
    connection.probesInVain = 3;
    assert.deepEqual([tick(1000), check.deadlineMs], ["ask", 1500]);
  });

  it("asks every 500 ms, or every second round trip where that is longer", () => {
    for (const [rtt, everyMs] of [[10, 500], [250, 500], [251, 502], [900, 1800]] as const) {
      const { connection, check, tick } = bench(rtt);
      connection.probesInVain = 3;
      assert.equal(tick(0), "ask");
      assert.equal(check.deadlineMs, everyMs);
      assert.equal(tick(everyMs - 1), "wait");
      assert.equal(tick(everyMs), "ask");
    }
  });

  it("gives up after three answers, of which each question gets one", () => {
    const { connection, check, tick } = bench();
    connection.probesInVain = 3;
    check.answered();
    for (let i = 0; i < 3; i++) {
      assert.equal(tick(500 * i), "ask");
      check.answered();
      check.answered();
    }
    assert.equal(tick(1499), "wait");
    assert.equal(tick(1500), "give up");
  });

  it("begins anew when a packet has come meanwhile", () => {
    const { connection, check, tick } = bench();
    connection.probesInVain = 3;
    for (let i = 0; i < 3; i++) {
      tick(500 * i);
      check.answered();
    }
    connection.stats.packetsReceived++;
    assert.equal(tick(1500), "ask");
    check.answered();
    assert.equal(tick(2000), "ask");
  });

  it("rests when the connection is acknowledged again", () => {
    const { connection, check, tick } = bench();
    connection.probesInVain = 3;
    tick(0);
    connection.probesInVain = 0;
    assert.deepEqual([tick(500), check.deadlineMs], ["wait", Infinity]);
  });
});
