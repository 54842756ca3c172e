/**
 * The authentication stream of a tunnel (docs/protocols/tunnels.md, Authentication): an offer of methods, a choice, and
 * messages. Integers are big-endian.
 *
 * @module
 */
import type { Bytes } from "../../bytes/bytes.ts";
import { SallyportError } from "../../errors.ts";

/** Tunnels: largest authentication message: a token, or a certificate. */
export const TUNNEL_AUTH_MESSAGE_MAX_BYTES = 16 * 1024;

/** "NAME" and a version. Like a request, it begins with a byte that no TLS record begins with. */
const MAGIC = [0x4e, 0x41, 0x4d, 0x45, 0x00];
/** Maximum methods in an offer. */
export const AUTH_METHODS_MAX = 16;
/** The syntax of a method's name. */
const METHOD_NAME = /^[a-z0-9-]{1,32}$/;
/** The choice meaning none of the offered methods. */
export const NO_METHOD = 0xff;
/** Type u8, length u16. */
export const AUTH_HEADER_BYTES = 3;

/** Message types, with their values on the wire. */
export const AuthMessage = {
  /** A message of the chosen method, from either side. */
  STEP: 0,
  /** The verifying side's last message: authentication succeeded, with the method's data. */
  ACCEPTED: 1,
  /** The verifying side's last message: authentication failed. */
  REFUSED: 2,
} as const;

/** Encodes an offer of authentication methods, in order of preference. Throws `config_invalid`. */
export function encodeAuthOffer(methods: readonly string[]): Bytes {
  if (methods.length === 0 || methods.length > AUTH_METHODS_MAX) {
    throw unusable(`${methods.length} methods were given, needs 1 to ${AUTH_METHODS_MAX}`);
  }
  const bytes = [...MAGIC, methods.length];
  for (const method of methods) {
    checkAuthMethod(method);
    bytes.push(method.length, ...new TextEncoder().encode(method));
  }
  return new Uint8Array(bytes);
}

/** Throws `config_invalid` if a method's name is invalid. */
export function checkAuthMethod(method: string): void {
  if (METHOD_NAME.test(method)) return;
  throw unusable(`method ${JSON.stringify(method)} isn't 1 to 32 of a-z, 0-9 and -`);
}

/** The offer at the start of `bytes` and its size; undefined while incomplete. Throws `request_invalid`. */
export function decodeAuthOffer(
  bytes: Bytes,
): { readonly methods: string[]; readonly size: number } | undefined {
  for (let i = 0; i < MAGIC.length && i < bytes.length; i++) {
    if (bytes[i] !== MAGIC[i]) throw invalid("it doesn't begin with the magic bytes and version 0");
  }
  const count = bytes[MAGIC.length];
  if (count === undefined) return undefined;
  if (count === 0 || count > AUTH_METHODS_MAX) throw invalid(`it offers ${count} methods`);
  const methods: string[] = [];
  let at = MAGIC.length + 1;
  for (let i = 0; i < count; i++) {
    const length = bytes[at];
    if (length === undefined) return undefined;
    if (length === 0 || length > 32) throw invalid(`a method's name has ${length} bytes`);
    const name = bytes.subarray(at + 1, at + 1 + length);
    const text = String.fromCharCode(...name);
    if (name.length > 0 && !METHOD_NAME.test(text)) throw invalid("a method's name has other characters");
    if (name.length < length) return undefined;
    methods.push(text);
    at += 1 + length;
  }
  return { methods, size: at };
}

/** A complete message. */
export function encodeAuthMessage(type: number, body: Bytes): Bytes {
  if (body.length > TUNNEL_AUTH_MESSAGE_MAX_BYTES) {
    throw unusable(`a message of ${body.length} bytes is too long`);
  }
  const bytes = new Uint8Array(AUTH_HEADER_BYTES + body.length);
  bytes.set([type, body.length >>> 8, body.length]);
  bytes.set(body, AUTH_HEADER_BYTES);
  return bytes;
}

/** A decoded message. */
interface AuthMessageFrame {
  readonly type: number;
  readonly body: Bytes;
  /** Its size on the wire. */
  readonly size: number;
}

/**
 * The message at the start of `bytes`; undefined while incomplete. Throws `request_invalid` if its header is invalid,
 * before its body is received.
 */
export function decodeAuthMessage(bytes: Bytes): AuthMessageFrame | undefined {
  const [type, high, low] = bytes;
  if (type === undefined) return undefined;
  if (type > AuthMessage.REFUSED) throw invalid(`a message has type ${type}`);
  if (high === undefined || low === undefined) return undefined;
  const length = (high << 8) | low;
  if (length > TUNNEL_AUTH_MESSAGE_MAX_BYTES) throw invalid(`a message of ${length} bytes is too long`);
  const size = AUTH_HEADER_BYTES + length;
  if (bytes.length < size) return undefined;
  return { type, body: bytes.slice(AUTH_HEADER_BYTES, size), size };
}

function invalid(why: string): SallyportError {
  return new SallyportError("request_invalid", `Cannot read authentication: ${why}`, { side: "peer" });
}

function unusable(why: string): SallyportError {
  return new SallyportError("config_invalid", `Cannot authenticate: ${why}`, { side: "config" });
}
