/** The transport "auto": an agent, an edge that offers three transports, and networks that let some of them through. */
import assert from "node:assert/strict";
import { transportsOf } from "../support/transports.ts";
import { describe, it } from "node:test";
import { type Agent, type AgentOptions, createAgent } from "../../src/agent/agent.ts";
import type { Grant } from "../../src/transport/grant.ts";
import type { RememberedTransport, TransportMemory } from "../../src/agent/transport_choice.ts";
import { loadSodium } from "../../src/crypto/sodium.ts";
import { SallyportError } from "../../src/errors.ts";
import type { Conn, Runtime } from "../../src/runtime/port.ts";
import { Metrics } from "../../src/telemetry/metrics.ts";
import { identities } from "../conformance/quic_helpers.ts";
import { pattern } from "../conformance/runtime_helpers.ts";
import { edgeKeys } from "../support/sealed.ts";
import {
  AGENT_HOST,
  bytesFrom,
  EDGE_HOST,
  EDGE_PORT,
  type LogLine,
  recordingLogger,
  TestEdge,
  VISITOR_HOST,
  WatchedStream,
} from "../support/tunnel.ts";
import { parsePrometheus, sampleValue } from "../telemetry/prometheus.ts";
import { ATTEMPT_DELAY_MS, TURN_PATIENCE_MS } from "../../src/agent/race.ts";
import { TRANSPORT_REMEMBERED_MS } from "../../src/agent/transport_choice.ts";

const CURVE_PORT = 4500;
const QUIC_PORT = 4600;
const crypto = await loadSodium();
const sodium = await loadSodium();
const keys = edgeKeys(sodium);
const { own: identity, fingerprint } = await identities();

/** What the network does to the agent. */
interface Network {
  /** TCP connections aren't answered. */
  tcpDropped?: boolean;
  /** TCP connections stand, and carry nothing. */
  tcpMute?: boolean;
  /** Why the runtime's QUIC refuses the edge's certificate. */
  quicRefusal?: string;
  /** Addresses of names. */
  names?: Record<string, readonly string[]>;
}

interface SiteOptions extends Partial<AgentOptions> {
  readonly network?: Network;
  /** Datagrams get through. */
  readonly udp?: boolean;
  /** One way. */
  readonly latencyMs?: number;
  /** What the session master says otherwise of the edge. */
  readonly offer?: Partial<Grant["edge"]>;
}

/** An agent with "auto" and the world around it. */
class Site {
  readonly lines: LogLine[] = [];
  readonly metrics = new Metrics();
  readonly streams: WatchedStream[] = [];
  readonly network: Network;
  grants = 0;
  outcome: unknown;
  readonly agent: Agent;
  readonly test: TestEdge;

  private constructor(
    test: TestEdge,
    network: Network,
    options: Partial<AgentOptions>,
    edge: Partial<Grant["edge"]>,
  ) {
    this.test = test;
    this.network = network;
    this.agent = createAgent({
      runtime: this.#runtime(),
      transport: "auto",
      networks: () => "192.0.2.0/24",
      // deno-lint-ignore require-await -- a source of grants answers with promises
      grants: async () => {
        this.grants++;
        const { token, claims } = test.token();
        return { token, ...claims, edge: { ...OFFER, ...edge } };
      },
      connector: (stream) => void this.streams.push(new WatchedStream(stream)),
      log: recordingLogger(this.lines),
      metrics: this.metrics,
      random: () => 0.5,
      ...options,
    });
  }

  static async start(options: SiteOptions = {}): Promise<Site> {
    const { network = {}, udp = true, latencyMs = 1, offer = {}, ...agentOptions } = options;
    const test = await TestEdge.start({
      transports: transportsOf({ sealed: { sodium, keys }, curve: { crypto, keys }, quic: identity }),
    });
    await test.edge.listen({ host: "0.0.0.0", port: CURVE_PORT, accepts: "curve" });
    await test.edge.listen({ host: "0.0.0.0", port: QUIC_PORT, accepts: "quic" });
    test.network.setLink(EDGE_HOST, AGENT_HOST, { latencyMs, datagramLoss: udp ? 0 : 1 });
    const site = new Site(test, network, agentOptions, offer);
    site.agent.run().then(() => site.outcome ??= "closed", (error) => site.outcome = error);
    return site;
  }

  #runtime(): Runtime {
    const inner = this.test.runtime(AGENT_HOST);
    const wait = (ms: number) => new Promise<void>((resolve) => void inner.clock.after(ms, resolve));
    const dial: Runtime["dial"] = async (options) => {
      if (this.network.tcpDropped) {
        await wait(options.timeoutMs);
        throw new SallyportError("deadline_exceeded", "nobody answers", { side: "peer" });
      }
      const conn = await inner.dial(options);
      return this.network.tcpMute ? mute(conn) : conn;
    };
    const resolve: Runtime["resolve"] = async (host) =>
      this.network.names?.[host] ?? await inner.resolve(host);
    const quic: Runtime["quic"] = async () => {
      const [own, why] = [await inner.quic(), this.network.quicRefusal];
      if (why === undefined) return own;
      const refused = new SallyportError("not_supported", why, { side: "local", retryable: true });
      return { ...own, capabilities: own.capabilities, dial: () => Promise.reject(refused) };
    };
    return { ...inner, dial, resolve, quic };
  }

  get transport(): string | undefined {
    return this.agent.session?.transport;
  }

  /** Transports of attempts, by outcome. */
  async attempts(outcome: string): Promise<Record<string, number>> {
    const parsed = parsePrometheus(await this.metrics.render());
    const found: Record<string, number> = {};
    for (const transport of ["quic", "curve", "snitun", "sealed"]) {
      const labels = { transport, outcome };
      const count = sampleValue(parsed, "sallyport_transport_attempts_total", labels);
      if (count > 0) found[transport] = count;
    }
    return found;
  }

  /** Fails unless a visitor gets through, and the edge has this one session. */
  async assertServes(): Promise<void> {
    assert.equal(this.test.edge.sessions, 1);
    const { conn, hello } = await this.test.visit("a.test", { from: VISITOR_HOST });
    await this.test.advance(500);
    const stream = this.streams.at(-1)!;
    assert.deepEqual(bytesFrom(stream), hello);
    stream.write(pattern(1_000));
    await this.test.advance(500);
    assert.deepEqual(bytesFrom(conn), pattern(1_000));
    conn.conn.abort();
    await this.test.advance(500);
  }

  async finish(): Promise<void> {
    await this.test.network.settle(this.agent.close(0));
    await this.test.advance(0);
    assert.equal(this.outcome, "closed");
    this.test.assertNoSecretLogged();
    await this.test.assertNothingLeft(20_000);
  }
}

const OFFER: Grant["edge"] = {
  host: EDGE_HOST,
  port: EDGE_PORT,
  curvePort: CURVE_PORT,
  publicKey: keys.publicKey,
  transports: ["snitun", "sealed", "curve"],
};

/** The same with QUIC, which comes first. */
const WITH_QUIC: Partial<Grant["edge"]> = {
  quicPort: QUIC_PORT,
  certificateFingerprint: fingerprint,
  transports: ["snitun", "sealed", "curve", "quic"],
};

/** A connection whose bytes get lost. */
function mute(conn: Conn): Conn {
  return new Proxy(conn, {
    get: (target, name) => {
      if (name === "write") return () => true;
      const value = Reflect.get(target, name, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}

/** A memory that a test can look into. */
function memory(): TransportMemory & { readonly kept: Map<string, RememberedTransport> } {
  const kept = new Map<string, RememberedTransport>();
  return {
    kept,
    read: (place) => Promise.resolve(kept.get(place)),
    write: (place, remembered) => {
      kept.set(place, remembered);
      return Promise.resolve();
    },
  };
}

const PLACE = `${EDGE_HOST}:${EDGE_PORT}/192.0.2.0/24`;

describe("createAgent: an edge's name with several addresses", () => {
  it("is reached over UDP where the first address is dead, by each of the transports alone too", async () => {
    for (const transport of ["curve", "quic", "auto"] as const) {
      const site = await Site.start({
        transport,
        offer: { ...WITH_QUIC, host: "edge.test" },
        network: { names: { "edge.test": ["10.9.9.9", EDGE_HOST] }, tcpDropped: true },
      });
      await site.test.advance(2 * ATTEMPT_DELAY_MS);
      assert.equal(site.transport, transport === "auto" ? "quic" : transport);
      assert.equal(site.agent.facts.session?.edge.replace(/:.*/, ""), "edge.test");
      await site.assertServes();
      await site.finish();
    }
  });
});

describe("createAgent: transport auto", () => {
  it("takes the first where it gets through in time, and asks for one token", async () => {
    const site = await Site.start();
    await site.test.advance(ATTEMPT_DELAY_MS - 1);
    assert.equal(site.transport, "curve");
    assert.equal(site.grants, 1);
    assert.deepEqual(await site.attempts("won"), { curve: 1 });
    await site.assertServes();
    assert.deepEqual(await site.attempts("lost"), {});
    await site.finish();
  });

  it("gets through by TCP where UDP isn't let through", async () => {
    const site = await Site.start({ udp: false });
    await site.test.advance(ATTEMPT_DELAY_MS - 1);
    assert.equal(site.transport, undefined);
    await site.test.advance(50);
    assert.equal(site.transport, "snitun");
    assert.equal(
      site.lines.find(({ message }) => message === "connected to the edge")?.fields.transport,
      "snitun",
    );
    await site.assertServes();
    assert.deepEqual([await site.attempts("won"), await site.attempts("lost")], [{ snitun: 1 }, {
      curve: 1,
    }]);
    await site.finish();
  });

  it("gets through by UDP where TCP isn't let through, though it was tried first", async () => {
    const transportMemory = memory();
    transportMemory.kept.set(PLACE, { transport: "snitun", untilMs: Infinity });
    const site = await Site.start({ network: { tcpDropped: true }, transportMemory });
    await site.test.advance(ATTEMPT_DELAY_MS - 1);
    assert.equal(site.transport, undefined);
    await site.test.advance(50);
    assert.equal(site.transport, "curve");
    await site.assertServes();
    await site.test.advance(20_000);
    assert.equal(site.transport, "curve");
    assert.equal(transportMemory.kept.get(PLACE)?.transport, "curve");
    await site.finish();
  });

  it("lets one attempt alone show its token where several are ready at once", async () => {
    // Curve is ready at 300 ms and let in at 600 at the earliest; TCP stands at 550, and would be let in too.
    const site = await Site.start({ latencyMs: 150 });
    await site.test.advance(2_000);
    assert.equal(site.transport, "curve");
    await site.assertServes();
    await site.test.advance(60_000);
    // Nobody was replaced, and nobody but the winner was ever let in.
    assert.equal(site.test.edge.sessions, 1);
    assert.equal(site.transport, "curve");
    assert.equal(site.test.lines.filter(({ message }) => message === "agent connected").length, 1);
    assert.deepEqual(site.test.lines.filter(({ fields }) => fields.reason === "replaced"), []);
    await site.finish();
  });

  it("keeps a slow winner over faster ones that come later", async () => {
    // 600 ms there and back: all three have begun before the first is ready.
    const site = await Site.start({ latencyMs: 300 });
    await site.test.advance(3_000);
    assert.equal(site.transport, "curve");
    assert.deepEqual(await site.attempts("lost"), { snitun: 1, sealed: 1 });
    await site.assertServes();
    await site.finish();
  });

  it("goes on with another where the edge doesn't answer a token", async () => {
    const transportMemory = memory();
    transportMemory.kept.set(PLACE, { transport: "snitun", untilMs: Infinity });
    const site = await Site.start({ network: { tcpMute: true }, transportMemory });
    await site.test.advance(TURN_PATIENCE_MS - 100);
    assert.equal(site.transport, undefined);
    await site.test.advance(200);
    assert.equal(site.transport, "curve");
    assert.deepEqual(await site.attempts("failed"), { snitun: 1 });
    assert.ok(
      site.lines.some(({ fields }) => fields.transport === "snitun" && fields.reason === "deadline_exceeded"),
    );
    await site.assertServes();
    // The token that was shown isn't shown again.
    assert.equal(site.grants, 3);
    await site.finish();
  });

  it("tries first what worked in this network, by edge and network and for a day", async () => {
    const transportMemory = memory();
    let where = "192.0.2.0/24";
    const site = await Site.start({ udp: false, transportMemory, networks: () => where });
    await site.test.advance(400);
    assert.equal(site.transport, "snitun");
    const remembered = transportMemory.kept.get(PLACE)!;
    assert.equal(remembered.transport, "snitun");
    const leftMs = remembered.untilMs - site.test.network.clock.wallMs();
    assert.ok(leftMs <= TRANSPORT_REMEMBERED_MS && leftMs > TRANSPORT_REMEMBERED_MS - 1_000);
    await site.finish();

    // Another agent, as after a restart: UDP would work, TCP is first.
    const second = await Site.start({ transportMemory });
    await second.test.advance(100);
    assert.equal(second.transport, "snitun");
    assert.deepEqual(await second.attempts("lost"), {});
    await second.finish();
    where = "198.51.100.0/24";
    const elsewhere = await Site.start({ transportMemory, networks: () => where });
    await elsewhere.test.advance(100);
    assert.equal(elsewhere.transport, "curve");
    await elsewhere.finish();
    transportMemory.kept.set(PLACE, { ...remembered, untilMs: 1 });
    const later = await Site.start({ transportMemory });
    await later.test.advance(100);
    assert.equal(later.transport, "curve");
    await later.finish();
  });

  it("falls back to TCP when a session stalls, and stays there", async () => {
    const transportMemory = memory();
    const site = await Site.start({ transportMemory });
    await site.test.advance(15_000);
    assert.equal(site.transport, "curve");
    site.test.network.setLink(EDGE_HOST, AGENT_HOST, { datagramLoss: 1 });
    await site.test.advance(45_000);
    assert.equal(site.transport, "snitun");
    const line = site.lines.find(({ message }) => message.includes("stalled"))!;
    assert.equal(line.message, "curve stalled: snitun is tried first from now on");
    assert.deepEqual([line.level, line.fields.reason], ["warn", "connection_lost"]);
    assert.equal(transportMemory.kept.get(PLACE)?.transport, "snitun");
    // UDP is back: what stalled once isn't trusted at once.
    site.test.network.setLink(EDGE_HOST, AGENT_HOST, { datagramLoss: 0 });
    await site.assertServes();
    site.test.network.reset(EDGE_HOST, AGENT_HOST);
    await site.test.advance(2_000);
    assert.equal(site.transport, "snitun");
    assert.deepEqual(await site.attempts("won"), { curve: 1, snitun: 2 });
    await site.finish();
  });

  it("doesn't take an orderly end for a stall", async () => {
    const site = await Site.start();
    await site.test.advance(100);
    const before = site.agent.session!;
    before.close(new SallyportError("closed", "Cannot keep session: the test closes it", { side: "local" }));
    await site.test.advance(2_000);
    assert.equal(site.transport, "curve");
    assert.notEqual(site.agent.session, before);
    await site.finish();
  });

  it("prefers QUIC where the edge has it, and gets past it where it doesn't get through", async () => {
    const site = await Site.start({ offer: WITH_QUIC });
    await site.test.advance(ATTEMPT_DELAY_MS - 1);
    assert.equal(site.transport, "quic");
    assert.equal(site.grants, 1);
    await site.assertServes();
    await site.test.advance(15_000);
    site.test.network.cut(EDGE_HOST, AGENT_HOST);
    await site.test.advance(180_000);
    assert.equal(site.transport, undefined);
    site.test.network.heal(EDGE_HOST, AGENT_HOST);
    await site.test.advance(90_000);
    assert.equal(site.transport, "snitun");
    assert.ok(
      site.lines.some(({ message }) => message === "quic stalled: snitun is tried first from now on"),
    );
    await site.assertServes();
    await site.finish();

    const elsewhere = await Site.start({ offer: { ...WITH_QUIC, quicPort: QUIC_PORT + 1 } });
    await elsewhere.test.advance(20_000);
    assert.equal(elsewhere.transport, "curve");
    await elsewhere.assertServes();
    await elsewhere.finish();
  });

  it("gets past QUIC where its certificate is refused, and says why", async () => {
    const quicRefusal = "its certificate is the pinned one, but isn't valid on 2036-01-01";
    const site = await Site.start({ offer: WITH_QUIC, network: { quicRefusal } });
    await site.test.advance(20_000);
    assert.equal(site.transport, "curve");
    assert.deepEqual(await site.attempts("failed"), { quic: 1 });
    const told = JSON.stringify(site.lines);
    assert.ok(told.includes(quicRefusal), told);
    await site.assertServes();
    await site.finish();
  });

  it("lets QUIC show no token before its turn", async () => {
    const transportMemory = memory();
    transportMemory.kept.set(PLACE, { transport: "curve", untilMs: Infinity });
    const site = await Site.start({ offer: WITH_QUIC, transportMemory, latencyMs: 150 });
    await site.test.advance(5_000);
    assert.equal(site.transport, "curve");
    assert.ok("quic" in await site.attempts("lost"));
    assert.equal(site.test.lines.filter(({ message }) => message === "agent connected").length, 1);
    await site.assertServes();
    await site.finish();
  });

  it("tries what the edge offers and nothing else", async () => {
    const bare = await Site.start({ offer: { transports: undefined } });
    await bare.test.advance(100);
    assert.equal(bare.transport, "snitun");
    await bare.finish();
    const sealed = await Site.start({ offer: { transports: ["smoke-signs", "sealed"] } });
    await sealed.test.advance(100);
    assert.equal(sealed.transport, "sealed");
    await sealed.finish();
    const strange = await Site.start({ offer: { transports: ["smoke-signs"] } });
    await strange.test.advance(100);
    assert.equal(strange.transport, undefined);
    const line = strange.lines.find(({ fields }) => fields.reason === "not_supported")!;
    assert.match(line.message, /the edge offers smoke-signs, this agent has .*curve, snitun, sealed/);
    await strange.finish();
  });

  it("says why of each where none gets through, and tries again", async () => {
    const site = await Site.start({ udp: false, network: { tcpDropped: true } });
    await site.test.advance(20_000);
    assert.equal(site.transport, undefined);
    const line = site.lines.find(({ level }) => level === "warn")!;
    assert.match(
      line.message,
      /by any transport: curve: .* over UDP: .*; snitun: .*nobody answers; sealed: /,
    );
    assert.equal(line.fields.reason, "edge_unreachable");
    assert.deepEqual(await site.attempts("failed"), { curve: 1, snitun: 1, sealed: 1 });
    site.network.tcpDropped = false;
    await site.test.advance(40_000);
    assert.equal(site.transport, "snitun");
    await site.assertServes();
    await site.finish();
  });

  it("leaves nothing behind when the agent is closed in mid-race", async () => {
    const site = await Site.start({ latencyMs: 300 });
    await site.test.advance(700);
    await site.finish();
  });

  it("connects all the same where the memory fails, and says so", async () => {
    const broken = () =>
      Promise.reject(new SallyportError("config_invalid", "the disk is full", { side: "config" }));
    const site = await Site.start({ transportMemory: { read: broken, write: broken } });
    await site.test.advance(100);
    assert.equal(site.transport, "curve");
    assert.ok(
      site.lines.some(({ message }) => message === "Cannot save which transport worked: the disk is full"),
    );
    await site.finish();
  });
});
