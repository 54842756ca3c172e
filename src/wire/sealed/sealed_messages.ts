/**
 * What the messages of the sealed transport say once they are opened (docs/protocols/sealed.md). Integers are
 * big-endian.
 *
 * @module
 */
import type { Bytes } from "../../bytes/bytes.ts";
import { type ErrorCode, SallyportError } from "../../errors.ts";
import { TOKEN_MAX_BYTES } from "../token/token_payload.ts";

/** Sealed: the first flights and records are padded by up to this much, evenly; one less than a power of two. */
export const SEALED_PADDING_MAX_BYTES = 1_023;

/** The transport's version; sodium-tcp's is 0xDEADCAFE. */
export const SEALED_VERSION = 2;
/** Version u32, padding u16, Unix seconds u64, flags u8. */
export const HELLO_BYTES = 15;
/** The edge's fresh public key, padding u16, flags u8. */
export const ANSWER_BYTES = 35;
/** The flag by which the agent asks for AES-256-GCM in large boxes, and the edge grants it. */
const AES_FLAG = 1;
/** Data u32, padding u16. */
export const RECORD_HEAD_BYTES = 6;
/** Bytes before the token in LOGIN. */
const LOGIN_HEAD_BYTES = 2;
/** The longest text of a verdict. */
const CODE_MAX_BYTES = 64;

const KEY_BYTES = 32;
/** First bytes by which an edge's shared port knows TLS, a token, and PROXY headers. */
const TAKEN_FIRST_BYTES: readonly number[] = [0x16, 0x67, 0x50, 0x0d];

/** Whether a first flight may begin with this byte. */
export function mayComeFirst(byte: number): boolean {
  return !TAKEN_FIRST_BYTES.includes(byte);
}

/** How much padding two random bytes ask for: evenly from 0 to {@link SEALED_PADDING_MAX_BYTES}. */
export function paddingOf(high: number, low: number): number {
  return ((high << 8) | low) & SEALED_PADDING_MAX_BYTES;
}

/** What the agent says first. */
export interface SealedHello {
  readonly version: number;
  readonly paddingBytes: number;
  readonly unixSeconds: number;
  /** Asks for AES-256-GCM in large boxes. */
  readonly aes: boolean;
}

/** Writes a hello. */
export function encodeHello(hello: SealedHello): Bytes {
  const bytes = new Uint8Array(HELLO_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, hello.version);
  view.setUint16(4, hello.paddingBytes);
  view.setBigUint64(6, BigInt(Math.floor(hello.unixSeconds)));
  bytes[14] = hello.aes ? AES_FLAG : 0;
  return bytes;
}

/** Reads a hello of {@link HELLO_BYTES}. */
export function decodeHello(bytes: Bytes): SealedHello {
  const view = viewOf(bytes);
  return {
    version: view.getUint32(0),
    paddingBytes: view.getUint16(4),
    unixSeconds: Number(view.getBigUint64(6)),
    aes: (bytes[14]! & AES_FLAG) !== 0,
  };
}

/** What the edge answers. */
export interface SealedAnswer {
  readonly publicKey: Bytes;
  readonly paddingBytes: number;
  /** Large boxes are AES-256-GCM's. */
  readonly aes: boolean;
}

/** Writes an answer. */
export function encodeAnswer({ publicKey, paddingBytes, aes }: SealedAnswer): Bytes {
  const bytes = new Uint8Array(ANSWER_BYTES);
  bytes.set(publicKey);
  viewOf(bytes).setUint16(KEY_BYTES, paddingBytes);
  bytes[34] = aes ? AES_FLAG : 0;
  return bytes;
}

/** Reads an answer of {@link ANSWER_BYTES}. */
export function decodeAnswer(bytes: Bytes): SealedAnswer {
  return {
    publicKey: new Uint8Array(bytes.subarray(0, KEY_BYTES)),
    paddingBytes: viewOf(bytes).getUint16(KEY_BYTES),
    aes: (bytes[34]! & AES_FLAG) !== 0,
  };
}

/** Writes LOGIN. */
export function encodeLogin(token: Bytes): Bytes {
  const bytes = new Uint8Array(LOGIN_HEAD_BYTES + token.length);
  viewOf(bytes).setUint16(0, token.length);
  bytes.set(token, LOGIN_HEAD_BYTES);
  return bytes;
}

/** The length of the LOGIN that begins with these bytes, undefined before it can be known. Throws `token_invalid`. */
export function loginLength(bytes: Bytes): number | undefined {
  if (bytes.length < LOGIN_HEAD_BYTES) return undefined;
  const length = viewOf(bytes).getUint16(0);
  if (length < 1 || length > TOKEN_MAX_BYTES) throw invalidLogin();
  return LOGIN_HEAD_BYTES + length;
}

/** Reads the token of a LOGIN; a copy. Throws `token_invalid`. */
export function decodeLogin(bytes: Bytes): Bytes {
  if (loginLength(bytes) !== bytes.length) throw invalidLogin();
  return new Uint8Array(bytes.subarray(LOGIN_HEAD_BYTES));
}

/** Writes VERDICT: welcome where there is no code, else why not. */
export function encodeVerdict(code: string | undefined): Bytes {
  const text = new TextEncoder().encode(code ?? "").subarray(0, CODE_MAX_BYTES);
  const bytes = new Uint8Array(1 + text.length);
  bytes[0] = text.length;
  bytes.set(text, 1);
  return bytes;
}

/** What an edge says no with, and the agent says again as its own reason. */
const VERDICTS: readonly ErrorCode[] = [
  "deadline_exceeded",
  "limit_exceeded",
  "name_flapping",
  "name_taken",
  "shutdown",
  "token_expired",
  "token_invalid",
  "unauthorized",
];

/** An agent's own reason for a verdict's: `session_refused` for one that no agent knows. */
export function verdictCode(code: string): ErrorCode {
  return VERDICTS.find((known) => known === code) ?? "session_refused";
}

/** The length of the VERDICT that begins with these bytes, undefined before it can be known. */
export function verdictLength(bytes: Bytes): number | undefined {
  return bytes.length === 0 ? undefined : 1 + bytes[0]!;
}

/** Reads a VERDICT: undefined for welcome, else an error code. Throws `challenge_failed`. */
export function decodeVerdict(bytes: Bytes): string | undefined {
  const text = new TextDecoder().decode(bytes.subarray(1));
  if (bytes.length === 0 || bytes[0] !== bytes.length - 1 || !/^[a-z_]{0,64}$/.test(text)) {
    throw new SallyportError("challenge_failed", "Cannot open session: the edge's verdict can't be read", {
      side: "peer",
    });
  }
  return text === "" ? undefined : text;
}

function invalidLogin(): SallyportError {
  return new SallyportError(
    "token_invalid",
    "Cannot read token: the login's length isn't that of its parts",
    { side: "peer" },
  );
}

function viewOf(bytes: Bytes): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
