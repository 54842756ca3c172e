/** EdgeLedger: who is let in, what is reported of sessions, and what the session master's messages do. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { FernetRing, generateFernetKey } from "../../../src/crypto/fernet.ts";
import { EdgeLedger } from "../../../src/edge/ledger/ledger.ts";
import type { SallyportError } from "../../../src/errors.ts";
import type { Session } from "../../../src/transport/port.ts";
import { UNKNOWN_ADDRESS } from "../../../src/protocol/mux/host.ts";
import { type AgentClaim, agentMembers } from "../../../src/wire/token/agent_claim.ts";
import { codeOf } from "../../support/code_of.ts";
import { FERNET_KEY } from "../../support/tunnel.ts";
import { VirtualClock } from "../../support/virtual_clock.ts";

const HOST = "192.0.2.1";
const request = (more: Partial<AgentClaim> = {}, hostname = "a.test", host = HOST) => ({
  extra: agentMembers({
    ...{ id: "agent_1", tenant: "t", generation: 1, limits: {}, agentNetworks: [], visitorNetworks: [] },
    ...more,
  }),
  hostname,
  remote: { host, port: 1 },
});

class FakeSession {
  readonly transport: string = "sealed";
  readonly remote = { host: HOST, port: 1 };
  readonly protocolVersion: number | undefined;
  readonly cipher: string = "aes-gcm";
  readonly halfClose = true;
  streams = 0;
  bytesSent = 0;
  bytesReceived = 0;
  readonly rttMs = 4;
  readonly calls: string[] = [];

  constructor(protocolVersion?: number) {
    this.protocolVersion = protocolVersion;
  }
  open() {
    this.calls.push("open");
    return { the: "stream" };
  }
  askToMove() {
    this.calls.push("askToMove");
  }
  goAway({ code }: SallyportError) {
    this.calls.push(`goAway ${code}`);
  }
  close({ code }: SallyportError) {
    this.calls.push(`close ${code}`);
  }
}

function bench() {
  const clock = new VirtualClock();
  const ring = new FernetRing([FERNET_KEY]);
  const keys: (readonly string[])[] = [];
  const ledger = new EdgeLedger({ clock, ring, keysChanged: (changed) => void keys.push(changed) });
  let changes = 0;
  return {
    ...{ clock, ring, keys, ledger },
    reporting: () => ledger.reportTo(() => changes++),
    changes: () => changes,
    opens: (more: Partial<AgentClaim> = {}, hostname?: string, protocolVersion?: number) => {
      const session = new FakeSession(protocolVersion);
      const watched = ledger.opened(session as unknown as Session, request(more, hostname));
      return { session, watched, end: () => ledger.ended(session as unknown as Session) };
    },
  };
}

describe("EdgeLedger: authorize()", () => {
  it("counts the agent's other names, not older sessions of the same name, up to its limit", () => {
    const { ledger, opens } = bench();
    const limits = { sessions: 2 };
    const codeFor = (hostname: string, more: Partial<AgentClaim> = {}) =>
      codeOf(() => ledger.authorize(request({ limits, ...more }, hostname)));
    opens({ limits }, "a.test");
    opens({ limits }, "a.test");
    opens({ limits, id: "agent_2" }, "x.test");
    assert.equal(codeFor("b.test"), "none");
    const second = opens({ limits }, "b.test");
    assert.equal(codeFor("c.test"), "limit_exceeded");
    assert.equal(codeFor("a.test"), "none");
    assert.equal(codeFor("y.test", { id: "agent_2" }), "none");
    second.end();
    assert.equal(codeFor("c.test"), "none");
  });

  it("lets an agent in from its networks alone", () => {
    const { ledger } = bench();
    const from = (host: string) =>
      codeOf(() => ledger.authorize(request({ agentNetworks: ["192.0.2.0/28"] }, "a.test", host)));
    assert.equal(from("192.0.2.15"), "none");
    assert.equal(from("192.0.2.16"), "access_denied");
  });

  it("a token without an agent is its name's own account", () => {
    const { ledger, opens } = bench();
    const session = new FakeSession();
    ledger.opened(session as unknown as Session, { ...request(), extra: {} });
    opens({ id: "agent_1" });
    const cut = ledger.cut(true)!;
    assert.deepEqual(cut.sessions.map(({ agent }) => agent).sort(), ["agent_1", "hostname:a.test"]);
  });
});

describe("EdgeLedger: opened()", () => {
  it("admits one of two logins that were authorized at once, where the limit leaves room for one", () => {
    const { ledger, opens } = bench();
    const limits = { sessions: 1 };
    for (const hostname of ["a.test", "b.test"]) ledger.authorize(request({ limits }, hostname));
    const first = opens({ limits }, "a.test");
    assert.equal(codeOf(() => opens({ limits }, "b.test")), "limit_exceeded");
    assert.equal(ledger.cut(true)!.sessions.length, 1, "nothing of the other is left");
    opens({ limits }, "a.test");
    first.end();
    assert.equal(
      codeOf(() => opens({ limits }, "b.test")),
      "limit_exceeded",
      "the newer a.test is still there",
    );
  });

  it("takes the limits of a newer generation, and of the same, and no older ones", () => {
    const { ledger, opens } = bench();
    const monthly = (bytes: number) => ({ limits: { monthly_bytes: bytes } });
    const watches = () => ledger.cut(true)!.watched;
    opens({ generation: 2 });
    opens({ generation: 1, ...monthly(5) });
    assert.deepEqual(watches(), []);
    opens({ generation: 2, ...monthly(5) });
    assert.deepEqual(watches(), ["agent_1"]);
    opens({ generation: 3 });
    assert.deepEqual(watches(), []);
  });

  it("gives a session that looks like the one below", () => {
    const { watched, session } = bench().opens({}, "a.test", 2);
    Object.assign(session, { streams: 3, bytesSent: 4, bytesReceived: 5 });
    assert.deepEqual(
      [watched.transport, watched.remote, watched.protocolVersion, watched.cipher, watched.halfClose],
      [session.transport, session.remote, 2, "aes-gcm", true],
    );
    assert.deepEqual([watched.streams, watched.bytesSent, watched.bytesReceived, watched.rttMs], [
      3,
      4,
      5,
      4,
    ]);
    assert.deepEqual(watched.summary?.(), {});
    Object.assign(session, { summary: () => ({ lost: 1 }) });
    assert.deepEqual(watched.summary?.(), { lost: 1 });
    watched.askToMove();
    watched.goAway({ code: "shutdown" } as SallyportError);
    watched.close({ code: "replaced" } as SallyportError);
    assert.deepEqual(session.calls, ["askToMove", "goAway shutdown", "close replaced"]);
  });

  it("counts visitors' streams, and not the edge's own requests", () => {
    const { watched, session } = bench().opens({ limits: { visitors_per_second: 1 } });
    watched.open({ address: UNKNOWN_ADDRESS });
    watched.open({ address: "198.51.100.7" });
    watched.open({ address: UNKNOWN_ADDRESS });
    assert.equal(codeOf(() => watched.open({ address: "198.51.100.7" })), "limit_exceeded");
    assert.deepEqual(session.calls, ["open", "open", "open"]);
  });

  it("hands the stream itself on where the agent has no limits of bytes", () => {
    const plain = bench().opens().watched.open({ address: "198.51.100.7" });
    assert.deepEqual(plain, { the: "stream" });
    for (
      const limits of [{ bytes_per_second_to_agent: 1 }, { bytes_per_second_to_visitor: 1 }, {
        monthly_bytes: 1,
      }]
    ) {
      const held = bench().opens({ limits }).watched.open({ address: "198.51.100.7" });
      assert.notDeepEqual(held, { the: "stream" });
    }
  });
});

describe("EdgeLedger: cut()", () => {
  it("names sessions that are new or have changed, and all of them where it is asked to", () => {
    const { ledger, reporting, opens, clock } = bench();
    reporting();
    assert.equal(ledger.cut(false), undefined);
    assert.deepEqual(ledger.cut(true), { fresh: true, sessions: [], closed: [], usage: [], watched: [] });
    clock.run(5);
    const { session } = opens({}, "a.test", 2);
    const cut = ledger.cut(false)!;
    const { id, ...reported } = cut.sessions[0]!;
    assert.match(id, /^[0-9a-f]{12}-1$/);
    assert.deepEqual([cut.fresh, reported], [false, {
      ...{ agent: "agent_1", tenant: "t", hostname: "a.test", remote: HOST, transport: "sealed" },
      ...{ cipher: "aes-gcm", streams: 0, protocolVersion: 2, sinceMs: Date.UTC(2026, 0, 1) + 5 },
      ...{ bytesToAgent: 0, bytesToVisitor: 0 },
    }]);
    assert.equal(ledger.cut(false), undefined);
    for (const change of [{ streams: 1 }, { bytesSent: 10 }, { bytesReceived: 20 }]) {
      Object.assign(session, change);
      assert.equal(ledger.cut(false)!.sessions.length, 1, JSON.stringify(change));
      assert.equal(ledger.cut(false)?.sessions.length, undefined);
    }
    assert.equal(ledger.cut(true)!.sessions.length, 1);
    assert.equal(opens({}, "b.test").watched.protocolVersion, undefined);
    assert.ok(!("protocolVersion" in ledger.cut(false)!.sessions[0]!));
  });

  it("gives what each session has carried once, its last bytes too", () => {
    const { ledger, reporting, opens } = bench();
    reporting();
    const { session, end } = opens();
    Object.assign(session, { bytesSent: 10, bytesReceived: 20 });
    const bytes = () => ledger.cut(false)?.usage.map((used) => [used.bytesToAgent, used.bytesToVisitor]);
    assert.deepEqual(bytes(), [[10, 20]]);
    Object.assign(session, { bytesSent: 11, bytesReceived: 22 });
    end();
    assert.deepEqual(bytes(), [[1, 2]]);
    end();
    assert.equal(bytes(), undefined);
  });

  it("names closed sessions once, of those that were reported", () => {
    const { ledger, reporting, opens } = bench();
    reporting();
    const first = opens();
    const { id } = ledger.cut(false)!.sessions[0]!;
    const second = opens();
    first.end();
    second.end();
    assert.deepEqual(ledger.cut(false)!.closed, [id]);
    assert.equal(ledger.cut(false), undefined);
    const third = opens();
    ledger.cut(false);
    third.end();
    assert.deepEqual(ledger.cut(true)!.closed, [], "those that aren't named are gone");
  });

  it("tells of each beginning and end", () => {
    const { reporting, opens, changes } = bench();
    opens().end();
    reporting();
    const { end } = opens();
    assert.equal(changes(), 1);
    end();
    end();
    assert.equal(changes(), 2);
  });

  it("forgets an agent that has gone when all of it is reported; at once where nothing is to be", () => {
    const limits = { monthly_bytes: 1_000 };
    const silent = bench();
    silent.opens({ limits }).end();
    assert.deepEqual(silent.ledger.cut(true)!.watched, []);
    const { ledger, reporting, opens, clock } = bench();
    reporting();
    const { end } = opens({ limits });
    clock.run(10);
    end();
    assert.deepEqual(ledger.cut(true)!.watched, ["agent_1"]);
    ledger.reported({ month: "2026-01", used: [] });
    assert.deepEqual(ledger.cut(true)!.watched, []);
  });

  it("reported() keeps an agent whose session stands", () => {
    const { ledger, opens } = bench();
    const limits = { streams: 1 };
    const { session } = opens({ limits });
    ledger.cut(true);
    ledger.reported({ month: "2026-01", used: [] });
    session.streams = 1;
    const { watched } = opens({ limits }, "b.test");
    assert.equal(codeOf(() => watched.open({ address: "198.51.100.7" })), "limit_exceeded");
  });

  it("reported() tells each agent its bytes of the month", () => {
    const { ledger, opens } = bench();
    const limits = { monthly_bytes: 1_000 };
    const [one, other] = [opens({ limits }), opens({ limits, id: "agent_2" })];
    ledger.reported({ month: "2026-01", used: [{ agent: "agent_1", bytes: 1_000 }] });
    assert.equal(codeOf(() => one.watched.open({ address: "198.51.100.7" })), "limit_exceeded");
    assert.equal(codeOf(() => other.watched.open({ address: "198.51.100.7" })), "none");
  });
});

describe("EdgeLedger: hear()", () => {
  it("seq is the largest number heard; a list of all begins it anew", () => {
    const { ledger } = bench();
    assert.equal(ledger.seq, undefined);
    ledger.hear({ kind: "keys", seq: 0, keys: [] });
    assert.equal(ledger.seq, 0);
    ledger.hear({ kind: "keys", seq: 5, keys: [] });
    ledger.hear({ kind: "keys", seq: 3, keys: [] });
    assert.equal(ledger.seq, 5);
    ledger.hear({ kind: "all", seq: 2, rulings: [], keys: [] });
    assert.equal(ledger.seq, 2);
  });

  it("takes Fernet keys, and leaves the ring alone where there are none", () => {
    const { ledger, ring, keys } = bench();
    const next = generateFernetKey();
    const sealed = new FernetRing([next]).seal(Uint8Array.of(1), { nowMs: 1_000 });
    ledger.hear({ kind: "agent", seq: 1, ruling: { agent: "x", blocked: false, generation: 1 } });
    ledger.hear({ kind: "keys", seq: 1, keys: [] });
    ledger.hear({ kind: "all", seq: 1, rulings: [], keys: [] });
    assert.deepEqual([ring.tryOpen(sealed), keys], ["key", []]);
    ledger.hear({ kind: "keys", seq: 2, keys: [next] });
    assert.deepEqual([...ring.open(sealed)], [1]);
    ledger.hear({ kind: "all", seq: 3, rulings: [], keys: [FERNET_KEY] });
    assert.deepEqual(keys, [[next], [FERNET_KEY]]);
  });

  it("close_session ends that session", () => {
    const { ledger, opens } = bench();
    const [a, b] = [opens({}, "a.test"), opens({}, "b.test")];
    const ids = ledger.cut(true)!.sessions;
    const { id } = ids.find(({ hostname }) => hostname === "b.test")!;
    ledger.hear({ kind: "close_session", seq: 1, session: id });
    ledger.hear({ kind: "close_session", seq: 2, session: "unknown" });
    assert.deepEqual([a.session.calls, b.session.calls], [[], ["close aborted"]]);
  });

  it("a list of all rulings ends sessions of agents that are blocked, or whose key was replaced", () => {
    const { ledger, opens } = bench();
    const sessions = ["blocked", "older", "same", "unknown"].map((id) => opens({ id, generation: 2 }));
    ledger.hear({
      kind: "all",
      seq: 1,
      keys: [],
      rulings: [
        { agent: "blocked", blocked: true, generation: 1 },
        { agent: "older", blocked: false, generation: 3 },
        { agent: "same", blocked: false, generation: 2 },
      ],
    });
    assert.deepEqual(sessions.map(({ session }) => session.calls.length), [1, 1, 0, 0]);
  });
});
