/**
 * Derives packet keys from the agreed keys (docs/protocols/curve.md, "Keys").
 *
 * @module
 */
import type { Bytes } from "../../bytes/bytes.ts";
import { ViewCache } from "../../bytes/view_cache.ts";
import { type KeyPair, NONCE_BYTES, type Sodium, TAG_BYTES } from "../../crypto/sodium.ts";
import { hkdfExpand, hkdfExtract, sha256 } from "../../crypto/hkdf.ts";
import { DATA_HEAD_BYTES, ID_BYTES, packetNonce, readNumber } from "../../wire/curve/curve_packet.ts";

const LABEL = "sallyport curve 1";
const CHANNEL_BYTES = 32;

/** One direction's key and iv; seals and opens whole packets. */
export class PacketKey {
  readonly #crypto: Sodium;
  readonly #key: Bytes;
  readonly #iv: Bytes;
  readonly #nonce = new Uint8Array(NONCE_BYTES);
  /** The associated data of DATA packets, copied because that is cheaper than a view. */
  readonly #ad = new Uint8Array(DATA_HEAD_BYTES);
  readonly #plain = new ViewCache();
  readonly #sealed = new ViewCache();

  /** @param material 44 bytes: key and iv. */
  constructor(crypto: Sodium, material: Bytes) {
    this.#crypto = crypto;
    this.#key = material.slice(0, 32);
    this.#iv = material.slice(32, 44);
  }

  /** Seals `plain` after the first `head` bytes of `packet`. Returns the packet's size. */
  seal(packet: Bytes, head: number, plain: Bytes): number {
    packetNonce(this.#nonce, this.#iv, readNumber(packet, head));
    const size = head + plain.length + TAG_BYTES;
    const sealed = this.#sealed.view(packet, head, size);
    this.#crypto.seal(plain, sealed, this.#nonce, this.#key, this.#associated(packet, head));
    return size;
  }

  /** Opens what follows the first `head` bytes of `packet` into the start of `room`; undefined if that fails. */
  open(packet: Bytes, head: number, room: Bytes): Bytes | undefined {
    if (packet.length < head + TAG_BYTES || packet.length > room.length) return undefined;
    packetNonce(this.#nonce, this.#iv, readNumber(packet, head));
    const plain = this.#plain.view(room, 0, packet.length - head - TAG_BYTES);
    const ad = this.#associated(packet, head);
    return this.#crypto.open(packet.subarray(head), plain, this.#nonce, this.#key, ad) ? plain : undefined;
  }

  #associated(packet: Bytes, head: number): Bytes {
    if (head !== DATA_HEAD_BYTES) return packet.subarray(0, head);
    for (let i = 0; i < DATA_HEAD_BYTES; i++) this.#ad[i] = packet[i]!;
    return this.#ad;
  }
}

/** The public keys of a handshake. */
interface PublicKeys {
  readonly connection: Bytes;
  readonly server: Bytes;
  readonly minute: Bytes;
}

/** Keys after INIT: the key of INIT, and the secret that the other keys are derived from. */
export interface FirstKeys {
  readonly init: PacketKey;
  readonly secret: Bytes;
}

/** The keys of a connection. */
export interface SessionKeys {
  readonly client: PacketKey;
  readonly server: PacketKey;
  /** Connection ids in DATA packets to the server and to the client. */
  readonly toServerId: Bytes;
  readonly toClientId: Bytes;
  /** Channel binding for a proof in the credential; only the two ends of this connection know it. */
  readonly channel: Bytes;
}

/** `first` and `init`; `serverShared` is X25519(C, S), `minuteShared` X25519(C, M). */
function firstKeys(
  crypto: Sodium,
  keys: PublicKeys,
  serverShared: Bytes,
  minuteShared: Bytes,
): FirstKeys {
  const salt = sha256(LABEL, keys.connection, keys.server, keys.minute);
  const secret = hkdfExtract(salt, serverShared, minuteShared);
  return { secret, init: new PacketKey(crypto, hkdfExpand(secret, "init", 44)) };
}

/** `second` and what follows; `shared` is X25519(C, E), `ephemeral` is E. */
export function sessionKeys(
  crypto: Sodium,
  first: FirstKeys,
  shared: Bytes,
  ephemeral: Bytes,
): SessionKeys {
  const second = hkdfExtract(first.secret, shared, ephemeral);
  const ids = hkdfExpand(second, "id", 2 * ID_BYTES);
  return {
    client: new PacketKey(crypto, hkdfExpand(second, "client", 44)),
    server: new PacketKey(crypto, hkdfExpand(second, "server", 44)),
    toServerId: ids.slice(0, ID_BYTES),
    toClientId: ids.slice(ID_BYTES),
    channel: hkdfExpand(second, "login", CHANNEL_BYTES),
  };
}

/** The client's {@link firstKeys}; undefined if a key of the server is of low order. */
export function clientFirstKeys(
  crypto: Sodium,
  own: KeyPair,
  serverKey: Bytes,
  minuteKey: Bytes,
): FirstKeys | undefined {
  const serverShared = crypto.sharedSecret(own.secretKey, serverKey);
  const minuteShared = crypto.sharedSecret(own.secretKey, minuteKey);
  if (serverShared === undefined || minuteShared === undefined) return undefined;
  const keys = { connection: own.publicKey, server: serverKey, minute: minuteKey };
  return firstKeys(crypto, keys, serverShared, minuteShared);
}

/** The server's {@link firstKeys}; undefined if the connection's key is of low order. */
export function serverFirstKeys(
  crypto: Sodium,
  own: KeyPair,
  minute: KeyPair,
  connectionKey: Bytes,
): FirstKeys | undefined {
  const serverShared = crypto.sharedSecret(own.secretKey, connectionKey);
  const minuteShared = crypto.sharedSecret(minute.secretKey, connectionKey);
  if (serverShared === undefined || minuteShared === undefined) return undefined;
  const keys = { connection: connectionKey, server: own.publicKey, minute: minute.publicKey };
  return firstKeys(crypto, keys, serverShared, minuteShared);
}
