/**
 * Plaintext PDUs of sodium-tcp, version 1 (docs/protocols/pipe.md): the contents of the sealed boxes and the secretstream
 * messages. Integers are big-endian. The types from {@link PduType.Upgrade} on are Sallyport's own; they are sent only to
 * a peer that announced them.
 *
 * @module
 */
import { type Bytes, startsWith } from "../../bytes/bytes.ts";
import { SallyportError } from "../../errors.ts";

/** sodium-tcp: largest body of a PDU (spec; one byte more closes). */
export const PIPE_BODY_MAX_BYTES = 131_070;
/** Text of a FAILED PDU: a line. */
export const PIPE_REASON_MAX_BYTES = 256;

/** `magic u32 · type u32 · body size u32`. */
export const PDU_HEADER_BYTES = 12;
/** CLIENT_AUTH with its header, before sealing. */
export const CLIENT_AUTH_BYTES = 352;
/** SERVER_HELO with its header, before sealing. */
export const SERVER_HELO_BYTES = 188;
/** Login, passphrase and the server's message: text, zero padded. */
export const TEXT_BYTES = 128;
/** Body of PING and PONG. */
export const PING_BYTES = 16;
/** Body of the server's answer to DATA. */
export const RECEIVED_BYTES = 32;

const MAGIC = 0xbaadc0de;
const VERSION = 0xdeadcafe;
const NONCE_BYTES = 24;
const KEY_BYTES = 32;

/** PDU types. */
export const PduType = {
  ClientAuth: 1,
  ServerHelo: 2,
  Data: 3,
  Ping: 4,
  Pong: 5,
  /** Ours, client: from here on the client sends under new keys (body: {@link encodeUpgrade}). */
  Upgrade: 0x10,
  /** Ours, server: so does the server; maximum unconfirmed bytes in flight (body: u32). */
  Upgraded: 0x11,
  /** Ours, server: total bytes accepted (body: u64). */
  Taken: 0x12,
  /** Ours, client: end of data, with the total bytes (body: u64). */
  End: 0x13,
  /** Ours, server: everything has reached its destination (body: u64). */
  Done: 0x14,
  /** Ours, either: the sender can't continue, for this reason (body: UTF-8 text, may be empty). */
  Failed: 0x15,
} as const;
/** One of {@link PduType}'s values. */
export type PduType = (typeof PduType)[keyof typeof PduType];

/** A validated PDU header. */
interface PduHeader {
  readonly type: number;
  readonly size: number;
}

/** Contents of CLIENT_AUTH. */
export interface ClientAuth {
  /** 24 bytes; the server returns it incremented by one. */
  readonly nonce: Bytes;
  /** 24 bytes: the header of the secretstream from client to server. */
  readonly streamHeader: Bytes;
  /** 32 bytes: the client's ephemeral X25519 key. */
  readonly publicKey: Bytes;
  /** 128 bytes, zero padded; {@link trimText} drops what a C program left after the NUL. */
  readonly login: Bytes;
  /** 128 bytes, likewise. */
  readonly passphrase: Bytes;
}

/** Contents of SERVER_HELO. */
interface ServerHelo {
  /** 24 bytes: the client's nonce, incremented by one. */
  readonly nonce: Bytes;
  /** 24 bytes: the header of the secretstream from server to client. */
  readonly streamHeader: Bytes;
  /** 128 bytes: text up to the first NUL, then an {@link Announcement}, if any. */
  readonly message: Bytes;
}

/** A Sallyport server's announcement after the text of its SERVER_HELO, for clients that look for it. */
export interface Announcement {
  /** 32 bytes: an ephemeral X25519 key of the server. */
  readonly publicKey: Bytes;
  /** The server supports AES-256-GCM for large boxes. */
  readonly aes: boolean;
}

/** Offset of an announcement in the message, after a text of at most 63 bytes and its NUL. */
const ANNOUNCEMENT_OFFSET = 64;
const ANNOUNCEMENT_MARK = new TextEncoder().encode("sallypt2");

/** `total u64 · flags u8`. */
const UPGRADE_BYTES = 9;
/** Flag of an announcement and of UPGRADE; others are ignored. */
const FLAG_AES = 1;

/** Body sizes allowed for each type; checked before the body is received. */
const BODY_SIZES: ReadonlyMap<number, readonly [number, number]> = new Map([
  [PduType.ClientAuth, [CLIENT_AUTH_BYTES - PDU_HEADER_BYTES, CLIENT_AUTH_BYTES - PDU_HEADER_BYTES]],
  [PduType.ServerHelo, [SERVER_HELO_BYTES - PDU_HEADER_BYTES, SERVER_HELO_BYTES - PDU_HEADER_BYTES]],
  [PduType.Data, [0, PIPE_BODY_MAX_BYTES]],
  [PduType.Ping, [PING_BYTES, PING_BYTES]],
  [PduType.Pong, [PING_BYTES, PING_BYTES]],
  [PduType.Upgrade, [UPGRADE_BYTES, UPGRADE_BYTES]],
  [PduType.Upgraded, [4, 4]],
  [PduType.Taken, [8, 8]],
  [PduType.End, [8, 8]],
  [PduType.Done, [8, 8]],
  [PduType.Failed, [0, PIPE_REASON_MAX_BYTES]],
]);

function invalid(message: string): SallyportError {
  return new SallyportError("frame_invalid", `Cannot parse PDU: ${message}`, { side: "peer" });
}

function view(bytes: Bytes): DataView<ArrayBuffer> {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Writes a header to the first 12 bytes of `into`. */
export function encodeHeader(type: PduType, size: number, into: Bytes): void {
  const fields = view(into);
  fields.setUint32(0, MAGIC);
  fields.setUint32(4, type);
  fields.setUint32(8, size);
}

/**
 * Reads and validates a header: the magic, the type, and the body size allowed for it. Throws `frame_invalid`, or
 * `limit_exceeded` for a size that no body has.
 */
export function parseHeader(bytes: Bytes): PduHeader {
  const fields = view(bytes);
  if (fields.getUint32(0) !== MAGIC) throw invalid("magic is wrong");
  const type = fields.getUint32(4);
  const size = fields.getUint32(8);
  if (size > PIPE_BODY_MAX_BYTES) {
    throw new SallyportError(
      "limit_exceeded",
      `Cannot parse PDU: body has ${size} bytes, at most ${PIPE_BODY_MAX_BYTES} are allowed`,
      { side: "peer" },
    );
  }
  const sizes = BODY_SIZES.get(type);
  if (sizes === undefined) throw invalid(`type ${type} is unknown`);
  if (size < sizes[0] || size > sizes[1]) throw invalid(`type ${type} has a body of ${size} bytes`);
  return { type, size };
}

/** CLIENT_AUTH with its header, {@link CLIENT_AUTH_BYTES} long. */
export function encodeClientAuth(auth: ClientAuth): Bytes {
  const bytes = new Uint8Array(CLIENT_AUTH_BYTES);
  encodeHeader(PduType.ClientAuth, CLIENT_AUTH_BYTES - PDU_HEADER_BYTES, bytes);
  view(bytes).setUint32(12, VERSION);
  bytes.set(auth.nonce, 16);
  bytes.set(auth.streamHeader, 40);
  bytes.set(auth.publicKey, 64);
  bytes.set(auth.login, 96);
  bytes.set(auth.passphrase, 96 + TEXT_BYTES);
  return bytes;
}

/** Reads what {@link encodeClientAuth} wrote; the parts are views. Throws `frame_invalid`. */
export function parseClientAuth(bytes: Bytes): ClientAuth {
  const { type } = checked(bytes, CLIENT_AUTH_BYTES);
  if (type !== PduType.ClientAuth) throw invalid(`type ${type} in place of CLIENT_AUTH`);
  const version = view(bytes).getUint32(12);
  if (version !== VERSION) throw invalid(`version 0x${version.toString(16)} is unknown`);
  return {
    nonce: bytes.subarray(16, 40),
    streamHeader: bytes.subarray(40, 64),
    publicKey: bytes.subarray(64, 96),
    login: bytes.subarray(96, 96 + TEXT_BYTES),
    passphrase: bytes.subarray(96 + TEXT_BYTES, CLIENT_AUTH_BYTES),
  };
}

/** SERVER_HELO with its header, {@link SERVER_HELO_BYTES} long. */
export function encodeServerHelo(helo: ServerHelo): Bytes {
  const bytes = new Uint8Array(SERVER_HELO_BYTES);
  encodeHeader(PduType.ServerHelo, SERVER_HELO_BYTES - PDU_HEADER_BYTES, bytes);
  bytes.set(helo.nonce, 12);
  bytes.set(helo.streamHeader, 36);
  bytes.set(helo.message, 60);
  return bytes;
}

/** Reads what {@link encodeServerHelo} wrote; the parts are views. Throws `frame_invalid`. */
export function parseServerHelo(bytes: Bytes): ServerHelo {
  const { type } = checked(bytes, SERVER_HELO_BYTES);
  if (type !== PduType.ServerHelo) throw invalid(`type ${type} in place of SERVER_HELO`);
  return {
    nonce: bytes.subarray(12, 36),
    streamHeader: bytes.subarray(36, 60),
    message: bytes.subarray(60, SERVER_HELO_BYTES),
  };
}

function checked(bytes: Bytes, size: number): PduHeader {
  if (bytes.length !== size) throw invalid(`${bytes.length} bytes in place of ${size}`);
  return parseHeader(bytes);
}

/** The client's nonce as returned by the server: incremented by one, little-endian. */
export function incrementNonce(nonce: Bytes): Bytes {
  const next = nonce.slice();
  for (let index = 0; index < NONCE_BYTES; index++) {
    const value = ((next[index] as number) + 1) & 255;
    next[index] = value;
    if (value !== 0) break;
  }
  return next;
}

/** Text, zero padded to {@link TEXT_BYTES}. Throws `config_invalid`, naming `what`, if it is longer or has a NUL. */
export function encodeText(text: string, what: string): Bytes {
  const encoded = new TextEncoder().encode(text);
  const wrong = encoded.length > TEXT_BYTES
    ? `has ${encoded.length} bytes, at most ${TEXT_BYTES} are allowed`
    : encoded.includes(0)
    ? "has a NUL in it"
    : "";
  if (wrong !== "") {
    throw new SallyportError("config_invalid", `Cannot use ${what}: it ${wrong}`, { side: "config" });
  }
  const padded = new Uint8Array(TEXT_BYTES);
  padded.set(encoded);
  return padded;
}

/** The same text with zeros from the first NUL on: the C programs leave bytes of their stack there. */
export function trimText(field: Bytes): Bytes {
  const end = field.indexOf(0);
  const trimmed = field.slice();
  if (end >= 0) trimmed.fill(0, end);
  return trimmed;
}

/** The peer's text up to its NUL, safe to print: anything but printable ASCII is replaced with "?". */
export function printableText(field: Bytes): string {
  const end = field.indexOf(0);
  return Array.from(
    end >= 0 ? field.subarray(0, end) : field,
    (byte) => byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : "?",
  ).join("");
}

/** The message of a SERVER_HELO: `text`, then the announcement for Sallyport clients. */
export function encodeMessage(text: string, announcement?: Announcement): Bytes {
  const message = encodeText(text, "the server's message");
  if (announcement === undefined) return message;
  if (message[ANNOUNCEMENT_OFFSET - 1] !== 0) throw new RangeError("the text leaves no room to announce");
  message.set(ANNOUNCEMENT_MARK, ANNOUNCEMENT_OFFSET);
  message.set(announcement.publicKey, ANNOUNCEMENT_OFFSET + 8);
  message[ANNOUNCEMENT_OFFSET + 8 + KEY_BYTES] = announcement.aes ? FLAG_AES : 0;
  return message;
}

/** The announcement of a Sallyport server in its message, if any; the key is a copy. */
export function parseAnnouncement(message: Bytes): Announcement | undefined {
  if (message[ANNOUNCEMENT_OFFSET - 1] !== 0) return undefined;
  if (!startsWith(message, ANNOUNCEMENT_MARK, ANNOUNCEMENT_OFFSET)) return undefined;
  const keyAt = ANNOUNCEMENT_OFFSET + 8;
  return {
    publicKey: message.slice(keyAt, keyAt + KEY_BYTES),
    aes: (message[keyAt + KEY_BYTES]! & FLAG_AES) !== 0,
  };
}

/** Body of PING and PONG: seconds since 1970, nanoseconds, zeros. */
export function encodePing(seconds: number, nanoseconds: number): Bytes {
  const body = new Uint8Array(PING_BYTES);
  view(body).setBigUint64(0, BigInt(seconds));
  view(body).setUint32(8, nanoseconds);
  return body;
}

/** The server's answer to DATA of `size` bytes: `DATA OK: RECEIVED n BYTES`, zero padded. */
export function encodeReceived(size: number): Bytes {
  const body = new Uint8Array(RECEIVED_BYTES);
  new TextEncoder().encodeInto(`DATA OK: RECEIVED ${size} BYTES`, body);
  return body;
}

/** Reads what {@link encodeReceived} wrote. Throws `frame_invalid`. */
export function parseReceived(body: Bytes): number {
  const match = /^DATA OK: RECEIVED (0|[1-9]\d{0,5}) BYTES$/.exec(printableText(body));
  if (match === null) throw invalid("the answer to DATA has another text");
  return Number(match[1]);
}

/** A client's message when it changes keys. */
interface Upgrade {
  /** Length of the transfer, if known. */
  readonly totalBytes: number | undefined;
  /** Large boxes use AES-256-GCM from here on, as announced by the server. */
  readonly aes: boolean;
}

/** Body of {@link PduType.Upgrade}. */
export function encodeUpgrade({ totalBytes, aes }: Upgrade): Bytes {
  const body = new Uint8Array(UPGRADE_BYTES);
  view(body).setBigUint64(0, totalBytes === undefined ? 0xffff_ffff_ffff_ffffn : BigInt(totalBytes));
  body[8] = aes ? FLAG_AES : 0;
  return body;
}

/** Reads what {@link encodeUpgrade} wrote. Throws `frame_invalid`. */
export function parseUpgrade(body: Bytes): Upgrade {
  const total = view(body).getBigUint64(0);
  return {
    totalBytes: total === 0xffff_ffff_ffff_ffffn ? undefined : safe(total),
    aes: (body[8]! & FLAG_AES) !== 0,
  };
}

/** A u64 body. */
export function encodeCount(count: number): Bytes {
  const body = new Uint8Array(8);
  view(body).setBigUint64(0, BigInt(count));
  return body;
}

/** Reads what {@link encodeCount} wrote. Throws `frame_invalid` above 2^53. */
export function parseCount(body: Bytes): number {
  return safe(view(body).getBigUint64(0));
}

function safe(count: bigint): number {
  if (count > BigInt(Number.MAX_SAFE_INTEGER)) throw invalid(`${count} bytes are beyond reckoning`);
  return Number(count);
}

/** Body of {@link PduType.Upgraded}. */
export function encodeWindow(windowBytes: number): Bytes {
  const body = new Uint8Array(4);
  view(body).setUint32(0, windowBytes);
  return body;
}

/** Reads what {@link encodeWindow} wrote. */
export function parseWindow(body: Bytes): number {
  return view(body).getUint32(0);
}
