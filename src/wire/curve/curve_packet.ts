/**
 * The unsealed parts of the curve transport's packets (docs/protocols/curve.md, "Packets"). Writers take the target
 * buffer; readers return views into the packet, or undefined for any other packet.
 *
 * @module
 */
import type { Bytes } from "../../bytes/bytes.ts";
import { KEY_BYTES, NONCE_BYTES, TAG_BYTES } from "../../crypto/sodium.ts";

/** Packet types, in the fourth byte. */
export const PacketType = { hello: 1, cookie: 2, init: 3, ready: 4, data: 5 } as const;

/** A size that every path carries; packets are no larger until a larger one has been acknowledged. */
export const DATAGRAM_MIN_BYTES = 1_088;
/** Exact size of HELLO: larger than COOKIE. */
export const HELLO_BYTES = 192;
/** Bytes of the cookie inside COOKIE and INIT. */
export const COOKIE_BYTES = 32;
/** Exact size of COOKIE. */
export const COOKIE_PACKET_BYTES = 4 + 3 * KEY_BYTES + COOKIE_BYTES;
/** Bytes of a connection id. */
export const ID_BYTES = 8;
const NUMBER_BYTES = 6;
/** Bytes before the sealed part of INIT. */
export const INIT_HEAD_BYTES = 4 + KEY_BYTES + COOKIE_BYTES + NUMBER_BYTES;
/** Bytes before the sealed part of READY. */
export const READY_HEAD_BYTES = 4 + 2 * KEY_BYTES + NUMBER_BYTES;
/** Bytes before the sealed part of DATA. */
export const DATA_HEAD_BYTES = 4 + ID_BYTES + NUMBER_BYTES;

const PREFIX = [0x53, 0x50, 0x01] as const;

/** The type of a packet; 0 if it isn't of this protocol and version. */
export function packetType(packet: Bytes): number {
  if (packet.length < 4 || packet[0] !== PREFIX[0] || packet[1] !== PREFIX[1] || packet[2] !== PREFIX[2]) {
    return 0;
  }
  return packet[3]!;
}

function begin(target: Bytes, type: number): void {
  target[0] = PREFIX[0];
  target[1] = PREFIX[1];
  target[2] = PREFIX[2];
  target[3] = type;
}

/** Writes HELLO. Returns its size. */
export function writeHello(target: Bytes, connectionKey: Bytes): number {
  begin(target, PacketType.hello);
  target.set(connectionKey, 4);
  target.fill(0, 4 + KEY_BYTES, HELLO_BYTES);
  return HELLO_BYTES;
}

/** The connection key of a HELLO. */
export function readHello(packet: Bytes): Bytes | undefined {
  return packet.length === HELLO_BYTES ? packet.subarray(4, 4 + KEY_BYTES) : undefined;
}

/** The worker that issued the cookie of an INIT; meaningless if the cookie is forged. */
export function cookieWorker(init: Bytes): number {
  return (init[4 + KEY_BYTES]! << 8) | init[5 + KEY_BYTES]!;
}

/** The content of COOKIE. */
export interface CookiePacket {
  readonly connectionKey: Bytes;
  readonly serverKey: Bytes;
  readonly minuteKey: Bytes;
  readonly cookie: Bytes;
}

/** Writes COOKIE. Returns its size. */
export function writeCookie(target: Bytes, packet: CookiePacket): number {
  begin(target, PacketType.cookie);
  target.set(packet.connectionKey, 4);
  target.set(packet.serverKey, 36);
  target.set(packet.minuteKey, 68);
  target.set(packet.cookie, 100);
  return COOKIE_PACKET_BYTES;
}

/** Reads COOKIE. */
export function readCookie(packet: Bytes): CookiePacket | undefined {
  if (packet.length !== COOKIE_PACKET_BYTES) return undefined;
  return {
    connectionKey: packet.subarray(4, 36),
    serverKey: packet.subarray(36, 68),
    minuteKey: packet.subarray(68, 100),
    cookie: packet.subarray(100, 132),
  };
}

/** Writes the header of INIT. Returns its size. */
export function writeInitHead(target: Bytes, connectionKey: Bytes, cookie: Bytes, number: number): number {
  begin(target, PacketType.init);
  target.set(connectionKey, 4);
  target.set(cookie, 4 + KEY_BYTES);
  writeNumber(target, INIT_HEAD_BYTES - NUMBER_BYTES, number);
  return INIT_HEAD_BYTES;
}

/** Writes the header of READY. Returns its size. */
export function writeReadyHead(
  target: Bytes,
  connectionKey: Bytes,
  ephemeralKey: Bytes,
  number: number,
): number {
  begin(target, PacketType.ready);
  target.set(connectionKey, 4);
  target.set(ephemeralKey, 4 + KEY_BYTES);
  writeNumber(target, READY_HEAD_BYTES - NUMBER_BYTES, number);
  return READY_HEAD_BYTES;
}

/** Writes the header of DATA. Returns its size. */
export function writeDataHead(target: Bytes, id: Bytes, number: number): number {
  begin(target, PacketType.data);
  for (let i = 0; i < ID_BYTES; i++) target[4 + i] = id[i]!;
  writeNumber(target, DATA_HEAD_BYTES - NUMBER_BYTES, number);
  return DATA_HEAD_BYTES;
}

/** Header size of INIT, READY or DATA; 0 if `packet` is too short, or of another type. */
export function headBytes(packet: Bytes): number {
  const type = packetType(packet);
  const size = type === PacketType.data
    ? DATA_HEAD_BYTES
    : type === PacketType.ready
    ? READY_HEAD_BYTES
    : type === PacketType.init
    ? INIT_HEAD_BYTES
    : 0;
  return size === 0 || packet.length < size + TAG_BYTES + 1 ? 0 : size;
}

/** The packet number before the sealed part. */
export function readNumber(packet: Bytes, head: number): number {
  const high = packet[head - 6]! * 256 + packet[head - 5]!;
  return high * 2 ** 32 + packet[head - 4]! * 2 ** 24 + (packet[head - 3]! << 16) + (packet[head - 2]! << 8) +
    packet[head - 1]!;
}

function writeNumber(target: Bytes, at: number, number: number): void {
  const high = Math.floor(number / 2 ** 32);
  const low = number >>> 0;
  target[at] = high >>> 8;
  target[at + 1] = high;
  target[at + 2] = low >>> 24;
  target[at + 3] = low >>> 16;
  target[at + 4] = low >>> 8;
  target[at + 5] = low;
}

/** Writes the nonce of packet `number` into `nonce`: iv XOR (six zero bytes ‖ number). */
export function packetNonce(nonce: Bytes, iv: Bytes, number: number): void {
  nonce.set(iv);
  const high = Math.floor(number / 2 ** 32);
  const low = number >>> 0;
  const at = NONCE_BYTES - NUMBER_BYTES;
  nonce[at] = nonce[at]! ^ (high >>> 8);
  nonce[at + 1] = nonce[at + 1]! ^ (high & 255);
  nonce[at + 2] = nonce[at + 2]! ^ (low >>> 24);
  nonce[at + 3] = nonce[at + 3]! ^ ((low >>> 16) & 255);
  nonce[at + 4] = nonce[at + 4]! ^ ((low >>> 8) & 255);
  nonce[at + 5] = nonce[at + 5]! ^ (low & 255);
}

/** The id of a DATA packet as a map key. Ids are 64 random bits: doubles would collide, a string doesn't. */
export function idText(bytes: Bytes, at: number): string {
  return String.fromCharCode(
    (bytes[at]! << 8) | bytes[at + 1]!,
    (bytes[at + 2]! << 8) | bytes[at + 3]!,
    (bytes[at + 4]! << 8) | bytes[at + 5]!,
    (bytes[at + 6]! << 8) | bytes[at + 7]!,
  );
}

/** A connection key as a map key. */
export function keyText(key: Bytes): string {
  let text = "";
  for (let at = 0; at < KEY_BYTES; at += ID_BYTES) text += idText(key, at);
  return text;
}
