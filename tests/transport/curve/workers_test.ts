/** A curve port that several workers share: on the memory network, and on this runtime's own sockets. */
import assert from "node:assert/strict";
import process from "node:process";
import { describe, it } from "node:test";
import type { CurveConnection } from "../../../src/protocol/curve/connection.ts";
import { createMemoryNetwork } from "../../../src/runtime/memory/memory.ts";
import { currentRuntime } from "../../../src/runtime/mod.ts";
import type { Address, Runtime } from "../../../src/runtime/port.ts";
import { bindCurve, type CurveListener } from "../../../src/transport/curve/socket_listener.ts";
import { GROUP_SECRET_BYTES, type PortGroup, type PortMember } from "../../../src/transport/port_group.ts";
import { Collector, cryptoForTests, digest, pour, text } from "../../protocol/curve/support.ts";
import { connectCollector, edgeKeys } from "../../support/curve_client.ts";
import { pattern } from "../../support/seeded.ts";
import { until } from "../../support/until.ts";

const crypto = await cryptoForTests();
const EDGE = "192.0.2.1";
/** Enough that each of two workers gets one: all at one has a chance of 1 in 32,768. */
const CONNECTIONS = 16;

/** The parent of the workers, as far as their port is concerned. */
class Parent {
  readonly secret = pattern(GROUP_SECRET_BYTES, 5);
  readonly #members = new Map<number, PortMember>();
  readonly #changed = new Map<number, (members: readonly PortMember[]) => void>();

  group(number: number): PortGroup {
    return {
      number,
      secret: this.secret,
      // deno-lint-ignore require-await -- a port's method
      join: async (_name, relayPort, changed) => {
        this.#changed.set(number, changed);
        this.set({ number, relayPort, accepting: true });
      },
    };
  }

  set(member: PortMember): void {
    this.#members.set(member.number, member);
    this.#tell();
  }

  drain(number: number): void {
    this.set({ ...this.#members.get(number)!, accepting: false });
  }

  leave(number: number): void {
    this.#members.delete(number);
    this.#tell();
  }

  relayPort(number: number): number {
    return this.#members.get(number)!.relayPort;
  }

  #tell(): void {
    for (const changed of this.#changed.values()) changed([...this.#members.values()]);
  }
}

interface Stage {
  /** The edge's side, and its clients'. */
  readonly edge: Runtime;
  readonly client: Runtime;
  readonly host: string;
  until(condition: () => boolean): Promise<void>;
  settle<T>(promise: Promise<T>): Promise<T>;
}

function memoryStage(): Stage {
  const network = createMemoryNetwork({ link: { latencyMs: 5 } });
  return {
    edge: network.runtime(EDGE),
    client: network.runtime("10.0.0.2"),
    host: EDGE,
    settle: (promise) => network.settle(promise),
    async until(condition) {
      for (let tries = 0; !condition(); tries++) {
        assert.ok(tries < 1_000, "it did not come about in virtual time");
        await network.advance(10);
      }
    },
  };
}

async function nativeStage(): Promise<Stage> {
  const runtime = await currentRuntime();
  return { edge: runtime, client: runtime, host: "127.0.0.1", until, settle: (promise) => promise };
}

class Workers {
  readonly parent = new Parent();
  readonly listeners = new Map<number, CurveListener>();
  readonly connections = new Map<number, CurveConnection[]>();
  readonly #stage: Stage;
  #address: Address | undefined;

  constructor(stage: Stage) {
    this.#stage = stage;
  }

  get address(): Address {
    return this.#address!;
  }

  async start(number: number): Promise<void> {
    const connections: CurveConnection[] = [];
    this.connections.set(number, connections);
    const listener = await this.#stage.settle(bindCurve({
      runtime: this.#stage.edge,
      host: this.#stage.host,
      port: this.#address?.port ?? 0,
      crypto,
      keys: edgeKeys(crypto),
      group: this.parent.group(number),
      accept: (connection) => {
        connections.push(connection);
        return {
          introduced: () => connection.admit(text("hello")),
          stream: () => {},
          streamClosed: () => {},
          closed: () => {},
        };
      },
    }));
    this.#address ??= listener.address;
    this.listeners.set(number, listener);
  }

  stop(number: number): void {
    this.parent.leave(number);
    this.listeners.get(number)!.close();
  }

  get passed(): number {
    return [...this.listeners.values()].reduce((sum, { stats }) => sum + stats.passed, 0);
  }

  dial(collector: Collector) {
    return this.#stage.settle(connectCollector(crypto, this.#stage.client, this.address, collector));
  }

  close(): void {
    for (const listener of this.listeners.values()) listener.close();
  }
}

const stages = [["memory", () => Promise.resolve(memoryStage())], ["native", nativeStage]] as const;
for (const [kind, open] of stages) {
  describe(
    `bindCurve: workers that share a port (${kind})`,
    { skip: kind === "native" && skipNative() },
    () => {
      it("have connections each, which keep their worker when a client's address changes", async () => {
        const stage = await open();
        const workers = new Workers(stage);
        await workers.start(0);
        await workers.start(1);
        const data = pattern(200_000);
        const collectors = Array.from({ length: CONNECTIONS }, () => new Collector());
        const links = await Promise.all(collectors.map((collector) => workers.dial(collector)));
        const [first, second] = [workers.connections.get(0)!, workers.connections.get(1)!];
        assert.equal(first.length + second.length, CONNECTIONS);
        assert.ok(first.length > 0 && second.length > 0, `${first.length} and ${second.length}`);
        // Each moves in mid-transfer, to a port that the system may well give to the other worker.
        for (const connection of [...first, ...second]) pour(connection.open(), data);
        await Promise.all(links.map((link) => stage.settle(link.rebind())));
        await stage.until(() => collectors.every(({ ended }) => ended));
        for (const collector of collectors) assert.equal(collector.digest(), digest(data));
        assert.ok(workers.passed > 0, "none was passed");
        const moves = [...workers.listeners.values()].map((listener) => listener.totals().pathMoves);
        assert.ok(moves[0]! + moves[1]! >= CONNECTIONS, `${moves} moves`);
        for (const { stats } of workers.listeners.values()) assert.equal(stats.strays, 0);
        workers.close();
      });

      it("send new connections to those that accept, and let the others finish theirs", async () => {
        const stage = await open();
        const workers = new Workers(stage);
        await workers.start(0);
        const old = new Collector();
        await workers.dial(old);
        const data = pattern(200_000);
        // The successor of a worker that drains.
        await workers.start(1);
        workers.parent.drain(0);
        await Promise.all(Array.from({ length: 8 }, () => workers.dial(new Collector())));
        assert.equal(workers.connections.get(0)!.length, 1);
        assert.equal(workers.connections.get(1)!.length, 8);
        pour(workers.connections.get(0)![0]!.open(), data);
        await stage.until(() => old.ended);
        assert.equal(old.digest(), digest(data));
        workers.stop(0);
        await workers.dial(new Collector());
        assert.equal(workers.connections.get(1)!.length, 9);
        workers.close();
      });

      it("take no passed datagrams from other processes", async () => {
        const stage = await open();
        const workers = new Workers(stage);
        await workers.start(0);
        await workers.start(1);
        const { stats } = workers.listeners.get(0)!;
        const relay = { host: "127.0.0.1", port: workers.parent.relayPort(0) };
        const stranger = await stage.settle(
          stage.edge.bindDatagram({ host: "127.0.0.1", port: 0, receive() {} }),
        );
        const head = [...new Uint8Array(16), 0x12, 0x34, 7, ...text("1.2.3.4")];
        for (
          const datagram of [head, head.slice(0, 10), [...workers.parent.secret.subarray(0, 16), 1, 1, 99]]
        ) {
          stranger.send(Uint8Array.from(datagram), relay);
        }
        // A genuine one, of which the listener counts that it is no packet.
        stranger.send(Uint8Array.from([...workers.parent.secret.subarray(0, 16), ...head.slice(16)]), relay);
        await stage.until(() => stats.strays > 0);
        assert.equal(stats.strays, 1);
        stranger.close();
        workers.close();
      });
    },
  );
}

function skipNative(): string | false {
  return process.platform !== "linux" && "needs datagrams as Linux gives them out";
}
