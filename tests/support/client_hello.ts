/**
 * A real ClientHello to put in front of plain bytes: an edge looks at the server name alone, so a test needs no TLS to
 * go through a tunnel.
 *
 * @module
 */

import { randomBytes } from "node:crypto";

const HANDSHAKE_RECORD = 0x16;
const CLIENT_HELLO = 0x01;
/** Named groups of key shares. */
export const X25519 = 0x1d;
export const SECP256R1 = 0x17;

/**
 * One TLS record with a TLS 1.3 ClientHello (RFC 8446 §4.1.2) for `serverName`, with the extensions that today's clients
 * send: server_name, supported_groups, signature_algorithms, supported_versions, psk_key_exchange_modes, key_share, ALPN.
 * `share` is the one key share, by default one of X25519, `alpnProtocols` what ALPN offers.
 */
export function clientHello(
  serverName: string,
  share = { group: X25519, key: randomBytes(32) },
  alpnProtocols: readonly string[] = ["h2", "http/1.1"],
): Buffer {
  const name = Buffer.from(serverName, "ascii");
  const extensions = Buffer.concat([
    extension(0x0000, sized(2, Buffer.concat([Buffer.from([0]), sized(2, name)]))),
    extension(0x000a, sized(2, Buffer.from("001d00170018", "hex"))),
    extension(0x000d, sized(2, Buffer.from("0403080404010503080505010806", "hex"))),
    extension(
      0x0010,
      sized(2, Buffer.concat(alpnProtocols.map((protocol) => sized(1, Buffer.from(protocol))))),
    ),
    extension(0x002b, sized(1, Buffer.from("03040303", "hex"))),
    extension(0x002d, sized(1, Buffer.from([1]))),
    extension(0x0033, sized(2, Buffer.concat([Buffer.from([0, share.group]), sized(2, share.key)]))),
  ]);
  const body = Buffer.concat([
    Buffer.from([3, 3]),
    randomBytes(32),
    sized(1, randomBytes(32)),
    sized(2, Buffer.from("130113021303c02bc02fc02cc030", "hex")),
    Buffer.from([1, 0]),
    sized(2, extensions),
  ]);
  const handshake = Buffer.concat([Buffer.from([CLIENT_HELLO]), sized(3, body)]);
  return Buffer.concat([Buffer.from([HANDSHAKE_RECORD, 3, 1]), sized(2, handshake)]);
}

/** How many bytes of `data` the TLS record at its start takes, or 0 when it isn't whole yet. */
export function recordLength(data: Buffer): number {
  if (data.length < 5) return 0;
  const whole = 5 + data.readUInt16BE(3);
  return data.length < whole ? 0 : whole;
}

function extension(type: number, body: Buffer): Buffer {
  const head = Buffer.alloc(2);
  head.writeUInt16BE(type);
  return Buffer.concat([head, sized(2, body)]);
}

function sized(lengthBytes: number, body: Buffer): Buffer {
  const head = Buffer.alloc(lengthBytes);
  head.writeUIntBE(body.length, 0, lengthBytes);
  return Buffer.concat([head, body]);
}
