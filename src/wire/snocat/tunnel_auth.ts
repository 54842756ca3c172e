/**
 * The authentication stream of a tunnel (docs/protocols/tunnels.md, Authentication): an offer of methods, a choice, and messages.
 * Integers are big-endian.
 *
 * @module
 */
import type { Bytes } from "../../bytes/bytes.ts";
import { SallyportError } from "../../errors.ts";

/** Tunnels: a message of an authentication: a token, or a certificate. */
export const TUNNEL_AUTH_MESSAGE_MAX_BYTES = 16 * 1024;

/** "NAME" and a version. Like a request it begins with a byte that no TLS record begins with. */
const MAGIC = [0x4e, 0x41, 0x4d, 0x45, 0x00];
/** Most methods of an offer. */
export const AUTH_METHODS_MAX = 16;
/** What a method may be called. */
const METHOD_NAME = /^[a-z0-9-]{1,32}$/;
/** The choice that says: none of these. */
export const NO_METHOD = 0xff;
/** Type u8, length u16. */
export const AUTH_HEADER_BYTES = 3;

/** Types of messages; the values are the wire's. */
export const AuthMessage = {
  /** Of the method that was chosen; either side's. */
  STEP: 0,
  /** The verifying side's last: the other side is who it says, with what the method adds. */
  ACCEPTED: 1,
  /** The verifying side's last: it isn't. */
  REFUSED: 2,
} as const;

/** The methods that a side can prove itself by, the one it likes best first. Throws `config_invalid`. */
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

/** Throws `config_invalid` where a method can't be called so. */
export function checkAuthMethod(method: string): void {
  if (METHOD_NAME.test(method)) return;
  throw unusable(`method ${JSON.stringify(method)} isn't 1 to 32 of a-z, 0-9 and -`);
}

/** The offer at the start of `bytes` and its size; undefined where it isn't whole yet. Throws `request_invalid`. */
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

/** A whole message. */
export function encodeAuthMessage(type: number, body: Bytes): Bytes {
  if (body.length > TUNNEL_AUTH_MESSAGE_MAX_BYTES) {
    throw unusable(`a message of ${body.length} bytes is too long`);
  }
  const bytes = new Uint8Array(AUTH_HEADER_BYTES + body.length);
  bytes.set([type, body.length >>> 8, body.length]);
  bytes.set(body, AUTH_HEADER_BYTES);
  return bytes;
}

/** What a message is. */
interface AuthMessageFrame {
  readonly type: number;
  readonly body: Bytes;
  /** Its bytes on the wire. */
  readonly size: number;
}

/**
 * The message at the start of `bytes`; undefined where it isn't whole yet. Throws `request_invalid` where it can't be
 * one, before its body has come.
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
