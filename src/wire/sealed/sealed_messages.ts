/**
 * The plaintext messages of the sealed transport (docs/protocols/sealed.md). Integers are big-endian.
 *
 * @module
 */
import type { Bytes } from "../../bytes/bytes.ts";

/** Sealed: maximum padding of the first flights and records, uniformly random; one less than a power of two. */
export const SEALED_PADDING_MAX_BYTES = 1_023;

/** The transport's version; sodium-tcp's is 0xDEADCAFE. */
export const SEALED_VERSION = 2;
/** Version u32, padding u16, Unix seconds u64, flags u8. */
export const HELLO_BYTES = 15;
/** The edge's ephemeral public key, padding u16, flags u8. */
export const ANSWER_BYTES = 35;
/** The flag with which the agent requests AES-256-GCM for large boxes, and the edge grants it. */
const AES_FLAG = 1;
/** Data u32, padding u16. */
export const RECORD_HEAD_BYTES = 6;

const KEY_BYTES = 32;
/** First bytes by which an edge's shared port recognizes TLS, a token, and PROXY headers. */
const TAKEN_FIRST_BYTES: readonly number[] = [0x16, 0x67, 0x50, 0x0d];

/** Whether a first flight may begin with this byte. */
export function mayComeFirst(byte: number): boolean {
  return !TAKEN_FIRST_BYTES.includes(byte);
}

/** The padding length from two random bytes: uniform from 0 to {@link SEALED_PADDING_MAX_BYTES}. */
export function paddingOf(high: number, low: number): number {
  return ((high << 8) | low) & SEALED_PADDING_MAX_BYTES;
}

/** The agent's first message. */
interface SealedHello {
  readonly version: number;
  readonly paddingBytes: number;
  readonly unixSeconds: number;
  /** Requests AES-256-GCM for large boxes. */
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

/** The edge's answer. */
interface SealedAnswer {
  readonly publicKey: Bytes;
  readonly paddingBytes: number;
  /** Large boxes use AES-256-GCM. */
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

function viewOf(bytes: Bytes): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
