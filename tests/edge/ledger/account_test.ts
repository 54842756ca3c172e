/** Account: an agent's limits and what it has used, day by day and month by month. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Account } from "../../../src/edge/ledger/account.ts";
import type { Session } from "../../../src/transport/port.ts";
import type { AgentClaim } from "../../../src/wire/token/agent_claim.ts";
import { codeOf } from "../../support/code_of.ts";
import { VirtualClock } from "../../support/virtual_clock.ts";

const DAY_MS = 86_400_000;
const VISITOR = "198.51.100.7";
const claim = (more: Partial<AgentClaim> = {}): AgentClaim => ({
  generation: 1,
  limits: {},
  agentNetworks: [],
  visitorNetworks: [],
  ...more,
});
const session = (streams = 0) => ({ streams }) as Session;
const monthOf = (clock: VirtualClock) => new Date(clock.wallMs()).toISOString().slice(0, 7);
const dayOf = (clock: VirtualClock) => new Date(clock.wallMs()).toISOString().slice(0, 10);

function bench(more: Partial<AgentClaim> = {}) {
  const clock = new VirtualClock();
  return { clock, account: new Account("agent_1", claim(more), clock) };
}

describe("Account: admit()", () => {
  it("lets in up to the limit of streams over all sessions, and counts whom it lets in", () => {
    const { account } = bench({ limits: { streams: 3 } });
    const sessions = [session(1), session(1)];
    for (const one of sessions) account.sessionOpened(one, "a.test");
    assert.equal(account.streams, 2);
    account.admit(VISITOR);
    Object.assign(sessions[0]!, { streams: 2 });
    assert.equal(codeOf(() => account.admit(VISITOR)), "limit_exceeded");
    assert.equal(account.take()[0]!.streams, 1);
  });

  it("lets in the visitors of a second, and others as time passes", () => {
    const { clock, account } = bench({ limits: { visitors_per_second: 2 } });
    const codes = () => [1, 2, 3].map(() => codeOf(() => account.admit(VISITOR)));
    assert.deepEqual(codes(), ["none", "none", "limit_exceeded"]);
    clock.run(500);
    assert.deepEqual(codes(), ["none", "limit_exceeded", "limit_exceeded"]);
  });

  it("lets in visitors from its networks alone, all where it has none", () => {
    const { account } = bench({ visitorNetworks: ["198.51.100.0/24"] });
    assert.equal(codeOf(() => account.admit(VISITOR)), "none");
    assert.equal(codeOf(() => account.admit("203.0.113.1")), "access_denied");
    assert.equal(codeOf(() => bench().account.admit("203.0.113.1")), "none");
  });

  it("refuses when the month's bytes are used up", () => {
    const { account } = bench({ limits: { monthly_bytes: 100 } });
    account.count(99);
    account.admit(VISITOR);
    account.count(1);
    assert.throws(() => account.admit(VISITOR), {
      code: "limit_exceeded",
      retryable: true,
      message: /used up its 100 bytes for 20/,
    });
  });
});

describe("Account: the month's bytes", () => {
  it("count() ends a stream at the limit, whichever side counted the bytes", () => {
    const { clock, account } = bench({ limits: { monthly_bytes: 100 } });
    account.reported(monthOf(clock), 40);
    assert.equal(account.count(59), undefined);
    assert.equal(account.count(1)?.code, "limit_exceeded");
    assert.equal(account.count(0)?.code, "limit_exceeded");
  });

  it("bytes that are on their way to the session master count until it has said what it knows", () => {
    const { clock, account } = bench({ limits: { monthly_bytes: 100 } });
    account.count(60);
    account.take();
    assert.equal(account.count(39), undefined);
    assert.equal(account.count(1)?.code, "limit_exceeded");
    account.reported(monthOf(clock), 10);
    assert.equal(account.count(0), undefined, "10 known and 40 new");
    assert.equal(account.count(50)?.code, "limit_exceeded");
  });

  it("reported() of another month, or without a figure, leaves what is known", () => {
    const { clock, account } = bench({ limits: { monthly_bytes: 100 } });
    account.reported(monthOf(clock), 90);
    account.reported("1999-12", 5);
    account.reported(monthOf(clock), undefined);
    assert.equal(account.count(9), undefined);
    assert.equal(account.count(1)?.code, "limit_exceeded");
  });

  it("a new month begins at nothing", () => {
    const { clock, account } = bench({ limits: { monthly_bytes: 100 } });
    account.reported(monthOf(clock), 50);
    account.count(30);
    account.take();
    assert.equal(account.count(20)?.code, "limit_exceeded");
    clock.run(31 * DAY_MS);
    assert.equal(account.count(99), undefined);
    assert.equal(account.count(1)?.code, "limit_exceeded");
  });

  it("a token's figure counts where it is this month's and larger", () => {
    const clock = new VirtualClock();
    const limits = { monthly_bytes: 100 };
    const month = monthOf(clock);
    const account = new Account("agent_1", claim({ limits, month: { month, bytes: 50 } }), clock);
    account.update(claim({ limits, month: { month, bytes: 20 } }));
    assert.equal(account.count(49), undefined);
    account.update(claim({ limits, month: { month: "1999-12", bytes: 90 } }));
    assert.equal(account.count(0), undefined);
    assert.equal(account.count(1)?.code, "limit_exceeded");
  });

  it("without a monthly limit nothing is counted or ended", () => {
    const { account } = bench();
    assert.equal(account.count(1e15), undefined);
    assert.deepEqual([account.watched, account.holds], [false, false]);
    account.update(claim({ limits: { monthly_bytes: 100 } }));
    assert.equal(account.count(99), undefined);
  });
});

describe("Account: limits of bytes a second", () => {
  it("update() makes, changes and takes away buckets", () => {
    const { account } = bench({ limits: { bytes_per_second_to_agent: 1_000 } });
    const { toAgent } = account;
    assert.deepEqual([account.toVisitor, account.holds, account.watched], [undefined, true, false]);
    assert.equal(toAgent!.take(50), 0);
    assert.equal(toAgent!.take(10), 10);
    account.update(claim({ generation: 2, limits: { bytes_per_second_to_agent: 10_000 } }));
    assert.equal(account.toAgent, toAgent, "the debt stays");
    assert.equal(toAgent!.waitMs, 1);
    assert.equal(account.generation, 2);
    account.update(claim({ limits: { bytes_per_second_to_visitor: 5 } }));
    assert.deepEqual([account.toAgent, account.holds], [undefined, true]);
    assert.notEqual(account.toVisitor, undefined);
  });
});

describe("Account: what is reported", () => {
  it("take() gives each day's figures once", () => {
    const { clock, account } = bench({ tenant: "t" });
    const first = dayOf(clock);
    account.carried(10, 20);
    account.carried(0, 5);
    account.carried(0, 0);
    account.admit(VISITOR);
    clock.run(DAY_MS);
    account.carried(1, 0);
    const zero = { agent: "agent_1", tenant: "t", connectedMs: 0 };
    assert.deepEqual(account.take(), [
      { ...zero, day: first, bytesToAgent: 10, bytesToVisitor: 25, streams: 1 },
      { ...zero, day: dayOf(clock), bytesToAgent: 1, bytesToVisitor: 0, streams: 0 },
    ]);
    account.carried(0, 0);
    assert.deepEqual(account.take(), []);
  });

  it("connected time runs from the first session to the end of the last", () => {
    const { clock, account } = bench();
    const [a, b] = [session(), session()];
    clock.run(1_000);
    account.sessionOpened(a, "a.test");
    clock.run(100);
    account.sessionOpened(b, "a.test");
    clock.run(100);
    account.sessionEnded(a);
    clock.run(50);
    assert.equal(account.take()[0]!.connectedMs, 250);
    clock.run(7);
    account.sessionEnded(b);
    clock.run(1_000);
    assert.equal(account.take()[0]!.connectedMs, 7);
    clock.run(1_000);
    assert.deepEqual(account.take(), []);
    account.sessionOpened(a, "a.test");
    clock.run(1);
    assert.equal(account.take()[0]!.connectedMs, 1);
    assert.deepEqual(account.take(), []);
  });

  it("idle is true when no session stands and all is reported", () => {
    const { account } = bench({ limits: { monthly_bytes: 1_000 } });
    assert.equal(account.idle, true);
    const only = session();
    account.sessionOpened(only, "a.test");
    assert.equal(account.idle, false);
    account.carried(1, 1);
    account.count(2);
    account.sessionEnded(only);
    assert.equal(account.idle, false, "not taken");
    account.take();
    assert.equal(account.idle, false, "not reported");
    account.reported("", undefined);
    assert.equal(account.idle, true);
  });

  it("an agent without a tenant is the default one's", () => {
    assert.equal(bench().account.tenant, "default");
    assert.equal(bench({ tenant: "t" }).account.tenant, "t");
  });
});
