/** Public ports: agents that ask for them, the edge that has them, and who connects, over every transport. */
import assert from "node:assert/strict";
import { transportsOf } from "../support/transports.ts";
import { describe, it } from "node:test";
import { AccessList } from "../../src/agent/access_list.ts";
import { type Agent, type AgentOptions, createAgent } from "../../src/agent/agent.ts";
import { tcpConnector } from "../../src/agent/connector.ts";
import type { TransportName } from "../../src/transport/names.ts";
import { loadSodium } from "../../src/crypto/sodium.ts";
import { SallyportError } from "../../src/errors.ts";
import type { Conn, Listener } from "../../src/runtime/port.ts";
import { createRouter } from "../../src/tunnel/requests/router.ts";
import { PUBLISH_MEMBER } from "../../src/wire/token/claims.ts";
import { identities } from "../conformance/quic_helpers.ts";
import { bytesOf, pattern, Watched } from "../conformance/runtime_helpers.ts";
import { edgeKeys } from "../support/sealed.ts";
import {
  AGENT_HOST,
  bytesFrom,
  EDGE_HOST,
  EDGE_PORT,
  type LogLine,
  NOTHING,
  recordingLogger,
  TestEdge,
  type TestEdgeOptions,
  VISITOR_HOST,
} from "../support/tunnel.ts";
import { TOKEN_RENEW_AT } from "../../src/agent/agent_session.ts";

const CURVE_PORT = 4500;
const QUIC_PORT = 4600;
const ENDPOINT_PORT = 2200;
const RANGE = { first: 20_000, last: 20_002 };
const sodium = await loadSodium();
const crypto = await loadSodium();
const keys = edgeKeys(sodium);
const { own: identity, fingerprint } = await identities();
const TRANSPORTS: readonly TransportName[] = ["snitun", "sealed", "curve", "quic"];

interface SiteOptions extends Partial<AgentOptions> {
  readonly edge?: never;
  readonly edgeOptions?: TestEdgeOptions;
  /** What the tokens allow. */
  readonly allowed?: readonly string[];
  readonly accessList?: AccessList;
  readonly ttlSeconds?: number;
}

/** An edge with public ports. */
function startEdge(options: TestEdgeOptions = {}): Promise<TestEdge> {
  return TestEdge.start({
    transports: transportsOf({ sealed: { sodium, keys }, curve: { crypto, keys }, quic: identity }),
    publish: { ports: RANGE, host: "0.0.0.0" },
    ...options,
  }).then(async (test) => {
    await test.edge.listen({ host: "0.0.0.0", port: CURVE_PORT, accepts: "curve" });
    await test.edge.listen({ host: "0.0.0.0", port: QUIC_PORT, accepts: "quic" });
    return test;
  });
}

/** An agent behind which a server speaks first, and echoes until the other side ends. */
class Device {
  readonly lines: LogLine[] = [];
  readonly served: Watched[] = [];
  /** Ports, as they were opened. */
  readonly opened: number[] = [];
  readonly agent: Agent;
  readonly name: string;
  #endpoint: Listener | undefined;
  allowed: readonly string[];

  constructor(
    readonly test: TestEdge,
    readonly host: string,
    { allowed = ["tcp"], name = "a.test", accessList, ttlSeconds = 3600, ports = [undefined], ...options }:
      & Omit<SiteOptions, "edge" | "edgeOptions">
      & { readonly name?: string; readonly ports?: readonly (number | undefined)[] },
  ) {
    this.allowed = allowed;
    this.name = name;
    const runtime = test.runtime(host);
    this.agent = createAgent({
      runtime,
      log: recordingLogger(this.lines),
      grants: () => {
        const { token, claims } = test.token({
          hostname: name,
          ttlSeconds,
          extra: { [PUBLISH_MEMBER]: this.allowed },
        });
        const edge = {
          ...{ host: EDGE_HOST, port: EDGE_PORT, curvePort: CURVE_PORT, publicKey: keys.publicKey },
          ...{ quicPort: QUIC_PORT, certificateFingerprint: fingerprint },
        };
        return Promise.resolve({ token, ...claims, edge });
      },
      connector: (stream) => stream.abort(),
      random: () => 0.5,
      publish: ports.map((port) => ({
        opened: ({ port }) => void this.opened.push(port),
        ...port === undefined ? {} : { port },
        connector: tcpConnector({
          ...{ runtime, host, port: ENDPOINT_PORT, plain: true, accessList },
          log: recordingLogger(this.lines),
        }),
      })),
      ...options,
    });
  }

  async start(): Promise<this> {
    this.#endpoint = await this.test.runtime(this.host).listen({
      host: this.host,
      port: ENDPOINT_PORT,
      accept: (conn: Conn) => {
        const watched = new Watched(conn);
        this.served.push(watched);
        watched.write(bytesOf("SSH-2.0-test\r\n"));
        watched.onData = (chunk) => void watched.write(chunk.slice());
        watched.onEnd = () => watched.closeWrite();
      },
    });
    this.agent.run().catch(() => {});
    await this.test.advance(200);
    return this;
  }

  get ports(): (number | undefined)[] {
    return this.agent.published.map((address) => address?.port);
  }

  line(reason: string): LogLine {
    const found = this.lines.find(({ fields }) => fields.reason === reason && "publish" in fields);
    assert.ok(found, JSON.stringify(this.lines));
    return found;
  }

  async stop(): Promise<void> {
    this.#endpoint?.close();
    await this.test.network.settle(this.agent.close(0));
  }
}

/** Connects to a public port, is greeted, gets all its bytes back, and the end after its own. */
async function assertEchoes(test: TestEdge, port: number, halfClose: boolean): Promise<void> {
  const conn = await test.dial(VISITOR_HOST, port);
  await test.network.settle(conn.received(14));
  const data = pattern(200_000, port);
  conn.write(data);
  if (halfClose) {
    conn.closeWrite();
    await test.network.settle(conn.sawEnd);
  } else {
    await test.network.settle(conn.received(14 + data.length));
  }
  const got = bytesFrom(conn);
  assert.deepEqual(got.subarray(0, 14), bytesOf("SSH-2.0-test\r\n"));
  assert.deepEqual(Buffer.from(got.subarray(14)), Buffer.from(data));
  conn.conn.abort();
  await test.advance(100);
}

async function refusedAt(test: TestEdge, port: number): Promise<boolean> {
  return await test.dial(VISITOR_HOST, port).then((conn) => {
    conn.conn.abort();
    return false;
  }, () => true);
}

for (const transport of TRANSPORTS) {
  describe(`publicPorts over ${transport}`, () => {
    it("carry what speaks first, both ways, to the end, with the caller's address", async () => {
      const test = await startEdge();
      const callers: string[] = [];
      const permits = new AccessList();
      const accessList = {
        permits: (address: string) => {
          callers.push(address);
          return permits.permits(address);
        },
      } as AccessList;
      const device = await new Device(test, AGENT_HOST, { transport, accessList }).start();
      assert.deepEqual(device.ports, [20_000]);
      assert.equal(device.agent.published[0]!.host, EDGE_HOST);
      const opened = device.lines.find(({ message }) => message === "public port open")!;
      assert.deepEqual(opened.fields, { publish: "tcp", public_host: EDGE_HOST, public_port: 20_000 });
      await assertEchoes(test, 20_000, transport !== "snitun");
      assert.deepEqual(callers, [VISITOR_HOST]);
      assert.equal(await test.metric("public_ports"), 1);
      assert.equal(await test.metric("streams_total"), 1);
      assert.ok(await test.metric("bytes_total", { direction: "to_agent" }) >= 200_000);
      await device.stop();
      assert.deepEqual(device.ports, [undefined]);
      await test.advance(100);
      assert.equal(await refusedAt(test, 20_000), true);
      assert.equal(await test.metric("public_ports"), 0);
      test.assertNoSecretLogged();
      await test.assertNothingLeft(20_000);
    });

    it("end with their session, and come back with the next, the same ones", async () => {
      const test = await startEdge();
      const device = await new Device(test, AGENT_HOST, {
        transport,
        ports: [undefined, 20_002],
        allowed: ["tcp", "tcp:20002"],
      }).start();
      assert.deepEqual(device.ports, [20_000, 20_002]);
      device.agent.session!.close(
        new SallyportError("closed", "Cannot keep session: the test ends it", { side: "local" }),
      );
      await test.advance(50);
      assert.deepEqual(device.ports, [undefined, undefined]);
      assert.equal(await refusedAt(test, 20_002), true);
      // Nobody else gets them meanwhile: what was lost is kept, and any port isn't one of one's choice.
      const other = await new Device(test, "10.0.0.3", { name: "b.test", ports: [20_000] }).start();
      const modest = await new Device(test, "10.0.0.4", { name: "c.test", ports: [undefined] }).start();
      await test.advance(5_000);
      assert.deepEqual([device.ports, other.ports, modest.ports], [[20_000, 20_002], [undefined], [20_001]]);
      assert.match(other.line("access_denied").message, /tcp:20000/);
      assert.deepEqual(device.opened.toSorted(), [20_000, 20_000, 20_002, 20_002]);
      await assertEchoes(test, 20_002, false);
      await Promise.all([device.stop(), other.stop(), modest.stop()]);
      await test.assertNothingLeft(20_000);
    });

    it("move to a renewed session, and open connections stay", async () => {
      const test = await startEdge();
      const ttlSeconds = 60;
      // Without a pause the older session's end is asked for a port once more: it mustn't have one.
      const random = () => 0;
      const device = await new Device(test, AGENT_HOST, { transport, ttlSeconds, random }).start();
      const first = device.agent.session;
      await test.advance(TOKEN_RENEW_AT * ttlSeconds * 1_000 - 1_000);
      const conn = await test.dial(VISITOR_HOST, 20_000);
      await test.network.settle(conn.received(14));
      await test.advance(3_000);
      assert.notEqual(device.agent.session, first);
      assert.deepEqual([device.ports, device.opened], [[20_000], [20_000, 20_000]]);
      assert.equal(await test.metric("public_ports"), 1);
      assert.equal(await test.refusals("port", "address_in_use"), 0);
      conn.write(bytesOf("still here"));
      await test.network.settle(conn.received(14 + 10));
      await assertEchoes(test, 20_000, false);
      conn.conn.abort();
      await test.advance(1_000);
      assert.equal(test.edge.sessions, 1, "the older session ends with its last stream");
      await device.stop();
      await test.assertNothingLeft(20_000);
    });
  });
}

describe("publicPorts", () => {
  it("refuse what the token doesn't allow, and say so at both ends", async () => {
    const test = await startEdge();
    const device = await new Device(test, AGENT_HOST, {
      allowed: ["tcp:20001"],
      ports: [20_001, 20_002, undefined],
    }).start();
    assert.deepEqual(device.ports, [20_001, undefined, undefined]);
    const lines = device.lines.filter(({ fields }) => fields.reason === "access_denied");
    assert.deepEqual(lines.map(({ fields }) => fields.publish), ["tcp:20002", "tcp"]);
    assert.match(lines[0]!.message, /Cannot publish tcp:20002: .* isn't allowed by the token/);
    assert.ok(
      test.lines.some(({ message }) => message.endsWith("tcp:20002: the token allows tcp:20001 alone")),
    );
    assert.equal(await test.refusals("port", "access_denied"), 2);
    // Nor later: the token stays what it is.
    await test.advance(120_000);
    assert.equal(await test.refusals("port", "access_denied"), 2);
    await device.stop();
    await test.assertNothingLeft();
  });

  it("that a token claims by number are kept for its agent, also before it asks for them", async () => {
    const test = await startEdge();
    const claimed = await new Device(test, AGENT_HOST, { allowed: ["tcp:20000"], ports: [] }).start();
    const other = await new Device(test, "10.0.0.3", { name: "b.test" }).start();
    assert.deepEqual(other.ports, [20_001]);
    await claimed.stop();
    await other.stop();
    await test.assertNothingLeft();
  });

  it("are as many as the token has, within the edge's range", async () => {
    const test = await startEdge();
    const device = await new Device(test, AGENT_HOST, { ports: [19_999, undefined, undefined] }).start();
    await test.advance(5_000);
    assert.equal(device.ports[0], undefined);
    assert.equal(device.ports.filter((port) => port !== undefined).length, 1);
    assert.match(
      device.line("access_denied").message,
      /tcp:19999: .* isn't allowed by .* or by the server's range/,
    );
    assert.match(device.line("limit_exceeded").message, /Cannot publish tcp: /);
    assert.ok(test.lines.some(({ message }) => message.includes("the client already holds 1")));
    await device.stop();
    await test.assertNothingLeft();
  });

  it("are nobody's wish whose token allows any, but its own last one", async () => {
    const test = await startEdge();
    const holder = await new Device(test, AGENT_HOST, {}).start();
    assert.deepEqual(holder.ports, [20_000]);
    const wish = async (host: string, name: string) => {
      const device = await new Device(test, host, { name, ports: [20_000] }).start();
      await test.advance(1_000);
      return device;
    };
    const refused = [await wish("10.0.0.3", "b.test")];
    // Nor what it has just lost or given up.
    await holder.stop();
    refused.push(await wish("10.0.0.4", "c.test"));
    assert.deepEqual(refused.map(({ ports }) => ports), [[undefined], [undefined]]);
    for (const device of refused) {
      assert.match(device.line("access_denied").message, /tcp:20000/);
      await device.stop();
    }
    const again = await wish("10.0.0.5", "a.test");
    assert.deepEqual(again.ports, [20_000]);
    await again.stop();
    await test.assertNothingLeft(20_000);
  });

  it("that are used up are refused, and given to who waits once they are free", async () => {
    const test = await startEdge();
    const allowed = ["tcp", "tcp", "tcp"];
    const greedy = await new Device(test, AGENT_HOST, { allowed, ports: [undefined, undefined, undefined] })
      .start();
    const late = await new Device(test, "10.0.0.3", { name: "b.test" }).start();
    assert.deepEqual(late.ports, [undefined]);
    assert.match(late.line("limit_exceeded").message, /Cannot publish tcp: .*none free/);
    await greedy.stop();
    await test.advance(60_000);
    assert.deepEqual(late.ports, [20_000]);
    await late.stop();
    await test.assertNothingLeft();
  });

  it("are nobody's whose session was replaced, though it goes on for those connected", async () => {
    const test = await startEdge();
    const older = await new Device(test, AGENT_HOST, {}).start();
    const conn = await test.dial(VISITOR_HOST, 20_000);
    await test.network.settle(conn.received(14));
    const newer = await new Device(test, "10.0.0.3", {}).start();
    await test.advance(5_000);
    assert.equal(test.edge.sessions, 2);
    assert.deepEqual([older.ports, newer.ports], [[undefined], [20_000]]);
    assert.ok(await test.refusals("port", "replaced") >= 1);
    conn.write(bytesOf("still here"));
    await test.network.settle(conn.received(14 + 10));
    conn.conn.abort();
    await older.stop();
    await newer.stop();
    await test.assertNothingLeft(20_000);
  });

  it("are kept for their agent's name while other ports are free", async () => {
    const test = await startEdge();
    const device = await new Device(test, AGENT_HOST, {}).start();
    await device.stop();
    const others: Device[] = [];
    for (const name of ["b.test", "c.test"]) {
      others.push(await new Device(test, `10.0.1.${others.length}`, { name }).start());
    }
    assert.deepEqual(others.map(({ ports }) => ports), [[20_001], [20_002]]);
    const again = await new Device(test, "10.0.0.4", {}).start();
    assert.deepEqual(again.ports, [20_000]);
    await again.stop();
    const needy = await new Device(test, "10.0.0.5", { name: "d.test" }).start();
    assert.deepEqual(needy.ports, [20_000]);
    for (const other of [...others, needy]) await other.stop();
    await test.assertNothingLeft(20_000);
  });

  it("are told from visitors, whom the same agent goes on serving", async () => {
    const test = await startEdge();
    const visitors: unknown[] = [];
    const device = await new Device(test, AGENT_HOST, {
      connector: (stream) => void visitors.push(new Watched(stream as unknown as Conn)),
    }).start();
    await test.visit();
    assert.equal(visitors.length, 1);
    assert.equal(device.served.length, 0);
    await assertEchoes(test, 20_000, false);
    await device.stop();
    await test.assertNothingLeft(20_000);
  });

  it("turn away whom the access list doesn't let through, and end where nobody serves", async () => {
    const test = await startEdge();
    const accessList = new AccessList({ block: [VISITOR_HOST] });
    const device = await new Device(test, AGENT_HOST, { accessList }).start();
    const blocked = await test.dial(VISITOR_HOST, 20_000);
    await test.network.settle(Promise.race([blocked.sawEnd, blocked.sawClose]));
    blocked.conn.abort();
    assert.equal(blocked.byteLength, 0);
    assert.equal(device.served.length, 0);
    assert.ok(
      device.lines.some(({ fields }) => fields.reason === "access_denied" && fields.visitor === VISITOR_HOST),
    );
    const welcome = await test.dial("198.51.100.8", 20_000);
    await test.network.settle(welcome.received(14));
    welcome.conn.abort();
    await device.stop();

    const nobody = new Device(test, "10.0.0.3", { name: "b.test" });
    nobody.agent.run().catch(() => {});
    await test.advance(200);
    const conn = await test.dial(VISITOR_HOST, nobody.ports[0]);
    await test.network.settle(Promise.race([conn.sawEnd, conn.sawClose]));
    conn.conn.abort();
    assert.equal(conn.byteLength, 0);
    assert.ok(nobody.lines.some(({ fields }) => fields.reason === "endpoint_unreachable"));
    assert.deepEqual(nobody.ports, [20_001], "the port stays");
    await nobody.stop();
    await test.assertNothingLeft();
  });

  it("are refused by an edge without them, which is logged once per session", async () => {
    for (const transport of TRANSPORTS) {
      const test = await startEdge({ publish: undefined });
      const device = await new Device(test, AGENT_HOST, { transport }).start();
      assert.match(
        device.line("not_supported").message,
        /^Cannot publish tcp: the edge offers none, .*a Sallyport edge needs --publish-ports/,
      );
      await test.advance(60_000);
      assert.equal(device.lines.filter(({ fields }) => fields.reason === "not_supported").length, 1);
      assert.notEqual(device.agent.session, undefined, "its visitors don't suffer");
      await device.stop();
      await test.assertNothingLeft(20_000);
    }
  });

  it("beside an operator's own tunnels", async () => {
    const left: string[] = [];
    const served: string[] = [];
    const test = await startEdge({
      tunnels: {
        router: ({ hostname }) =>
          createRouter({
            "/own": () => (stream) => {
              served.push(hostname);
              stream.attach(NOTHING);
              stream.release();
            },
          }),
        left: ({ name }, why) => left.push(`${name}: ${why}`),
      },
    });
    const device = await new Device(test, AGENT_HOST, {}).start();
    assert.deepEqual(device.ports, [20_000]);
    await test.network.settle(device.agent.tunnel!.open("/own"));
    await test.advance(10);
    assert.deepEqual(served, ["a.test"]);
    await test.network.settle(test.edge.close(0));
    assert.match(left[0]!, /^a\.test: Session ended: the edge is shutting down/);
    await device.stop();
    await test.assertNothingLeft(20_000);
  });

  it("of a used range are no range", async () => {
    await assert.rejects(startEdge({ publish: { ports: { first: 5, last: 4 }, host: "0.0.0.0" } }), {
      code: "config_invalid",
    });
  });
});
