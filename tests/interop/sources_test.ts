/** Shares of one source over real sockets: PROXY headers say where a connection comes from, since loopback is nobody's. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { connect, type Server, type Socket } from "node:net";
import { after, afterEach, before, describe, it } from "node:test";
import { type Agent, createAgent } from "../../src/agent/agent.ts";
import { tcpConnector } from "../../src/agent/connector.ts";
import { FernetRing } from "../../src/crypto/fernet.ts";
import { createEdge, type Edge } from "../../src/edge/edge.ts";
import { createToken } from "../../src/protocol/token/token.ts";
import { currentRuntime } from "../../src/runtime/mod.ts";
import { PENDING_PER_SOURCE_MAX } from "../../src/runtime/port.ts";
import { NetworkSet } from "../../src/wire/ip/networks.ts";
import { PUBLISH_MEMBER } from "../../src/wire/token/claims.ts";
import { encodeProxyHeader } from "../../src/wire/proxy/proxy_header.ts";
import { clientHello } from "../support/client_hello.ts";
import { freePorts } from "../support/free_ports.ts";
import { startEcho } from "../support/tcp_echo.ts";
import { FERNET_KEY } from "../support/tunnel.ts";
import { until } from "../support/until.ts";

const timeout = 60_000;
const NAME = "a.test";
const STREAMS = 4;
const OTHER = "198.51.100.9";

let edge: Edge;
let port: number;
let agent: Agent;
let echo: { readonly server: Server; readonly port: number };
const sockets = new Set<Socket>();

before(async () => {
  const runtime = await currentRuntime();
  const publicFirst = await freePorts(4);
  const ring = new FernetRing([FERNET_KEY]);
  echo = await startEcho();
  edge = createEdge({
    runtime,
    ring,
    proxyProtocolFrom: new NetworkSet(["127.0.0.0/8"]),
    streamsPerSource: STREAMS,
    publish: { ports: { first: publicFirst, last: publicFirst + 3 }, host: "127.0.0.1" },
  });
  port = (await edge.listen({ host: "127.0.0.1", port: 0, accepts: "visitors" })).address.port;
  const agents = (await edge.listen({ host: "127.0.0.2", port: 0, accepts: "agents" })).address;
  const { token, claims } = createToken(ring, {
    hostname: NAME,
    ttlSeconds: 3_600,
    nowMs: Date.now(),
    extra: { [PUBLISH_MEMBER]: ["tcp"] },
  });
  // The agent comes by way of the proxy, too.
  const dialling = {
    ...runtime,
    dial: async (to: Parameters<typeof runtime.dial>[0]) => {
      const conn = await runtime.dial(to);
      const source = { host: "192.0.2.7", port: 5 };
      if (to.port === agents.port) conn.write(encodeProxyHeader(2, source, source));
      return conn;
    },
  };
  agent = createAgent({
    runtime: dialling,
    grants: () => Promise.resolve({ ...claims, token, aliases: [], edge: agents }),
    connector: tcpConnector({ runtime, host: "127.0.0.1", port: echo.port }),
    publish: [{ connector: tcpConnector({ runtime, host: "127.0.0.1", port: echo.port, plain: true }) }],
  });
  void agent.run();
  await until(() => edge.serves(NAME) && agent.published[0] !== undefined);
});
afterEach(() => {
  for (const socket of sockets) socket.destroy();
  sockets.clear();
});
after(async () => {
  await agent.close(0);
  await edge.close(0);
  echo.server.close();
});

/** A connection from this source, as a proxy hands it on. */
function from(source: string, version: 1 | 2, bytes: Uint8Array, to = port): Socket {
  const address = { host: source, port: 40_000 };
  const socket = connect(to, "127.0.0.1", () => {
    socket.write(encodeProxyHeader(version, address, { host: "192.0.2.1", port: 443 }));
    socket.write(bytes);
  });
  socket.on("error", () => {});
  sockets.add(socket);
  return socket;
}

/** The first byte of the answer: 0x16 of the echo, 0x15 of an alert. */
async function answered(socket: Socket): Promise<number | undefined> {
  const [first] = await once(socket, "data", { signal: AbortSignal.timeout(10_000) });
  return (first as Buffer)[0];
}

/** Resolves when the connection is over, by whatever end. */
const closed = (socket: Socket) => new Promise((resolve) => socket.once("close", resolve));

for (const version of [1, 2] as const) {
  describe(`sources by PROXY header of version ${version}`, () => {
    const GREEDY = `203.0.113.${version}`;
    it("one that says nothing more has PENDING_PER_SOURCE_MAX connections, and others are served", {
      timeout,
    }, async () => {
      const strangers = Array.from(
        { length: PENDING_PER_SOURCE_MAX + 40 },
        () => from(GREEDY, version, Uint8Array.of(0x16)),
      );
      let closed = 0;
      for (const stranger of strangers) stranger.once("close", () => void closed++);
      await until(() => closed >= 40);
      assert.equal(await answered(from(OTHER, version, clientHello(NAME))), 0x16);
      assert.equal(closed, 40, "those that stay are its share");
    });

    it("one has so many streams of a name, and others have theirs", { timeout }, async () => {
      for (let count = 0; count < STREAMS; count++) {
        assert.equal(await answered(from(GREEDY, version, clientHello(NAME))), 0x16);
      }
      assert.equal(await answered(from(GREEDY, version, clientHello(NAME))), 0x15);
      assert.equal(await answered(from(OTHER, version, clientHello(NAME))), 0x16);
    });

    it("one has so many connections to a public port, and others have theirs", { timeout }, async () => {
      const { port: to } = agent.published[0]!;
      const visit = (source: string) => from(source, version, Uint8Array.of(1, 2), to);
      for (let count = 0; count < STREAMS; count++) assert.equal(await answered(visit(GREEDY)), 1);
      await closed(visit(GREEDY));
      assert.equal(await answered(visit(OTHER)), 1);
    });

    it("a public port takes nothing from the proxy without a header", { timeout }, async () => {
      const socket = connect(agent.published[0]!.port, "127.0.0.1", () => socket.write("hello"));
      sockets.add(socket);
      socket.on("error", () => {});
      await closed(socket);
    });
  });
}
