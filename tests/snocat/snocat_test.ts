import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { makeCertificate } from "../../src/crypto/certificate.ts";
import { errorCode, SallyportError } from "../../src/errors.ts";
import type { ByteStream, Runtime } from "../../src/runtime/port.ts";
import { answerBySimpleAck, greetBySimpleAck, SNOCAT_ALPN } from "../../src/snocat/handshake.ts";
import { openPublicPort } from "../../src/tunnel/ports/demand_proxy_service.ts";
import { QuicCarrier } from "../../src/tunnel/carriers/quic_carrier.ts";
import { createRouter } from "../../src/tunnel/requests/router.ts";
import { Tunnel } from "../../src/tunnel/tunnel.ts";
import { encodeSimpleAck } from "../../src/wire/snocat/simple_ack.ts";
import { assertCode, assertRejects, bytesOf, pattern, Watched } from "../conformance/runtime_helpers.ts";
import {
  NAME,
  QUIC_PORT,
  SERVER,
  serverIdentity,
  SnocatWorld,
  TARGET_PORT,
  VIRTUAL_NOW_MS,
} from "./world.ts";
import { SHUTDOWN_GRACE_MS } from "../../src/transport/port.ts";
import { HELLO_DEADLINE_MS } from "../../src/wire/tls/client_hello.ts";

const ALICE = "10.0.0.2";
const BOB = "10.0.0.3";
const CAROL = "10.0.0.4";

/** A connection to the server on which nothing has been said. */
async function dial(runtime: Runtime): Promise<QuicCarrier> {
  const quic = await runtime.quic();
  const { certificatePem } = await serverIdentity();
  const conn = await quic.dial({
    host: SERVER,
    port: QUIC_PORT,
    alpn: SNOCAT_ALPN,
    trust: { authoritiesPem: certificatePem, serverName: NAME },
    timeoutMs: 5_000,
  });
  return new QuicCarrier({ conn, clock: runtime.clock, capabilities: quic.capabilities });
}

/** A server of the test's own: the tunnels that come, once they have answered. */
async function listenRaw(world: SnocatWorld): Promise<() => Promise<Tunnel>> {
  const runtime = world.runtime(SERVER);
  const quic = await runtime.quic();
  const { clock } = runtime;
  const tunnels: Tunnel[] = [];
  // Takes demands, and never answers them.
  const router = createRouter({ "/proxyme": () => (stream) => void new Watched(stream as never) });
  let wake = () => {};
  await quic.listen({
    host: SERVER,
    port: QUIC_PORT,
    identity: await serverIdentity(),
    alpn: [SNOCAT_ALPN],
    accept: (conn) => {
      const carrier = new QuicCarrier({ conn, clock, capabilities: quic.capabilities });
      void greetBySimpleAck(carrier, clock).then(() => {
        tunnels.push(new Tunnel({ carrier, clock, name: "client", router }));
        wake();
      });
    },
  });
  return async () => {
    while (tunnels.length === 0) await new Promise<void>((resolve) => wake = resolve);
    return tunnels.shift() as Tunnel;
  };
}

describe("startSnocatServer and SnocatClient", () => {
  it("a client gets the lowest free port, and visitors reach its target with half-close", async () => {
    const world = new SnocatWorld();
    await world.run(async () => {
      await world.echo(ALICE);
      await world.server();
      const alice = await world.client(ALICE);
      assert.deepEqual(await alice.granted(), [{ host: SERVER, port: 8080 }]);
      await world.echoes(8080);
      await alice.client.close(1_000);
      assert.equal(await alice.over, undefined);
      await assertRejects(world.visit(8080), "connection_refused");
    });
  });

  it("two clients get two ports, a third none, and who leaves frees its port", async () => {
    const world = new SnocatWorld();
    await world.run(async () => {
      for (const host of [ALICE, BOB, CAROL]) await world.echo(host);
      await world.server();
      const alice = await world.client(ALICE);
      assert.equal((await alice.granted())[0]?.port, 8080);
      const bob = await world.client(BOB);
      assert.equal((await bob.granted())[0]?.port, 8081);
      const carol = await world.client(CAROL);
      assertCode(await carol.over, "limit_exceeded");
      await alice.client.close(1_000);
      assert.equal((await (await world.client(CAROL)).granted())[0]?.port, 8080);
      await Promise.all([world.echoes(8080), world.echoes(8081)]);
    });
  });

  it("a certificate that isn't believed ends the client, and a name that it doesn't carry", async () => {
    const world = new SnocatWorld();
    await world.run(async () => {
      await world.server();
      const other = await makeCertificate({
        commonName: NAME,
        names: [NAME],
        validDays: 1,
        wallMs: VIRTUAL_NOW_MS,
      });
      const stranger = await world.client(ALICE, { authoritiesPem: other.certificatePem });
      assertCode(await stranger.over, "certificate_refused");
      const misled = await world.client(ALICE, { serverName: "other.example.org" });
      assertCode(await misled.over, "certificate_refused");
    });
  });

  it("a peer that says nothing, or something else, holds nobody up and is closed", async () => {
    const world = new SnocatWorld();
    await world.run(async () => {
      await world.echo(ALICE);
      const server = await world.server();
      const since = world.network.clock.nowMs();
      const mute = await dial(world.runtime(BOB));
      const liar = await dial(world.runtime(CAROL));
      const liarEnded = Promise.withResolvers<SallyportError>();
      const first = new Watched(await liar.first() as ByteStream as never);
      liar.attach({ stream() {}, ended: liarEnded.resolve });
      await first.received(64);
      assert.deepEqual(Buffer.concat(first.chunks), Buffer.from(encodeSimpleAck("hello")));
      first.write(bytesOf("HELO"));
      first.write(new Uint8Array(60));
      await liarEnded.promise;

      await (await world.client(ALICE)).granted();
      assert.ok(world.network.clock.nowMs() - since < HELLO_DEADLINE_MS, "the mute one isn't waited for");
      const ended = Promise.withResolvers<SallyportError>();
      mute.attach({ stream() {}, ended: ended.resolve });
      await ended.promise;
      assert.ok(world.network.clock.nowMs() - since >= HELLO_DEADLINE_MS);
      assert.equal(server.tunnels, 1);
    });
  });

  it("an unknown address is refused, and the other streams go on", async () => {
    const world = new SnocatWorld();
    await world.run(async () => {
      await world.echo(ALICE);
      await world.server();
      const runtime = world.runtime(ALICE);
      const carrier = await dial(runtime);
      await answerBySimpleAck(carrier, runtime.clock);
      const router = createRouter({
        "/proxy-tcp": () => async (stream) => {
          const conn = await runtime.dial({ host: ALICE, port: TARGET_PORT, timeoutMs: 1_000 });
          const [a, b] = [new Watched(stream as never), new Watched(conn)];
          a.onData = (chunk) => void b.write(chunk);
          a.onEnd = () => b.closeWrite();
          b.onData = (chunk) => void a.write(chunk);
          b.onEnd = () => a.closeWrite();
        },
      });
      const tunnel = new Tunnel({ carrier, clock: runtime.clock, name: "server", router });
      const port = await openPublicPort(tunnel, {
        clock: runtime.clock,
        target: { host: "localhost", port: TARGET_PORT },
      });
      assert.equal(port.addresses[0]?.port, 8080);
      const visitor = await world.visit(8080);
      visitor.write(bytesOf("before"));
      await visitor.received(6);
      for (const address of ["/nothing", "", "/", "/proxyme/0.0.2/a/1", "/proxyme/0.0.1/a/0", "/proxyme"]) {
        await assertRejects(tunnel.open(address), "request_refused");
      }
      // No magic: that stream alone ends.
      const rude = new Watched(await carrier.open() as never);
      rude.write(bytesOf("GET / HTTP/1.1\r\n\r\n"));
      await rude.sawClose;
      visitor.write(bytesOf("after"));
      await visitor.received(11);
      await world.echoes(8080, pattern(10));
    });
  });

  it("the client dials its target alone, whatever the server asks for", async () => {
    const world = new SnocatWorld();
    await world.run(async () => {
      await world.echo(ALICE);
      let dialled = 0;
      await world.runtime(ALICE).listen({
        host: ALICE,
        port: 22,
        accept: (conn) => (dialled++, conn.abort()),
      });
      const next = await listenRaw(world);
      void world.client(ALICE);
      const tunnel = await next();
      const wrong = [
        "/proxy-tcp/dns/10.0.0.2/tcp/22",
        "/proxy-tcp/ip4/10.0.0.2/tcp/22",
        "/proxy-tcp/tcp/22",
        `/proxy-tcp/ip4/${SERVER}/tcp/${TARGET_PORT}`,
        "/proxy-tcp",
        "/echo",
      ];
      for (const address of wrong) await assertRejects(tunnel.open(address), "request_refused");
      assert.equal(dialled, 0);
      const stream = new Watched(await tunnel.open(`/proxy-tcp/dns/${ALICE}/tcp/${TARGET_PORT}`) as never);
      stream.write(bytesOf("hello"));
      await stream.received(5);
    });
  });

  it("either side opens streams, 200 at once, and all stay intact", async () => {
    const world = new SnocatWorld();
    await world.run(async () => {
      await world.echo(ALICE);
      await world.server();
      await (await world.client(ALICE)).granted();
      const visits = Array.from({ length: 200 }, (_, i) => world.echoes(8080, pattern(5_000 + i, i + 1)));
      await Promise.all(visits);
    });
  });

  it("the client comes back after the server's restart", async () => {
    const world = new SnocatWorld();
    await world.run(async () => {
      await world.echo(ALICE);
      const first = await world.server();
      const alice = await world.client(ALICE);
      await alice.granted();
      await first.close(SHUTDOWN_GRACE_MS);
      await world.wait(20_000);
      await world.server();
      assert.deepEqual(await alice.granted(), [{ host: SERVER, port: 8080 }]);
      await world.echoes(8080);
      const reasons = world.clientLines.filter(({ level }) => level === "warn");
      assert.ok(reasons.length > 1, "it has tried meanwhile");
    });
  });

  it("a client whose first attempt fails says so and ends", async () => {
    const world = new SnocatWorld();
    await world.run(async () => {
      world.runtime(SERVER);
      const alice = await world.client(ALICE);
      const error = await alice.over;
      assert.ok(error instanceof SallyportError, String(error));
      assert.match(errorCode(error), /^(connection_refused|deadline_exceeded|connection_lost)$/);
    });
  });

  for (const who of ["server", "client"] as const) {
    it(`when the ${who} stops, visitors may finish, and no new ones come`, async () => {
      const world = new SnocatWorld();
      await world.run(async () => {
        await world.echo(ALICE);
        const server = await world.server();
        const alice = await world.client(ALICE);
        await alice.granted();
        const visitor = await world.visit(8080);
        visitor.write(bytesOf("before"));
        await visitor.received(6);
        const closing = who === "server" ? server.close(60_000) : alice.client.close(60_000);
        await world.wait(3_000);
        await assertRejects(world.visit(8080), "connection_refused");
        visitor.write(bytesOf("after"));
        visitor.closeWrite();
        await visitor.sawEnd;
        assert.equal(visitor.text, "beforeafter");
        await closing;
        assert.ok(world.network.clock.nowMs() < 30_000, "it doesn't wait longer than it needs to");
        assert.equal(who === "client" ? await alice.over : undefined, undefined);
      });
    });
  }

  it("a stop doesn't wait for ever for visitors that don't finish", async () => {
    const world = new SnocatWorld();
    await world.run(async () => {
      await world.echo(ALICE);
      const server = await world.server();
      await (await world.client(ALICE)).granted();
      const visitor = await world.visit(8080);
      visitor.write(bytesOf("stays"));
      await visitor.received(5);
      await server.close(SHUTDOWN_GRACE_MS);
      await visitor.sawClose;
    });
  });
});
