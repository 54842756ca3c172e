/**
 * The curve handshake as a state machine: a client, a server, and somebody on the way who changes, repeats, loses,
 * reorders and invents packets as an input says.
 *
 * @module
 */
import type { Bytes } from "../../src/bytes/bytes.ts";
import { keyPair, type Sodium } from "../../src/crypto/sodium.ts";
import type { SallyportError } from "../../src/errors.ts";
import { CurveClient } from "../../src/protocol/curve/client.ts";
import type { CurveConnection, CurveHandler } from "../../src/protocol/curve/connection.ts";
import { curveOptions } from "../../src/protocol/curve/options.ts";
import { CurveServer } from "../../src/protocol/curve/server.ts";
import type { Address } from "../../src/runtime/port.ts";
import { pattern, seededSource } from "../support/seeded.ts";
import { joined } from "./mutate.ts";
import type { Target } from "./target.ts";

const CLIENT = { host: "10.9.9.9", port: 9 };
const SERVER = { host: "192.0.2.1", port: 4500 };
const STRANGER = { host: "203.0.113.5", port: 5 };
const CREDENTIAL = "the credential";
const PACKET_MAX_BYTES = 2_048;
const QUEUED_MAX = 64;
const PENDING_MAX = 4;
const STEPS_MAX = 60;
const STEP_MS = 20;
const WAIT_MS = 700;

/** What is done with the oldest packet of a direction; the next two bytes say where and how. */
enum Act {
  Deliver,
  Flip,
  Cut,
  Twice,
  Lose,
  Later,
  Stranger,
  Back,
  Wait,
}
const ACTS = 9;

/** Packets on their way to one side. */
class Way {
  readonly queue: Bytes[] = [];
  bytes = 0;

  push(packet: Bytes): void {
    this.bytes += packet.length;
    if (this.queue.length < QUEUED_MAX) this.queue.push(packet);
  }
}

class Game {
  readonly toServer = new Way();
  readonly toClient = new Way();
  readonly #server: CurveServer;
  readonly #client: CurveClient;
  #nowMs = 1_000;
  #admitted = 0;
  #proved = 0;
  readonly #closed: SallyportError[] = [];

  constructor(sodium: Sodium) {
    const handler = (connection?: CurveConnection): CurveHandler => ({
      introduced: (bytes) => this.#introduced(connection, bytes),
      stream: (stream) => stream.abort(),
      streamClosed() {},
      closed: (error) => void this.#closed.push(error),
    });
    const io = (way: Way, seed: number) => {
      const slot = new Uint8Array(PACKET_MAX_BYTES);
      const send = (length: number) => way.push(slot.slice(0, length));
      return {
        slot: () => slot,
        send,
        wake: () => {},
        plain: new Uint8Array(PACKET_MAX_BYTES),
        random: seededSource(seed),
      };
    };
    const keys = keyPair(sodium, pattern(32, 7));
    const common = { crypto: sodium, options: curveOptions({}), nowMs: this.#nowMs };
    this.#server = new CurveServer({
      ...common,
      io: io(this.toClient, 1),
      keys,
      limits: { connectionsMax: 8, pendingMax: PENDING_MAX, pendingPerSourceMax: 2, failuresPerSourceMax: 6 },
      accept: (connection) => handler(connection),
    });
    this.#client = new CurveClient({
      ...common,
      io: io(this.toServer, 2),
      server: SERVER,
      serverKey: keys.publicKey,
      credential: new TextEncoder().encode(CREDENTIAL),
      handler: handler(),
      serverProved: () => void this.#proved++,
    });
  }

  play(script: Bytes): string {
    this.#turn();
    for (let at = 0, steps = 0; at < script.length && steps < STEPS_MAX; at += 3, steps++) {
      const [what = 0, where = 0, how = 0] = script.subarray(at, at + 3);
      this.#step(what % ACTS, (what & 0x80) !== 0, where, how);
      this.#nowMs += STEP_MS;
      this.#turn();
      if (this.#server.pending > PENDING_MAX) {
        throw new Error(`${this.#server.pending} connections are pending`);
      }
    }
    // Nobody gets more than was sent in his name, before he has proved to be there.
    if (this.#server.size === 0 && this.toClient.bytes > this.toServer.bytes * STEPS_MAX) {
      throw new Error("amplified");
    }
    const ends = this.#closed.map(({ code }) => code);
    if (ends.includes("internal")) throw this.#closed.find(({ code }) => code === "internal")!;
    const seen = Object.entries(this.#server.stats).filter(([, count]) => count > 0).map(([name]) => name);
    const came = `${this.#client.connection.admitted} ${this.#admitted > 0} ${this.#proved > 0}`;
    return `${came} ${seen.join(" ")} ${ends.sort().join(" ")}`;
  }

  #step(act: Act, backwards: boolean, where: number, how: number): void {
    if (act === Act.Wait) return void (this.#nowMs += WAIT_MS);
    const way = backwards ? this.toClient : this.toServer;
    const packet = way.queue.shift();
    if (packet === undefined) return;
    const place = where * packet.length >> 8;
    switch (act) {
      case Act.Deliver:
        return this.#deliver(backwards, packet);
      case Act.Flip: {
        const changed = packet.slice();
        changed[place]! ^= how;
        return this.#deliver(backwards, changed);
      }
      case Act.Cut:
        return this.#deliver(
          backwards,
          how % 2 === 0 ? packet.slice(0, place) : joined(packet, packet.slice(0, place)),
        );
      case Act.Twice:
        this.#deliver(backwards, packet);
        return this.#deliver(backwards, packet);
      case Act.Later:
        return void way.queue.push(packet);
      case Act.Stranger:
        this.#deliver(backwards, packet, STRANGER);
        return void way.queue.push(packet);
      case Act.Back:
        return this.#deliver(!backwards, packet);
    }
  }

  #deliver(backwards: boolean, packet: Bytes, from: Address = backwards ? SERVER : CLIENT): void {
    // Each side may write into what it reads.
    const copy = packet.slice();
    if (backwards) this.#client.receive(copy, from, this.#nowMs);
    else this.#server.receive(copy, from, this.#nowMs);
  }

  #introduced(connection: CurveConnection | undefined, bytes: Bytes): void {
    if (connection === undefined) return;
    const credential = new TextDecoder().decode(bytes);
    if (credential !== CREDENTIAL) throw new Error(`the server was told "${credential}"`);
    this.#admitted++;
    connection.admit(new Uint8Array(0));
  }

  #turn(): void {
    this.#client.tick(this.#nowMs);
    this.#client.turn(this.#nowMs);
    for (const connection of [...this.#server.connections]) {
      connection.tick(this.#nowMs);
      connection.turn(this.#nowMs);
      this.#server.settle(connection);
    }
  }
}

const steps = (...acts: readonly (readonly [Act, boolean, number?, number?])[]): Bytes =>
  new Uint8Array(
    acts.flatMap((
      [act, backwards, where = 0, how = 0],
    ) => [act + (backwards ? 0x87 - 0x87 % ACTS : 0), where, how]),
  );

/** The target. An input is a script of three bytes a step; where it is cut makes no difference. */
export function curveHandshake(sodium: Sodium): Target {
  const there = [Act.Deliver, false] as const;
  const back = [Act.Deliver, true] as const;
  const whole = [there, back, there, back, there, back, there, back] as const;
  return {
    name: "curve_handshake",
    whole: true,
    seeds: [
      steps(...whole),
      steps([Act.Twice, false], [Act.Twice, true], [Act.Twice, false], [Act.Twice, true], ...whole),
      steps([Act.Lose, false], [Act.Wait, false], ...whole),
      steps(there, [Act.Flip, true, 90, 1], [Act.Wait, false], ...whole),
      steps(there, back, [Act.Stranger, false], [Act.Cut, false, 200, 1], ...whole),
      steps(there, back, [Act.Back, false], [Act.Flip, false, 255, 3], [Act.Wait, false], ...whole, ...whole),
    ],
    run: ([script]) => new Game(sodium).play(script!),
  };
}
