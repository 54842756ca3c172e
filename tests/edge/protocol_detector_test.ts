import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { NetworkSet } from "../../src/wire/ip/networks.ts";
import { encodeProxyHeader } from "../../src/wire/proxy/proxy_header.ts";
import { bytesOf, pattern, Watched } from "../conformance/runtime_helpers.ts";
import {
  AGENT_HOST,
  assertSilentEnd,
  bytesFrom,
  concat,
  EDGE_HOST,
  EDGE_PORT,
  helloFor,
  TestEdge,
  VISITOR_HOST,
} from "../support/tunnel.ts";
import {
  PENDING_PER_SITE_MAX,
  PENDING_STRANGERS_MAX,
  PENDING_VISITORS_MAX,
} from "../../src/edge/pending_budgets.ts";
import { PENDING_PER_SOURCE_MAX } from "../../src/runtime/port.ts";
import { LOG_SAMPLE_INTERVAL_MS } from "../../src/telemetry/log_sampler.ts";
import { HELLO_DEADLINE_MS } from "../../src/wire/tls/client_hello.ts";

const PROXY = "10.9.0.1";
const SOURCE = { host: "203.0.113.9", port: 5_555 };
const TARGET = { host: "192.0.2.1", port: 443 };

describe("ProtocolDetector: two ports", () => {
  const start = () =>
    TestEdge.start({
      listen: [
        { host: "0.0.0.0", port: 443, accepts: "visitors" },
        { host: "0.0.0.0", port: 9443, accepts: "agents" },
      ],
    });

  it("serve their own kind", async () => {
    const test = await start();
    const agent = await test.connect({}, { port: 9443 });
    await test.visit("a.test", { port: 443 });
    assert.equal(agent.streams.length, 1);
    assert.deepEqual(test.edge.addresses.map(({ port }) => port), [443, 9443]);
    await test.assertNothingLeft();
  });

  it("refuse the other kind, which learns nothing", async () => {
    const test = await start();
    await assert.rejects(test.connect({}, { port: 443 }), { code: "session_refused" });
    await test.connect({}, { port: 9443 });
    const { conn } = await test.visit("a.test", { port: 9443 });
    assertSilentEnd(conn);
    assert.equal(await test.refusals("connection", "unknown_protocol"), 2);
    await test.assertNothingLeft();
  });

  it("a listener that is closed leaves the other, and its connections, alone", async () => {
    const test = await TestEdge.start({ listen: [] });
    const first = await test.edge.listen({ host: EDGE_HOST, port: 1000 });
    await test.edge.listen({ host: EDGE_HOST, port: 1001 });
    const agent = await test.connect({}, { port: 1000 });
    first.close();
    assert.deepEqual(test.edge.addresses, [{ host: EDGE_HOST, port: 1001 }]);
    await test.visit("a.test", { port: 1001 });
    assert.equal(agent.streams.length, 1);
    await test.assertNothingLeft();
  });
});

describe("ProtocolDetector: the first byte", () => {
  it("that is neither TLS's nor a token's is refused", async () => {
    const test = await TestEdge.start();
    const conn = await test.dial();
    conn.write(bytesOf("GET / HTTP/1.1\r\n\r\n"));
    await test.advance(10);
    assertSilentEnd(conn);
    assert.equal(await test.refusals("connection", "unknown_protocol"), 1);
    assert.match(test.logged("unknown_protocol").message, /byte 0x47/);
    await test.assertNothingLeft();
  });

  it("must come by the deadline", async () => {
    const test = await TestEdge.start();
    const conn = await test.dial();
    await test.advance(HELLO_DEADLINE_MS - 100);
    assert.equal(conn.ended, false);
    await test.advance(200);
    assertSilentEnd(conn);
    assert.equal(await test.refusals("connection", "deadline_exceeded"), 1);
    await test.assertNothingLeft();
  });

  it("may never come: that is counted, and nothing is left", async () => {
    const test = await TestEdge.start();
    (await test.dial()).abort();
    (await test.dial()).closeWrite();
    await test.advance(10);
    assert.equal(await test.refusals("connection", "connection_lost"), 2);
    await test.assertNothingLeft();
  });
});

describe("ProtocolDetector: PROXY headers", () => {
  const start = (network = {}) =>
    TestEdge.start({ proxyProtocolFrom: new NetworkSet(["10.9.0.0/16", "fd00::/8"]), network });

  for (const version of [1, 2] as const) {
    it(`version ${version} from a trusted proxy names the visitor`, async () => {
      const test = await start();
      const agent = await test.connect();
      const conn = await test.dial(PROXY);
      const hello = helloFor("a.test");
      conn.write(concat(encodeProxyHeader(version, SOURCE, TARGET), hello, pattern(300)));
      await test.advance(10);
      assert.equal(agent.streams[0]!.stream.caller.address, SOURCE.host);
      assert.deepEqual(bytesFrom(agent.streams[0]!), concat(hello, pattern(300)));
      await test.assertNothingLeft();
    });

    it(`version ${version} may come byte by byte`, async () => {
      const test = await start({ link: { pieceMaxBytes: 1 } });
      const agent = await test.connect();
      const conn = await test.dial(PROXY);
      const hello = helloFor("a.test");
      conn.write(concat(encodeProxyHeader(version, SOURCE, TARGET), hello));
      await test.advance(10);
      assert.equal(agent.streams[0]!.stream.caller.address, SOURCE.host);
      assert.deepEqual(bytesFrom(agent.streams[0]!), hello);
      await test.assertNothingLeft();
    });

    it(`version ${version} without an address keeps the peer's own`, async () => {
      const test = await start();
      const agent = await test.connect();
      const conn = await test.dial(PROXY);
      conn.write(concat(encodeProxyHeader(version), helloFor("a.test")));
      await test.advance(10);
      assert.equal(agent.streams[0]!.stream.caller.address, PROXY);
      await test.assertNothingLeft();
    });

    it(`version ${version} from anyone else is refused`, async () => {
      const test = await start();
      const agent = await test.connect();
      const conn = await test.dial(VISITOR_HOST);
      conn.write(concat(encodeProxyHeader(version, SOURCE, TARGET), helloFor("a.test")));
      await test.advance(10);
      assertSilentEnd(conn);
      assert.equal(agent.streams.length, 0);
      assert.equal(await test.refusals("connection", "proxy_header_unexpected"), 1);
      await test.assertNothingLeft();
    });

    it(`version ${version} is refused where no proxies are configured`, async () => {
      const test = await TestEdge.start();
      const conn = await test.dial(PROXY);
      conn.write(concat(encodeProxyHeader(version, SOURCE, TARGET), helloFor("a.test")));
      await test.advance(10);
      assertSilentEnd(conn);
      assert.equal(await test.refusals("connection", "proxy_header_unexpected"), 1);
      await test.assertNothingLeft();
    });

    it(`version ${version} may stand there once`, async () => {
      const test = await start();
      const conn = await test.dial(PROXY);
      const header = encodeProxyHeader(version, SOURCE, TARGET);
      conn.write(concat(header, header, helloFor("a.test")));
      await test.advance(10);
      assertSilentEnd(conn);
      assert.equal(await test.refusals("connection", "proxy_header_unexpected"), 1);
      assert.match(test.logged("proxy_header_unexpected").message, /second PROXY header/);
      await test.assertNothingLeft();
    });
  }

  it("are required from a trusted proxy", async () => {
    const test = await start();
    const { conn } = await test.visit("a.test", { from: PROXY });
    assertSilentEnd(conn);
    assert.equal(await test.refusals("connection", "proxy_header_missing"), 1);
    await test.assertNothingLeft();
  });

  it("that are malformed are refused", async () => {
    const test = await start();
    const conn = await test.dial(PROXY);
    conn.write(bytesOf("PROXY TCP4 nonsense\r\n"));
    await test.advance(10);
    assertSilentEnd(conn);
    assert.equal(await test.refusals("connection", "proxy_header_invalid"), 1);
    await test.assertNothingLeft();
  });

  it("name agents too, in the log; a v4-mapped address is the IPv4 address that it stands for", async () => {
    const test = await start();
    const { token } = test.token();
    const conn = await test.dial(PROXY);
    conn.write(bytesOf("PROXY TCP6 ::ffff:203.0.113.9 ::1 5555 443\r\n" + token + "="));
    await test.advance(1_100);
    assert.equal(test.logged("token_invalid").fields.agent, "203.0.113.9");
    const visitor = await test.dial(PROXY);
    const agent = await test.connect();
    visitor.write(
      concat(bytesOf("PROXY TCP6 ::ffff:203.0.113.10 ::1 5555 443\r\n"), helloFor("a.test")),
    );
    await test.advance(10);
    assert.equal(agent.streams[0]!.stream.caller.address, "203.0.113.10");
    await test.assertNothingLeft();
  });

  it("carry IPv6 callers to the agent", async () => {
    const test = await start();
    const agent = await test.connect();
    const conn = await test.dial("fd00::9");
    const source = { host: "2001:db8::5", port: 1 };
    conn.write(concat(encodeProxyHeader(2, source, { host: "2001:db8::1", port: 443 }), helloFor("a.test")));
    await test.advance(10);
    assert.equal(agent.streams[0]!.stream.caller.address, "2001:db8::5");
    await test.assertNothingLeft();
  });

  it("trickled beyond the deadline are refused", async () => {
    const test = await start();
    const conn = await test.dial(PROXY);
    const header = encodeProxyHeader(1, SOURCE, TARGET);
    for (let i = 0; i < 20; i++) {
      conn.write(header.slice(i, i + 1));
      await test.advance(HELLO_DEADLINE_MS / 20);
    }
    await test.advance(10);
    assertSilentEnd(conn);
    assert.equal(await test.refusals("connection", "deadline_exceeded"), 1);
    await test.assertNothingLeft();
  });
});

describe("ProtocolDetector: connections that haven't shown what they are", () => {
  /** Connections that say `bytes`, and no more. */
  const flood = (test: TestEdge, host: string, count: number, bytes = new Uint8Array(0)) =>
    test.network.settle(Promise.all(
      Array.from({ length: count }, async () => {
        const conn = await test.runtime(host).dial({ host: EDGE_HOST, port: EDGE_PORT, timeoutMs: 1_000 });
        const watched = new Watched(conn);
        if (bytes.length > 0) watched.write(bytes);
        return watched;
      }),
    ));

  it("are bounded per source, an IPv6 /64 being one: its oldest stranger makes room, and others don't notice", async () => {
    assert.ok(PENDING_PER_SOURCE_MAX >= 64 && PENDING_PER_SOURCE_MAX <= 256);
    const test = await TestEdge.start();
    const agent = await test.connect({}, { from: AGENT_HOST });
    const first = await flood(test, "2001:db8::1", PENDING_PER_SOURCE_MAX / 2);
    await test.advance(10);
    await flood(test, "2001:db8::2", PENDING_PER_SOURCE_MAX / 2);
    await test.advance(10);
    assert.equal(first.filter(({ closes, ended }) => closes > 0 || ended).length, 0);
    await test.visit("a.test", { from: "2001:db8::3" });
    assert.equal(agent.streams.length, 1, "the newcomer of the same source");
    assert.equal(first.filter(({ closes, ended }) => closes > 0 || ended).length, 1);
    assert.equal(await test.refusals("connection", "limit_exceeded"), 1);
    await test.visit("a.test", { from: "2001:db8:0:1::3" });
    await test.visit("a.test", { from: VISITOR_HOST });
    assert.equal(agent.streams.length, 3);
    await test.assertNothingLeft();
  });

  it("are bounded per IPv6 /48 too, whatever /64 they come from", async () => {
    const test = await TestEdge.start();
    const per = PENDING_PER_SITE_MAX / 4;
    for (let i = 0; i < 4; i++) await flood(test, `2001:db8:0:${i}::1`, per);
    const [refused] = await flood(test, "2001:db8:0:9::1", 1);
    await test.advance(10);
    assert.ok(refused!.closes > 0);
    const [other] = await flood(test, "2001:db8:1::1", 1);
    await test.advance(10);
    assert.equal(other!.closes, 0);
    await test.assertNothingLeft();
  });

  it("make room for newer ones where the budget of their kind is used up, and keep out nobody", async () => {
    for (
      const [kind, bytes, max] of [
        ["strangers", new Uint8Array(0), PENDING_STRANGERS_MAX],
        ["visitors", Uint8Array.of(0x16), PENDING_VISITORS_MAX],
      ] as const
    ) {
      const test = await TestEdge.start();
      const agent = await test.connect({}, { from: AGENT_HOST });
      const sources = Math.ceil(max / PENDING_PER_SOURCE_MAX);
      const conns: Watched[] = [];
      for (let i = 0; i < sources; i++) {
        conns.push(...await flood(test, `203.0.113.${i}`, PENDING_PER_SOURCE_MAX, bytes));
      }
      await test.advance(10);
      const over = () => conns.filter(({ closes, ended }) => closes > 0 || ended).length;
      assert.equal(over(), 0, kind);
      const more = await flood(test, "198.51.100.250", 5, bytes);
      await test.advance(10);
      assert.equal(over(), 5, kind);
      assert.ok(more.every(({ closes }) => closes === 0));
      await test.visit("a.test", { from: "192.0.2.99" });
      assert.equal(agent.streams.length, 1, `a visitor among ${kind}`);
      await test.connect({ hostname: "b.test" }, { from: "192.0.2.98" });
      assert.ok(test.edge.serves("b.test"), `an agent among ${kind}`);
      await test.assertNothingLeft();
    }
  });

  it("are counted by the source that a trusted proxy names", async () => {
    const test = await TestEdge.start({ proxyProtocolFrom: new NetworkSet(["10.9.0.0/16"]) });
    const agent = await test.connect({}, { from: AGENT_HOST });
    const header = (source: string) => bytesOf(`PROXY TCP4 ${source} 192.0.2.1 1000 443\r\n`);
    const attack = await flood(test, "10.9.0.1", PENDING_PER_SOURCE_MAX + 10, header("203.0.113.9"));
    await test.advance(10);
    assert.equal(attack.filter(({ closes, ended }) => closes > 0 || ended).length, 10);
    await test.visit("a.test", {
      from: "10.9.0.1",
      hello: concat(header("203.0.113.10"), helloFor("a.test")),
    });
    assert.equal(agent.streams.length, 1);
    await test.assertNothingLeft();
  });

  it("are logged one by one at first, and then counted", async () => {
    const test = await TestEdge.start();
    for (let i = 0; i < 500; i++) (await test.dial()).write(bytesOf("hello"));
    await test.advance(LOG_SAMPLE_INTERVAL_MS);
    (await test.dial()).write(bytesOf("hello"));
    await test.advance(100);
    const lines = test.lines.filter(({ level }) => level === "info");
    assert.ok(lines.length < 20, `${lines.length} lines`);
    const counted = lines.reduce((sum, { fields }) => sum + Number(fields.count ?? 1), 0);
    assert.equal(counted, 501);
    await test.assertNothingLeft();
  });
});
