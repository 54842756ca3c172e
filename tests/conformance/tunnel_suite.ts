/**
 * What tunnels do over every transport, on every runtime: requests from either side, and what becomes of bad ones.
 *
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { SallyportError } from "../../src/errors.ts";
import { createMemoryRegistry } from "../../src/cluster/memory_registry.ts";
import { secretAuthenticator, secretCredential } from "../../src/tunnel/auth/secret.ts";
import { simpleAckAuthenticator, simpleAckCredential } from "../../src/tunnel/auth/simple_ack.ts";
import { createTunnelDaemon } from "../../src/tunnel/daemon/daemon.ts";
import { httpService } from "../../src/tunnel/requests/http_service.ts";
import { joinTunnel } from "../../src/tunnel/daemon/join.ts";
import { createTunnelSource } from "../../src/tunnel/daemon/source.ts";
import { NetworkSet } from "../../src/wire/ip/networks.ts";
import type { ByteStream, Conn } from "../../src/runtime/port.ts";
import { createRouter, type TunnelRequest, type TunnelService } from "../../src/tunnel/requests/router.ts";
import { chooseByFirstByte, SessionCarrier } from "../../src/tunnel/carriers/session_carrier.ts";
import { tcpProxy } from "../../src/tunnel/requests/tcp_proxy.ts";
import { Tunnel } from "../../src/tunnel/tunnel.ts";
import { encodeAddress } from "../../src/wire/snocat/tunnel_request.ts";
import { concat, WatchedStream } from "../support/tunnel.ts";
import { assertRejects, bytesOf, type Harness, hashOf, pattern, Watched } from "./runtime_helpers.ts";
import type { SessionPair, TransportKind } from "./transport_helpers.ts";

const timeout = 60_000;

/** A stream of a tunnel, watched. */
export function watch(stream: ByteStream): Watched {
  return new Watched(stream as Conn);
}

/** Sends everything back. */
export const echo: TunnelService = () => (stream) =>
  stream.attach({
    data: (chunk) => void stream.write(chunk),
    end: () => stream.closeWrite(),
    drain() {},
    close() {},
  });

/** A tunnel's two ends in one session, and what the other streams are. */
export interface TunnelPair {
  readonly pair: SessionPair;
  readonly edge: Tunnel;
  readonly agent: Tunnel;
  /** The first stream that is no request. */
  readonly visitor: Promise<WatchedStream>;
  readonly refusals: { readonly edge: string[]; readonly agent: string[] };
}

/** Makes tunnels of a session's ends. */
export function tunnelPair(
  harness: Harness,
  pair: SessionPair,
  services: Record<string, TunnelService>,
): TunnelPair {
  const { clock } = harness.runtime;
  const router = createRouter(services);
  const visitor = Promise.withResolvers<WatchedStream>();
  const refusals = { edge: [] as string[], agent: [] as string[] };
  const make = (side: "edge" | "agent") => {
    const carrier = new SessionCarrier(pair[side]);
    const name = side === "edge" ? "the agent" : "the edge";
    const tunnel = new Tunnel({
      carrier,
      clock,
      router,
      name,
      refused: (code) => refusals[side].push(code),
    });
    pair[side === "edge" ? "edgeEar" : "agentEar"].also = {
      stream: (stream) =>
        chooseByFirstByte(stream, clock, {
          request: (request) => carrier.offer(request),
          visitor: (stream) => visitor.resolve(new WatchedStream(stream)),
        }),
      ended: (error) => carrier.ended(error),
    };
    return tunnel;
  };
  return { pair, edge: make("edge"), agent: make("agent"), visitor: visitor.promise, refusals };
}

/** Registers the suite for one transport on one runtime. */
export function tunnelSuite(runtimeName: string, kind: TransportKind, open: () => Promise<Harness>): void {
  const test = (
    title: string,
    services: Record<string, TunnelService>,
    body: (tunnels: TunnelPair, harness: Harness) => Promise<void>,
  ) =>
    it(title, { timeout }, async () => {
      const harness = await open();
      await harness.run(async () => {
        const pair = await kind.open(harness.runtime, harness.host);
        const tunnels = tunnelPair(harness, pair, services);
        await body(tunnels, harness);
        const over = new SallyportError("shutdown", "Cannot keep session: the test is over", {
          side: "local",
        });
        await pair.close(over);
        assert.equal((await tunnels.edge.closed).code, "shutdown");
        await tunnels.agent.closed;
        await assertRejects(tunnels.edge.open("/echo"), "shutdown");
      });
    });

  describe(`Tunnel over ${kind.name}, runtime ${runtimeName}`, () => {
    test("either side asks, and both get what they ask for", { "/echo": echo }, async (tunnels) => {
      for (const side of ["edge", "agent"] as const) {
        const stream = watch(await tunnels[side].open("/echo"));
        const bytes = pattern(300_000, 5);
        stream.write(bytes);
        await stream.received(bytes.length);
        assert.equal(stream.hash, hashOf(bytes));
        stream.abort();
        await stream.sawClose;
        assert.deepEqual(stream.wrong, []);
      }
    });

    test("200 at once stay intact, from both sides", { "/echo": echo }, async (tunnels) => {
      await Promise.all(Array.from({ length: 200 }, async (_, i) => {
        const stream = watch(await tunnels[i % 2 === 0 ? "edge" : "agent"].open(["echo", String(i)]));
        const bytes = pattern(100 + i * 211, i + 1);
        stream.write(bytes);
        await stream.received(bytes.length);
        assert.equal(stream.hash, hashOf(bytes));
        stream.abort();
      }));
    });

    const seen: TunnelRequest[] = [];
    const note: TunnelService = (request) => {
      seen.push(request);
      return echo(request);
    };
    test("a service sees who asks, for what, on whose behalf", { "": note, "/a": note }, async (tunnels) => {
      seen.length = 0;
      await tunnels.edge.open(["a", "b/c", ""], { caller: { address: "192.0.2.9" } });
      await tunnels.agent.open("/else/where");
      await tunnels.agent.open("");
      assert.deepEqual(seen.map(({ address, rest }) => [address, rest]), [
        [["a", "b/c", ""], ["b/c", ""]],
        [["else", "where"], ["else", "where"]],
        [[], []],
      ]);
      assert.deepEqual(seen.map(({ tunnel }) => tunnel), [tunnels.agent, tunnels.edge, tunnels.edge]);
      assert.deepEqual(seen.map(({ caller }) => caller.address), ["192.0.2.9", "0.0.0.0", "0.0.0.0"]);
    });

    const refuses: Record<string, TunnelService> = {
      "/echo": echo,
      "/no": () => Promise.reject(new SallyportError("access_denied", "Cannot serve", { side: "peer" })),
      "/thrown": () => {
        throw new Error("a fault");
      },
    };
    test("what is refused harms nobody", refuses, async (tunnels) => {
      for (const side of ["edge", "agent"] as const) {
        const other = side === "edge" ? "agent" : "edge";
        const neighbour = watch(await tunnels[side].open("/echo"));
        await assertRejects(tunnels[side].open("/no"), "request_refused");
        await assertRejects(tunnels[side].open("/thrown"), "request_refused");
        await assertRejects(tunnels[side].open("/nobody"), "request_refused");
        await assertRejects(tunnels[side].open("no address"), "address_invalid");
        await assertRejects(tunnels[side].open(["a".repeat(3000)]), "address_invalid");
        assert.deepEqual(tunnels.refusals[other].slice(0, 3), [
          "access_denied",
          "internal",
          "request_refused",
        ]);
        neighbour.write(bytesOf("still here"));
        await neighbour.received(10);
        assert.equal(neighbour.text, "still here");
        neighbour.abort();
      }
    });

    test(
      "bad magic, another version and a bad address end their stream alone",
      { "/echo": echo },
      async (tunnels) => {
        const neighbour = watch(await tunnels.edge.open("/echo"));
        const raw = async (bytes: Uint8Array<ArrayBuffer>) => {
          const stream = new WatchedStream(tunnels.pair.edge.open({ address: "192.0.2.7" }));
          stream.write(bytes);
          await stream.until(() => stream.ended || stream.closes > 0);
          stream.abort();
          await stream.sawClose;
          return Buffer.concat(stream.chunks).toString("hex");
        };
        const nyan = (version: number) => concat(bytesOf("NYAN"), new Uint8Array([version]));
        assert.equal(await raw(bytesOf("NYAH\0")), "");
        assert.equal(await raw(concat(nyan(1), encodeAddress("/echo"))), "4e59414e0001");
        assert.equal(await raw(concat(nyan(0), new Uint8Array([0, 0, 8, 1]))), "4e59414e0001");
        assert.equal(await raw(concat(nyan(0), encodeAddress("echo"))), "4e59414e0001");
        assert.deepEqual(tunnels.refusals.agent, [
          "request_invalid",
          "request_invalid",
          "request_invalid",
          "address_invalid",
        ]);
        neighbour.write(bytesOf("still here"));
        await neighbour.received(10);
      },
    );

    test("the exchange, byte for byte, with the service's bytes right after it", {
      "/hi": () => (stream) => {
        stream.write(bytesOf("welcome "));
        stream.attach({ data: (chunk) => void stream.write(chunk), end() {}, drain() {}, close() {} });
      },
    }, async (tunnels) => {
      const stream = new WatchedStream(tunnels.pair.edge.open({ address: "192.0.2.7" }));
      const all = concat(bytesOf("NYAN\0\0\0\0\x03/hi"), bytesOf("early"));
      for (const byte of all) stream.write(new Uint8Array([byte]));
      await stream.received(6 + 13);
      assert.equal(stream.text, "NYAN\0\0welcome early");
      stream.abort();
    });

    it(
      "the TCP proxy dials before it accepts, and keeps what half-close the transport has",
      { timeout },
      async () => {
        const harness = await open();
        const { runtime, host } = harness;
        await harness.run(async () => {
          const pair = await kind.open(runtime, host);
          const arrived: Watched[] = [];
          const listener = await runtime.listen({
            host,
            port: 0,
            accept: (conn) => {
              const watched = new Watched(conn);
              arrived.push(watched);
              watched.onData = (chunk) => watched.write(chunk);
              watched.onEnd = () => {
                watched.write(bytesOf("last words"));
                watched.closeWrite();
              };
            },
          });
          const proxy = tcpProxy({ runtime, networks: new NetworkSet([host]) });
          const tunnels = tunnelPair(harness, pair, { "/proxy-tcp": proxy });
          for (const side of ["edge", "agent"] as const) {
            const port = String(listener.address.port);
            const stream = watch(await tunnels[side].open(["proxy-tcp", "ip4", host, "tcp", port]));
            assert.ok(arrived.length > 0, "the target has been dialled");
            const bytes = pattern(500_000, 8);
            stream.write(bytes);
            await stream.received(bytes.length);
            stream.closeWrite();
            if (kind.halfClose) {
              await stream.received(bytes.length + 10);
              await stream.sawClose;
              stream.assertOver();
            } else stream.abort();
          }
          listener.close();
          const { port } = listener.address;
          await assertRejects(tunnels.edge.open(`/proxy-tcp/ip4/${host}/tcp/${port}`), "request_refused");
          assert.equal(tunnels.refusals.agent[0], "endpoint_unreachable");
          await pair.close(
            new SallyportError("shutdown", "Cannot keep session: the test is over", { side: "local" }),
          );
        });
      },
    );

    it("who connects says who it is, is registered, and asks an HTTP service", { timeout }, async () => {
      const harness = await open();
      const { clock } = harness.runtime;
      await harness.run(async () => {
        const pair = await kind.open(harness.runtime, harness.host);
        const carriers = { edge: new SessionCarrier(pair.edge), agent: new SessionCarrier(pair.agent) };
        for (const side of ["edge", "agent"] as const) {
          pair[`${side}Ear`].also = {
            stream: (stream) => carriers[side].offer(stream),
            streamClosed: () => carriers[side].streamClosed(),
            ended: (error) => carriers[side].ended(error),
          };
        }
        const secret = pattern(32, 7);
        const registry = createMemoryRegistry({ clock });
        const over = Promise.withResolvers<void>();
        const events: string[] = [];
        const daemon = createTunnelDaemon({
          clock,
          registry,
          authenticators: [simpleAckAuthenticator(), secretAuthenticator(() => ({ secret }))],
          router: createRouter({
            "/http": httpService({
              clock,
              fetch: (request, { tunnel }) => new Response(`${request.url} ${tunnel.name}.`),
            }),
          }),
          event: ({ kind }) => {
            events.push(kind);
            if (kind === "disconnected") over.resolve();
          },
        });
        const source = createTunnelSource();
        daemon.attach(source);
        source.carrier(carriers.edge);
        const credentials = [secretCredential("device", secret), simpleAckCredential()];
        const router = createRouter({});
        const tunnel = await joinTunnel({
          carrier: carriers.agent,
          clock,
          credentials,
          router,
          name: "daemon",
        });
        const stream = watch(await tunnel.open("/http"));
        stream.write(bytesOf("GET /page HTTP/1.1\r\nhost: a.test\r\n\r\n"));
        await stream.until(() => stream.text.includes("http://a.test/page device."));
        assert.equal((await registry.byName("device"))?.transport, pair.edge.transport);
        stream.abort();
        await daemon.close(1_000);
        await over.promise;
        assert.deepEqual(events, ["connected", "authenticated", "disconnected"]);
        assert.equal(await registry.byName("device"), undefined);
        await pair.close(
          new SallyportError("shutdown", "Cannot keep session: the test is over", { side: "local" }),
        );
      });
    });

    test("a stream that begins otherwise is a visitor's, whole", {}, async (tunnels) => {
      const near = new WatchedStream(tunnels.pair.edge.open({ address: "192.0.2.7" }));
      const hello = pattern(100_000, 3);
      hello[0] = 0x16;
      near.write(hello);
      const far = await tunnels.visitor;
      await far.received(hello.length);
      assert.equal(far.hash, hashOf(hello));
      assert.equal(far.stream.caller.address, "192.0.2.7");
      far.write(bytesOf("answer"));
      await near.received(6);
    });
  });
}
