/**
 * A curve port that several workers share. The system gives a datagram to any of them; the connection id or the cookie in
 * it names the worker that it is for, and it is passed there (docs/protocols/curve.md, "Workers").
 *
 * @module
 */
import type { Bytes } from "../../bytes/bytes.ts";
import { DATAGRAM_MAX_BYTES } from "../../protocol/curve/options.ts";
import { WORKER_KEY_BYTES, WorkerIds } from "../../protocol/curve/worker_ids.ts";
import type { Address, Runtime } from "../../runtime/port.ts";
import {
  cookieWorker,
  DATA_HEAD_BYTES,
  DATAGRAM_MIN_BYTES,
  PacketType,
  packetType,
  readHello,
} from "../../wire/curve/curve_packet.ts";
import { type DatagramRelay, openRelay, RELAY_SECRET_BYTES } from "../datagram_relay.ts";
import type { PortGroup, PortMember } from "../port_group.ts";

/** Options of {@link WorkerPort}. */
interface WorkerPortOptions {
  readonly runtime: Runtime;
  readonly group: PortGroup;
  /** A datagram for this worker arrived at another. */
  receive(datagram: Bytes, from: Address): void;
}

/** This worker's share of one port. */
export class WorkerPort {
  readonly number: number;
  readonly ids: WorkerIds;
  readonly #options: WorkerPortOptions;
  /** Whether the system itself spreads new connections over the members. */
  readonly #spread: boolean;
  #relay: DatagramRelay | undefined;
  #members: ReadonlyMap<number, PortMember> = new Map();
  #accepting: readonly PortMember[] = [];

  constructor(options: WorkerPortOptions) {
    const { group: { number, secret }, runtime } = options;
    this.#options = options;
    this.#spread = runtime.capabilities.sharedDatagrams === "spread";
    this.number = number;
    this.ids = new WorkerIds(secret.subarray(RELAY_SECRET_BYTES, RELAY_SECRET_BYTES + WORKER_KEY_BYTES));
  }

  /** Enters the group of the port with this address. */
  async join({ host, port }: Address): Promise<void> {
    const { runtime, group, receive } = this.#options;
    const relay = this.#relay = await openRelay({
      runtime,
      secret: group.secret.subarray(0, RELAY_SECRET_BYTES),
      datagramMaxBytes: DATAGRAM_MAX_BYTES,
      receive,
    });
    await group.join(`curve ${host} ${port}`, relay.port, (members) => {
      this.#members = new Map(members.map((member) => [member.number, member]));
      this.#accepting = members.filter(({ accepting }) => accepting);
    });
  }

  /** Passes a datagram to the worker that it is for; false if that is this one. */
  pass(datagram: Bytes, from: Address): boolean {
    const member = this.#memberFor(datagram);
    if (member === undefined || member.number === this.number) return false;
    this.#relay?.pass(datagram, from, member.relayPort);
    return true;
  }

  close(): void {
    this.#relay?.close();
  }

  #memberFor(datagram: Bytes): PortMember | undefined {
    switch (packetType(datagram)) {
      case PacketType.data:
        return datagram.length < DATA_HEAD_BYTES
          ? undefined
          : this.#members.get(this.ids.workerOf(datagram, 4));
      case PacketType.init:
        return datagram.length === DATAGRAM_MIN_BYTES ? this.#members.get(cookieWorker(datagram)) : undefined;
      case PacketType.hello: {
        const key = readHello(datagram);
        return key && this.#memberForNew(key);
      }
    }
    return undefined;
  }

  /** The worker for a new connection. Its key is random, or was chosen by a client that gains nothing from it. */
  #memberForNew(connectionKey: Bytes): PortMember | undefined {
    if (this.#spread && this.#members.get(this.number)?.accepting !== false) return undefined;
    const draw = (connectionKey[0]! << 16) | (connectionKey[1]! << 8) | connectionKey[2]!;
    return this.#accepting[draw % this.#accepting.length];
  }
}
