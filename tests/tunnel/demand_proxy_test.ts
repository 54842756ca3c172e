import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { SallyportError } from "../../src/errors.ts";
import { createMemoryNetwork, type MemoryNetwork } from "../../src/runtime/memory/memory.ts";
import type { Conn, Runtime } from "../../src/runtime/port.ts";
import { type PublicPort, requestPublicPort } from "../../src/tunnel/ports/demand_proxy_client.ts";
import { type DemandClient, DemandProxy } from "../../src/tunnel/ports/demand_proxy_server.ts";
import { PortLeases, type PortRange } from "../../src/tunnel/ports/port_leases.ts";
import { encodeDemand } from "../../src/wire/snocat/demand_proxy.ts";
import { assertRejects, bytesOf, pattern, Watched } from "../conformance/runtime_helpers.ts";
import { type LogLine, recordingLogger } from "../support/tunnel.ts";
import { DEMAND_FAREWELL_MS } from "../../src/tunnel/ports/demand_proxy_client.ts";
import {
  DEMAND_ANSWER_DEADLINE_MS,
  DEMAND_CONNECTIONS_MAX,
  DEMAND_LEASES_PER_CLIENT_MAX,
} from "../../src/tunnel/ports/demand_proxy_server.ts";
import { DEMAND_DEADLINE_MS } from "../../src/wire/snocat/demand_proxy.ts";

const SERVER = "10.0.0.1";
const CLIENT = "10.0.0.2";
const VISITOR = "198.51.100.7";
const DEMANDS = 7000;
const TARGET = 9000;

/** A server that serves demands, an echo behind the client, and the ways between them: plain connections. */
class World {
  readonly network: MemoryNetwork = createMemoryNetwork({ seed: 3 });
  readonly server: Runtime = this.network.runtime(SERVER);
  readonly client: Runtime = this.network.runtime(CLIENT);
  readonly lines: LogLine[] = [];
  readonly proxy: DemandProxy;
  readonly leases: PortLeases;
  /** What the client does with a public connection. */
  open: DemandClient["open"] = () => this.server.dial({ host: CLIENT, port: TARGET, timeoutMs: 1_000 });
  allow: DemandClient["allow"];
  /** Ends of the server's, for ruin. */
  readonly demands: Conn[] = [];
  opened = 0;
  readonly echoed: Watched[] = [];

  constructor(range: PortRange = { first: 5000, last: 5001 }, more: { publicHost?: string } = {}) {
    this.leases = new PortLeases(range);
    this.proxy = new DemandProxy({
      ...more,
      runtime: this.server,
      leases: this.leases,
      host: SERVER,
      log: recordingLogger(this.lines),
    });
  }

  run(body: () => Promise<void>): Promise<void> {
    return this.network.settle(this.#start().then(body));
  }

  async #start(): Promise<void> {
    const owners = new Map<string, object>();
    await this.server.listen({
      host: SERVER,
      port: DEMANDS,
      accept: (conn) => {
        this.demands.push(conn);
        const owner = owners.get(conn.remote.host) ?? {};
        owners.set(conn.remote.host, owner);
        this.proxy.serve(conn, {
          owner,
          name: conn.remote.host,
          target: { host: "localhost", port: TARGET },
          open: (target, visitor) => {
            this.opened++;
            return this.open(target, visitor);
          },
          allow: (wished) => this.allow?.(wished),
        });
      },
    });
    await this.client.listen({
      host: CLIENT,
      port: TARGET,
      accept: (conn) => {
        const echo = new Watched(conn);
        this.echoed.push(echo);
        echo.onData = (chunk) => void echo.write(chunk);
        echo.onEnd = () => echo.closeWrite();
      },
    });
  }

  demand(from: Runtime = this.client): Promise<Conn> {
    return from.dial({ host: SERVER, port: DEMANDS, timeoutMs: 1_000 });
  }

  async ask(wishedPort?: number, from: Runtime = this.client): Promise<PublicPort> {
    return await requestPublicPort({ stream: await this.demand(from), clock: from.clock, wishedPort });
  }

  async visit(port: number): Promise<Watched> {
    const dial = this.network.runtime(VISITOR).dial({ host: SERVER, port, timeoutMs: 1_000 });
    return new Watched(await dial);
  }

  /** A visitor's bytes come back, and then the end, though the visitor has ended before. */
  async echoes(port: number, bytes = pattern(100_000)): Promise<void> {
    await (await this.visit(port)).assertEchoed(bytes);
  }

  closed(port: number): Promise<void> {
    return assertRejects(this.visit(port), "connection_refused");
  }

  wait(durationMs: number): Promise<void> {
    return new Promise((resolve) => void this.network.clock.after(durationMs, resolve));
  }
}

describe("DemandProxy: over a stream", () => {
  it("gives the lowest free port, carries visitors with half-close, and takes it back", async () => {
    const world = new World();
    await world.run(async () => {
      const port = await world.ask();
      assert.deepEqual(port.addresses, [{ host: SERVER, port: 5000 }]);
      await Promise.all([world.echoes(5000), world.echoes(5000, pattern(7, 9)), world.echoes(5000)]);
      await port.close();
      assert.equal(await port.ended, undefined);
      await world.closed(5000);
      assert.equal(world.leases.leased, 0);
      assert.equal(world.proxy.leases, 0);
      assert.deepEqual((await world.ask()).addresses[0]?.port, 5000);
    });
    const messages = world.lines.map(({ message }) => message);
    assert.deepEqual(messages, [
      "public port opened",
      "public port closed: the client returned it",
      "public port opened",
    ]);
  });

  it("gives two clients two ports, and a third none; who leaves makes room", async () => {
    const world = new World();
    await world.run(async () => {
      const first = await world.ask();
      const second = await world.ask(undefined, world.network.runtime("10.0.0.3"));
      assert.deepEqual([first, second].map(({ addresses }) => addresses[0]?.port), [5000, 5001]);
      await assertRejects(world.ask(), "limit_exceeded");
      // The stream's end is enough: who crashes says no farewell.
      world.demands[0]!.abort();
      await first.ended;
      await world.closed(5000);
      await world.echoes(5001);
      assert.equal((await world.ask()).addresses[0]?.port, 5000);
    });
  });

  it("listens on the address that it was told, and tells the one that it should", async () => {
    const world = new World(undefined, { publicHost: "203.0.113.9" });
    await world.run(async () => {
      assert.deepEqual((await world.ask()).addresses, [{ host: "203.0.113.9", port: 5000 }]);
      // A server's loopback is another address than the one that was bound.
      const inside = world.server.dial({ host: "127.0.0.1", port: 5000, timeoutMs: 1_000 });
      await assertRejects(inside, "connection_refused");
    });
  });

  it("passes over a port that something else has open", async () => {
    const world = new World();
    await world.run(async () => {
      await world.server.listen({ host: SERVER, port: 5000, accept: (conn) => conn.abort() });
      assert.equal((await world.ask()).addresses[0]?.port, 5001);
    });
  });

  it("grants a wish where it may", async () => {
    const world = new World({ first: 5000, last: 5009 });
    await world.run(async () => {
      assert.equal((await world.ask(5004)).addresses[0]?.port, 5004);
      await assertRejects(world.ask(5004), "address_in_use");
      await assertRejects(world.ask(4999), "access_denied");
      world.allow = (wished) => {
        if (wished !== 5005) {
          throw new SallyportError("access_denied", "Cannot lease: 5005 alone", { side: "peer" });
        }
      };
      await assertRejects(world.ask(), "limit_exceeded");
      await assertRejects(world.ask(5006), "access_denied");
      assert.equal((await world.ask(5005)).addresses[0]?.port, 5005);
    });
    const codes = world.lines.filter(({ level }) => level === "warn").map(({ fields }) => fields.reason);
    assert.deepEqual(codes, ["address_in_use", "access_denied", "access_denied", "access_denied"]);
  });

  it("bounds what one client holds", async () => {
    const world = new World({ first: 5000, last: 5999 });
    await world.run(async () => {
      const held: PublicPort[] = [];
      for (let i = 0; i < DEMAND_LEASES_PER_CLIENT_MAX; i++) held.push(await world.ask());
      await assertRejects(world.ask(), "limit_exceeded");
      await world.ask(undefined, world.network.runtime("10.0.0.3"));
      await held[3]!.close();
      assert.equal((await world.ask()).addresses[0]?.port, 5003);
      await assertRejects(world.ask(), "limit_exceeded");
    });
  });

  it("keeps the port open whatever becomes of a visitor", async () => {
    const world = new World();
    await world.run(async () => {
      await world.ask();
      const { open } = world;
      const no = new SallyportError("access_denied", "Cannot dial: no", { side: "peer" });
      const throwing = () => {
        throw no;
      };
      for (const refusing of [() => Promise.reject(no), throwing]) {
        world.open = refusing;
        const refused = await world.visit(5000);
        await refused.sawClose;
        refused.assertOver("connection_lost");
      }

      // It leaves while its stream is being opened; the stream that comes late is ended.
      let go = () => {};
      world.open = async (target, visitor) => {
        await new Promise<void>((resolve) => go = resolve);
        return await open(target, visitor);
      };
      const hasty = await world.visit(5000);
      while (world.opened < 3) await world.wait(10);
      hasty.abort();
      await hasty.sawClose;
      await world.wait(100);
      go();
      while (world.echoed.length === 0) await world.wait(10);
      await world.echoed[0]!.sawClose;

      world.open = open;
      const broken = await world.visit(5000);
      broken.write(bytesOf("x"));
      await broken.received(1);
      broken.abort();
      await world.echoes(5000);
    });
  });

  it("lets visitors go on when the lease ends", async () => {
    const world = new World();
    await world.run(async () => {
      const port = await world.ask();
      const visitor = await world.visit(5000);
      visitor.write(bytesOf("before"));
      await visitor.received(6);
      await port.close();
      await world.closed(5000);
      visitor.write(bytesOf("after"));
      await visitor.received(11);
      visitor.closeWrite();
      await visitor.sawClose;
      visitor.assertOver();
    });
  });

  it("lets a quiet visitor be for more than an hour", async () => {
    const world = new World();
    await world.run(async () => {
      await world.ask();
      const visitor = await world.visit(5000);
      visitor.write(bytesOf("hello"));
      await visitor.received(5);
      await world.wait(3_600_000);
      visitor.write(bytesOf("still here"));
      await visitor.received(15);
      await world.wait(3 * 3_600_000);
      assert.equal(visitor.closes, 1);
    });
  });

  it("ends a visitor that says nothing, and so hears nothing, after a minute", async () => {
    const world = new World();
    await world.run(async () => {
      await world.ask();
      const visitor = await world.visit(5000);
      await world.wait(DEMAND_ANSWER_DEADLINE_MS + 1_000);
      assert.equal(visitor.closes, 1);
    });
  });

  it("bounds a port's connections, those on their way included", async () => {
    const world = new World();
    await world.run(async () => {
      await world.ask();
      const { open } = world;
      world.open = () => new Promise(() => {});
      const visitors = await Promise.all(
        Array.from({ length: DEMAND_CONNECTIONS_MAX }, () => world.visit(5000)),
      );
      const more = await world.visit(5000);
      await more.sawClose;
      assert.deepEqual(visitors.filter(({ closes }) => closes > 0), []);
      // Nobody waits for ever, and then there is room again.
      for (const visitor of visitors) await visitor.sawClose;
      world.open = open;
      await world.echoes(5000);
    });
  });

  it("tells its clients when it stops", async () => {
    const world = new World();
    await world.run(async () => {
      const ports = [await world.ask(), await world.ask()];
      world.proxy.close();
      for (const port of ports) assert.equal((await port.ended)?.code, "shutdown");
      await world.closed(5000);
      assert.equal(world.leases.leased, 0);
    });
  });

  it("gives back a port that was opened for a client that has left", async () => {
    const world = new World();
    await world.run(async () => {
      const stream = await world.demand();
      const watched = new Watched(stream);
      watched.write(encodeDemand());
      watched.write(new Uint8Array(8));
      await watched.sawEnd;
      await world.wait(1_000);
      assert.equal(world.leases.leased, 0);
      await world.closed(5000);
      await world.ask();
    });
  });

  it("doesn't wait for ever for a demand, nor for an answer", async () => {
    const world = new World();
    await world.run(async () => {
      const mute = new Watched(await world.demand());
      mute.write(encodeDemand().subarray(0, 3));
      await mute.sawClose;
      assert.ok(world.network.clock.nowMs() >= DEMAND_DEADLINE_MS);

      await world.server.listen({ host: SERVER, port: 7001, accept: (conn) => void new Watched(conn) });
      const stream = await world.client.dial({ host: SERVER, port: 7001, timeoutMs: 1_000 });
      await assertRejects(requestPublicPort({ stream, clock: world.client.clock }), "deadline_exceeded");
    });
  });

  it("refuses what is no demand", async () => {
    const world = new World();
    await world.run(async () => {
      for (const bytes of [[0xff, 0xff, 0xff, 0xff], [0, 0, 0, 1, 0x37], [0, 0, 0, 1, 0x22]]) {
        const liar = new Watched(await world.demand());
        liar.write(Uint8Array.from(bytes));
        await liar.sawClose;
      }
      assert.equal(world.proxy.leases, 0);
      await world.ask();
    });
  });
});

describe("requestPublicPort", () => {
  /** A server that says `bytes` and then does `then`. */
  async function against(
    bytes: readonly number[],
    then: (server: Watched, port: Promise<PublicPort>, world: World) => Promise<void> | void,
  ): Promise<void> {
    const world = new World();
    await world.run(async () => {
      const accepted = Promise.withResolvers<Watched>();
      const accept = (conn: Conn) => accepted.resolve(new Watched(conn));
      await world.server.listen({ host: SERVER, port: 7001, accept });
      const stream = await world.client.dial({ host: SERVER, port: 7001, timeoutMs: 1_000 });
      const port = requestPublicPort({ stream, clock: world.client.clock });
      port.catch(() => {});
      const server = await accepted.promise;
      await server.received(6);
      server.write(Uint8Array.from(bytes));
      await then(server, port, world);
      assert.deepEqual(server.chunks[0]?.subarray(0, 6), encodeDemand());
    });
  }
  const ascii = (text: string): number[] => [0, 0, 0, text.length, ...bytesOf(text)];
  const granted = ascii('["[::]:8080"]');

  it("takes snocat's bytes", () =>
    against(granted, async (server, port, world) => {
      const { addresses, close } = await port;
      assert.deepEqual(addresses, [{ host: "::", port: 8080 }]);
      const closing = close();
      await server.received(6 + 8);
      assert.deepEqual(server.chunks.slice(1).flatMap((chunk) => [...chunk]), new Array(8).fill(0));
      server.write(new Uint8Array(8));
      const before = world.network.clock.nowMs();
      await closing;
      assert.ok(world.network.clock.nowMs() - before < DEMAND_FAREWELL_MS);
    }));

  it("doesn't wait for ever for the server's farewell", () =>
    against(granted, async (_server, port) => await (await port).close()));

  it("understands a refusal after the grant", () =>
    against([...granted, ...ascii("null")], async (_server, port) => {
      const { ended } = await port;
      assert.equal((await ended)?.code, "limit_exceeded");
    }));

  it("hears of the server's end", () =>
    against(granted, async (server, port) => {
      const { ended } = await port;
      server.release();
      assert.equal((await ended)?.code, "shutdown");
    }));

  it("says why there is no port", async () => {
    await against(ascii("null"), (_server, port) => assertRejects(port, "limit_exceeded"));
    await against(ascii("[]"), (_server, port) => assertRejects(port, "frame_invalid"));
    await against([0, 1, 0, 0], (_server, port) => assertRejects(port, "frame_invalid"));
    await against([], (server, port) => {
      server.release();
      return assertRejects(port, "connection_lost");
    });
    await against([], (server, port) => {
      server.abort();
      return assertRejects(port, "connection_lost");
    });
  });
});
