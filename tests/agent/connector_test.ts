import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { AccessList } from "../../src/agent/access_list.ts";
import { Backoff } from "../../src/agent/backoff.ts";
import { tcpConnector, type TcpConnectorOptions } from "../../src/agent/connector.ts";
import { pattern, Watched } from "../conformance/runtime_helpers.ts";
import {
  AGENT_HOST,
  assertAlert,
  bytesFrom,
  EDGE_HOST,
  type LogLine,
  recordingLogger,
  TestEdge,
} from "../support/tunnel.ts";
import { RECONNECT_FIRST_MS, RECONNECT_MAX_MS } from "../../src/agent/backoff.ts";
import { DIAL_TIMEOUT_MS, LINGER_MS } from "../../src/runtime/port.ts";

const ENDPOINT = { host: "10.0.9.9", port: 80 };

/** An edge and a session whose visitors go to `ENDPOINT`, if that listens. */
async function forwarding(
  options: Partial<TcpConnectorOptions> & { listens?: boolean; protocolVersion?: 0 | 1 | 2 } = {},
) {
  const { listens = true, protocolVersion, ...more } = options;
  const test = await TestEdge.start();
  const endpoints: Watched[] = [];
  const runtime = test.runtime(ENDPOINT.host);
  if (listens) {
    await runtime.listen({
      ...ENDPOINT,
      accept: (conn) => void endpoints.push(new Watched(conn)),
    });
  }
  const lines: LogLine[] = [];
  const connector = tcpConnector({
    runtime: test.runtime(AGENT_HOST),
    ...ENDPOINT,
    log: recordingLogger(lines),
    ...more,
  });
  await test.connect({ protocolVersion }, {
    admitted: () => ({ stream: (s) => void connector(s), streamClosed() {}, streamRefused() {}, ended() {} }),
  });
  return { test, endpoints, lines };
}

describe("tcpConnector", () => {
  it("forwards a visitor to the endpoint, what it sent while the dial was under way too", async () => {
    const { test, endpoints, lines } = await forwarding();
    test.network.setLink(AGENT_HOST, ENDPOINT.host, { latencyMs: 200 });
    const { conn, hello } = await test.visit("a.test", { more: pattern(50_000) });
    await test.advance(1_000);
    const [endpoint] = endpoints;
    assert.equal(endpoint!.byteLength, hello.length + 50_000);
    endpoint!.write(pattern(60_000, 2));
    await test.advance(2_000);
    assert.deepEqual(bytesFrom(conn), pattern(60_000, 2));
    assert.equal(lines[0]!.fields.endpoint, "10.0.9.9:80");
    await test.assertNothingLeft();
  });

  it("answers with alert internal_error where the endpoint can't be reached, and says which", async () => {
    const { test, lines } = await forwarding({ listens: false });
    const { conn } = await test.visit();
    assertAlert(conn, 80);
    assert.equal(lines[0]!.fields.reason, "endpoint_unreachable");
    assert.match(lines[0]!.message, /^Cannot reach endpoint 10\.0\.9\.9:80: .*refused/);
    await test.assertNothingLeft();
  });

  it("the same where the endpoint's host doesn't answer", async () => {
    const { test, lines } = await forwarding();
    test.network.cut(AGENT_HOST, ENDPOINT.host);
    const { conn } = await test.visit();
    await test.advance(DIAL_TIMEOUT_MS - 100);
    assert.equal(conn.byteLength, 0);
    await test.advance(200);
    assertAlert(conn, 80);
    assert.equal(lines[0]!.fields.reason, "endpoint_unreachable");
    await test.assertNothingLeft();
  });

  it("lets the endpoint go where the visitor has left before the dial was done", async () => {
    for (const how of ["abort", "session"] as const) {
      const { test, endpoints } = await forwarding();
      test.network.setLink(AGENT_HOST, ENDPOINT.host, { latencyMs: 200 });
      const { conn } = await test.visit();
      if (how === "abort") conn.abort();
      else test.network.reset(EDGE_HOST, AGENT_HOST);
      await test.advance(1_000);
      const [endpoint] = endpoints;
      assert.ok(endpoint!.ended || endpoint!.closes > 0, how);
      endpoint!.closeWrite();
      await test.advance(LINGER_MS + 1_000);
      assert.equal(endpoint!.closes, 1);
      assert.equal(await test.metric("streams"), 0);
      await test.assertNothingLeft();
    }
  });

  for (
    const [who, from, protocolVersion, accessList, permitted] of [
      ["an allowed IPv4 visitor", "198.51.100.7", 2, { allow: ["198.51.100.0/24"] }, true],
      ["a visitor outside what is allowed", "198.51.101.7", 2, { allow: ["198.51.100.0/24"] }, false],
      ["a blocked visitor", "198.51.100.7", 2, { block: ["198.51.100.7"] }, false],
      ["a visitor who is allowed and blocked", "198.51.100.7", 2, {
        allow: ["198.51.100.0/24"],
        block: ["198.51.100.7"],
      }, false],
      ["an allowed IPv6 visitor", "2001:db8::7", 2, { allow: ["2001:db8::/32"] }, true],
      ["a blocked IPv6 visitor", "2001:db8::7", 2, { block: ["2001:db8::/64"] }, false],
      [
        "an IPv6 visitor of version 1, who has no address",
        "2001:db8::7",
        1,
        { allow: ["2001:db8::/32"] },
        false,
      ],
    ] as const
  ) {
    it(`${permitted ? "lets through" : "answers with alert access_denied"} ${who}`, async () => {
      const { test, endpoints, lines } = await forwarding({
        accessList: new AccessList(accessList),
        protocolVersion,
      });
      const { conn } = await test.visit("a.test", { from });
      assert.equal(endpoints.length, permitted ? 1 : 0);
      if (!permitted) {
        assertAlert(conn, 49);
        assert.equal(lines[0]!.fields.reason, "access_denied");
      }
      await test.assertNothingLeft();
    });
  }
});

describe("AccessList", () => {
  it("without entries lets everybody through, with a wrong one nobody is left in doubt", () => {
    assert.equal(new AccessList().permits("192.0.2.1"), true);
    assert.equal(new AccessList({ allow: [], block: [] }).permits("2001:db8::1"), true);
    assert.throws(() => new AccessList({ allow: ["192.0.2.0/33"] }), { code: "config_invalid" });
    assert.throws(() => new AccessList({ block: ["everybody"] }), { code: "config_invalid" });
  });

  it("takes a v4-mapped address for the IPv4 address that it stands for", () => {
    const list = new AccessList({ allow: ["192.0.2.0/24"] });
    assert.equal(list.permits("::ffff:192.0.2.7"), true);
    assert.equal(list.permits("::ffff:192.0.3.7"), false);
    assert.equal(list.permits("nonsense"), false);
  });
});

describe("Backoff", () => {
  it("draws from zero to a ceiling that doubles up to a minute, and starts again", () => {
    let draw = 0.9999;
    const backoff = new Backoff(() => draw);
    for (let ceiling = RECONNECT_FIRST_MS; ceiling < RECONNECT_MAX_MS; ceiling *= 2) {
      assert.equal(backoff.next(), Math.floor(ceiling * 0.9999));
    }
    for (let i = 0; i < 2000; i++) assert.equal(backoff.next(), Math.floor(RECONNECT_MAX_MS * 0.9999));
    draw = 0;
    assert.equal(backoff.next(), 0);
    draw = 0.5;
    backoff.reset();
    assert.equal(backoff.next(), RECONNECT_FIRST_MS / 2);
  });
});
