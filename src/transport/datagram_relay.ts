/**
 * Passes datagrams between the processes that share a UDP port, over UDP on the loopback address, with the address of
 * their sender. Like the network, it may lose any of them.
 *
 * @module
 */
import { timingSafeEqual } from "node:crypto";
import type { Bytes } from "../bytes/bytes.ts";
import type { Address, DatagramSocket, Runtime } from "../runtime/port.ts";

const LOOPBACK = "127.0.0.1";
/** Proves that a passed datagram comes from a member of the group. */
export const RELAY_SECRET_BYTES = 16;
/** Before the sender's host: the secret, the sender's port, and the length of the host. */
const HEAD_BYTES = RELAY_SECRET_BYTES + 3;
/** An IPv6 address with its zone is shorter. */
const HOST_MAX_BYTES = 255;

/** Options of {@link openRelay}. */
interface RelayOptions {
  readonly runtime: Pick<Runtime, "bindDatagram">;
  /** {@link RELAY_SECRET_BYTES}, known to the members of the group only. */
  readonly secret: Bytes;
  /** Size of the largest datagram that is passed. */
  readonly datagramMaxBytes: number;
  /** Another member has passed a datagram; the view is valid until the call returns. */
  receive(datagram: Bytes, from: Address): void;
}

/** One process's end. */
export interface DatagramRelay {
  /** Port of the loopback address where it receives. */
  readonly port: number;
  /** Passes a datagram to the member with this port. */
  pass(datagram: Bytes, from: Address, port: number): void;
  close(): void;
}

/** Opens a relay. Rejects as {@link Runtime.bindDatagram} does. */
export async function openRelay(options: RelayOptions): Promise<DatagramRelay> {
  const { runtime, secret, datagramMaxBytes, receive } = options;
  const socket: DatagramSocket = await runtime.bindDatagram({
    host: LOOPBACK,
    port: 0,
    receive: (passed) => {
      if (passed.length < HEAD_BYTES) return;
      // The loopback address is open to other users of the machine.
      if (!timingSafeEqual(passed.subarray(0, RELAY_SECRET_BYTES), secret)) return;
      const end = HEAD_BYTES + passed[HEAD_BYTES - 1]!;
      if (end > passed.length) return;
      const host = String.fromCharCode(...passed.subarray(HEAD_BYTES, end));
      const port = passed[RELAY_SECRET_BYTES]! << 8 | passed[RELAY_SECRET_BYTES + 1]!;
      receive(passed.subarray(end), { host, port });
    },
  });
  const buffer = new Uint8Array(HEAD_BYTES + HOST_MAX_BYTES + datagramMaxBytes);
  buffer.set(secret);
  return {
    port: socket.address.port,
    pass(datagram, { host, port }, to) {
      const end = HEAD_BYTES + host.length;
      if (host.length > HOST_MAX_BYTES || datagram.length > datagramMaxBytes) return;
      buffer[RELAY_SECRET_BYTES] = port >>> 8;
      buffer[RELAY_SECRET_BYTES + 1] = port;
      buffer[HEAD_BYTES - 1] = host.length;
      for (let at = 0; at < host.length; at++) buffer[HEAD_BYTES + at] = host.charCodeAt(at);
      buffer.set(datagram, end);
      socket.send(buffer.subarray(0, end + datagram.length), { host: LOOPBACK, port: to });
    },
    close: () => socket.close(),
  };
}
