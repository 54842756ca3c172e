/** The ledger of an edge: limits, rulings, and what is reported, with agents over a network in memory. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { FernetRing } from "../../src/crypto/fernet.ts";
import { EdgeLedger } from "../../src/edge/ledger/ledger.ts";
import { type ControlLink, LedgerReporter } from "../../src/edge/ledger/reporter.ts";
import { TokenBucket } from "../../src/edge/ledger/token_bucket.ts";
import type { SessionStream } from "../../src/transport/port.ts";
import { silentLogger } from "../../src/telemetry/log.ts";
import type { EdgeReport } from "../../src/wire/control/control_messages.ts";
import { type AgentClaim, agentMembers } from "../../src/wire/token/agent_claim.ts";
import { AlertDescription } from "../../src/wire/tls/tls_alert.ts";
import { assertAlert, FERNET_KEY, NOTHING, TestEdge } from "../support/tunnel.ts";
import { seedOf } from "../support/seeded.ts";
import { VirtualClock } from "../support/virtual_clock.ts";

const NONE: AgentClaim = { generation: 1, limits: {}, agentNetworks: [], visitorNetworks: [] };
const claim = (more: Partial<AgentClaim> = {}) =>
  agentMembers({ ...NONE, id: "agent_1", tenant: "t", ...more });

const start = () => TestEdge.start();

describe("EdgeLedger: limits at the edge", () => {
  const cases: [string, Partial<AgentClaim>, number][] = [
    ["streams", { limits: { streams: 1 } }, AlertDescription.internal_error],
    ["visitors a second", { limits: { visitors_per_second: 1 } }, AlertDescription.internal_error],
  ];
  for (const [what, limited, alert] of cases) {
    it(`${what}: the second visitor is refused, and later ones are served again`, async () => {
      const test = await start();
      const agent = await test.connect({ extra: claim(limited) });
      const first = await test.visit();
      assertAlert((await test.visit()).conn, alert);
      first.conn.abort();
      await test.advance(1_500);
      const third = await test.visit();
      await test.advance(10);
      assert.equal(third.conn.closes, 0);
      assert.equal(await test.refusals("visitor", "limit_exceeded"), 1);
      void agent;
      await test.assertNothingLeft();
    });
  }

  it("visitors from other networks are refused", async () => {
    const test = await start();
    await test.connect({ extra: claim({ visitorNetworks: ["198.51.100.0/24"] }) });
    const { conn } = await test.visit("a.test", { from: "203.0.113.1" });
    await test.advance(10);
    assert.ok(conn.ended || conn.closes > 0);
    assert.equal(await test.refusals("visitor", "access_denied"), 1);
    const other = await test.visit();
    assert.equal(other.conn.closes, 0);
    await test.assertNothingLeft();
  });

  it("an agent from another network, or with too many sessions, isn't let in", async () => {
    const test = await start();
    const extra = claim({ limits: { sessions: 1 } });
    await assert.rejects(test.connect({ extra: claim({ agentNetworks: ["203.0.113.0/24"] }) }));
    await test.connect({ hostname: "a.test", extra });
    await assert.rejects(test.connect({ hostname: "b.test", extra }));
    assert.equal(await test.refusals("agent", "limit_exceeded"), 1);
    await test.assertNothingLeft();
  });

  it("one of two logins at once is refused where there may be one session", async () => {
    const test = await start();
    const extra = claim({ limits: { sessions: 1 } });
    const logins = ["a.test", "b.test"].map((hostname) =>
      test.begin(test.token({ hostname, extra })).dialled
    );
    await test.network.settle(Promise.allSettled(logins));
    await test.advance(100);
    assert.equal(await test.refusals("agent", "limit_exceeded"), 1);
    assert.match(test.logged("limit_exceeded").message, /its limit of 1 sessions at this edge/);
    await test.assertNothingLeft();
  });

  for (const direction of ["to the agent", "to the visitor"] as const) {
    it(`bytes a second ${direction} come at the rate that is set, within 3 %, and none is lost`, {
      timeout: 60_000,
    }, async () => {
      const rate = 500_000;
      const seconds = 10;
      const test = await start();
      const limits = { bytes_per_second_to_agent: rate, bytes_per_second_to_visitor: rate };
      const agent = await test.connect({ extra: claim({ limits }) });
      const { conn, hello } = await test.visit();
      const [stream] = agent.streams;
      const source = direction === "to the agent" ? conn : stream!;
      const sink = direction === "to the agent" ? stream! : conn;
      const before = sink.byteLength;
      // More than the time lets through: what isn't taken waits at its source.
      const chunk = new Uint8Array(50_000).fill(7);
      let sent = 0;
      const endMs = test.network.clock.nowMs() + seconds * 1000;
      while (test.network.clock.nowMs() < endMs) {
        if (sent - (sink.byteLength - before) < 600_000) {
          source.write(chunk);
          sent += chunk.length;
        }
        await test.advance(20);
      }
      const came = sink.byteLength - before;
      assert.ok(Math.abs(came / seconds / rate - 1) < 0.03, `${came / seconds} bytes a second`);
      await test.advance(10_000);
      assert.equal(sink.byteLength - before, sent, "nothing is dropped");
      void hello;
      await test.assertNothingLeft();
    });
  }

  it("the month's bytes end streams within 1 %, and the next visitor is refused clearly", async () => {
    const quota = 2_000_000;
    const test = await start();
    const month = new Date(test.network.clock.wallMs()).toISOString().slice(0, 7);
    const agent = await test.connect({
      extra: claim({ limits: { monthly_bytes: quota }, month: { month, bytes: 500_000 } }),
    });
    const { conn } = await test.visit();
    const [stream] = agent.streams;
    for (let sent = 0; sent < 3_000_000 && stream!.closes === 0; sent += 10_000) {
      conn.write(new Uint8Array(10_000));
      await test.advance(5);
    }
    assert.ok(Math.abs(stream!.byteLength / 1_500_000 - 1) < 0.01, `${stream!.byteLength} bytes`);
    assertAlert((await test.visit()).conn, AlertDescription.internal_error);
    assert.match(test.logged("limit_exceeded").message, /used up its 2000000 bytes for \d{4}-\d\d/);
    await test.assertNothingLeft();
  });

  it("limits of one agent hold for its other streams, and leave other agents alone", async () => {
    const test = await start();
    const slow = await test.connect({
      hostname: "a.test",
      extra: claim({ limits: { bytes_per_second_to_agent: 50_000 } }),
    });
    const fast = await test.connect({ hostname: "b.test" });
    const visitors = [await test.visit("a.test"), await test.visit("a.test"), await test.visit("b.test")];
    const chunk = new Uint8Array(100_000);
    for (const { conn } of visitors) conn.write(chunk);
    await test.advance(1_000);
    assert.equal(fast.streams[0]!.byteLength >= 100_000, true);
    const both = slow.streams.reduce((sum, stream) => sum + stream.byteLength, 0);
    assert.ok(both < 150_000, `${both} bytes`);
    await test.advance(5_000);
    assert.ok(slow.streams.reduce((sum, stream) => sum + stream.byteLength, 0) >= 200_000);
    await test.assertNothingLeft();
  });
});

describe("TokenBucket", () => {
  it("lets through its rate over any time, whatever is asked for when", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1_000, max: 10_000_000 }),
        fc.array(
          fc.record({ bytes: fc.integer({ min: 1, max: 65_536 }), quietMs: fc.integer({ min: 0, max: 50 }) }),
          { minLength: 20, maxLength: 200 },
        ),
        (rate, steps) => {
          const clock = new VirtualClock();
          const bucket = new TokenBucket(clock, rate);
          let passed = 0;
          for (const { bytes, quietMs } of steps) {
            passed += bytes;
            clock.run(Math.max(quietMs, bucket.take(bytes)));
          }
          const burst = rate * 0.1;
          const nowMs = clock.nowMs();
          assert.ok(passed <= rate * nowMs / 1000 + burst + 1, `${passed} bytes in ${nowMs} ms`);
        },
      ),
      { seed: seedOf(51), numRuns: 100 },
    );
  });
});

/** A session that does nothing. */
function session(more: Record<string, unknown> = {}) {
  const closed: unknown[] = [];
  return {
    transport: "snitun",
    remote: { host: "192.0.2.1", port: 1 },
    protocolVersion: 2,
    cipher: "aes-gcm",
    halfClose: true,
    streams: 0,
    bytesSent: 0,
    bytesReceived: 0,
    rttMs: undefined,
    goAway() {},
    askToMove() {},
    open: () => NOTHING as unknown as SessionStream,
    closed,
    close: (reason: unknown) => void closed.push(reason),
    ...more,
  };
}

/** Ten seconds before a day ends. */
const nearMidnight = () => new VirtualClock({ wallMs: Date.UTC(2026, 10, 27, 23, 59, 50) });

function ledgerWith(clock = nearMidnight()) {
  return { clock, ledger: new EdgeLedger({ clock, ring: new FernetRing([FERNET_KEY]) }) };
}

const request = (extra: Record<string, unknown>, hostname = "a.test") =>
  ({ extra, hostname, remote: { host: "192.0.2.1", port: 1 } }) as const;

describe("EdgeLedger: the session master's rulings", () => {
  it("end the sessions of a suspended agent at once, and refuse its tokens, until it is resumed", () => {
    const { ledger } = ledgerWith();
    const mine = session();
    const other = session();
    ledger.opened(mine, request(claim()));
    ledger.opened(other, request(claim({ id: "agent_2" })));
    const ruling = (seq: number, blocked: boolean, generation = 1) =>
      ledger.hear({ kind: "agent", seq, ruling: { agent: "agent_1", blocked, generation } });
    ruling(1, true);
    assert.equal(mine.closed.length, 1);
    assert.equal(other.closed.length, 0);
    assert.throws(() => ledger.authorize(request(claim())), { code: "access_denied" });
    ledger.authorize(request(claim({ id: "agent_2" })));
    ruling(2, false);
    ledger.authorize(request(claim()));
    ruling(3, false, 2);
    assert.throws(() => ledger.authorize(request(claim())), { code: "access_denied", message: /replaced/ });
    ledger.authorize(request(claim({ generation: 2 })));
    assert.equal(ledger.seq, 3);
  });

  it("all of them take the place of those before", () => {
    const { ledger } = ledgerWith();
    ledger.hear({ kind: "agent", seq: 7, ruling: { agent: "agent_1", blocked: true, generation: 1 } });
    ledger.hear({ kind: "all", seq: 3, rulings: [], keys: [FERNET_KEY] });
    ledger.authorize(request(claim()));
    assert.equal(ledger.seq, 3);
  });
});

describe("LedgerReporter", () => {
  it("have each byte, stream and second once, by day, whatever happens to master and edge in between", async () => {
    const clock = nearMidnight();
    let kept: string | undefined;
    const applied = new Map<string, number>();
    const total = { bytes: 0, ms: 0, days: new Set<string>() };
    let mode: "works" | "down" | "answer lost" = "works";
    const link: ControlLink = {
      listen: () => new Promise(() => {}),
      report(report: EdgeReport) {
        if (mode === "down") return Promise.reject(new Error("down"));
        if ((applied.get(report.epoch) ?? 0) < report.seq) {
          applied.set(report.epoch, report.seq);
          for (const { bytesToAgent, bytesToVisitor, connectedMs, day } of report.usage) {
            total.bytes += bytesToAgent + bytesToVisitor;
            total.ms += connectedMs;
            total.days.add(day);
          }
        }
        if (mode === "answer lost") return Promise.reject(new Error("cut"));
        return Promise.resolve({ epoch: report.epoch, seq: report.seq, month: "2026-11", used: [] });
      },
    };
    const boot = async () => {
      const { ledger } = ledgerWith(clock);
      const reporter = new LedgerReporter({
        ...{ edge: "e", ledger, link, clock, log: silentLogger },
        journal: {
          read: () => Promise.resolve(kept),
          write: (text) => Promise.resolve(void (kept = text)),
        },
      });
      await reporter.start();
      const own = session();
      ledger.opened(own, request(claim()));
      return own;
    };
    let own = await boot();
    let carried = 0;
    const carry = async (ms: number) => {
      own.bytesSent += 10;
      own.bytesReceived += 5;
      carried += 15;
      await clock.advance(ms);
    };
    for (
      const next of ["works", "down", "down", "answer lost", "works", "answer lost", "down", "works"] as const
    ) {
      mode = next;
      await carry(6_000);
      await carry(6_000);
    }
    assert.equal(total.bytes, carried, "after the master was away");
    assert.deepEqual([...total.days], ["2026-11-27", "2026-11-28"]);
    // Killed: the journal has all but the last seconds.
    mode = "down";
    await carry(12_000);
    const before = carried;
    own = await boot();
    mode = "works";
    await clock.advance(6_000);
    assert.equal(total.bytes, before);
    await carry(6_000);
    assert.equal(total.bytes, carried);
  });
});
