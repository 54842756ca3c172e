/**
 * The SniTun vectors, typed, and small helpers that the tests of crypto and handshake share.
 *
 * @module
 */

import type { Bytes } from "../../src/bytes/bytes.ts";
import type { RandomSource } from "../../src/crypto/random.ts";
import type { CipherName } from "../../src/crypto/header_cipher.ts";
import frames from "../vectors/snitun-frames.json" with { type: "json" };
import tokens from "../vectors/snitun-tokens.json" with { type: "json" };

/** One unit or frame; `sender` is "client" (agent) or "server" (edge), the rest hex. */
export interface VectorFrame {
  readonly sender: string;
  readonly flow: string;
  readonly data: string;
  readonly header: string;
  readonly wire: string;
}

/** One recorded session. */
export interface VectorCase {
  readonly cipher: CipherName;
  readonly protocol_version: number;
  readonly aes_key: string;
  readonly aes_iv: string;
  readonly nonces_in_order: readonly string[] | null;
  readonly challenge: { readonly plain: string; readonly wire: string };
  readonly answer: { readonly plain: string; readonly wire: string };
  readonly frames: readonly VectorFrame[];
}

export const CASES = frames.cases as readonly VectorCase[];

/** One token and what becomes of it at `TOKENS_NOW`. */
export interface VectorToken {
  readonly name: string;
  readonly token: string;
  readonly payload: string | null;
  readonly expected: "accept" | "expired" | "invalid";
}

export const TOKENS = tokens.tokens as readonly VectorToken[];
export const TOKEN_KEYS = tokens.keys as readonly string[];
/** Unix seconds. */
export const TOKENS_NOW: number = tokens.now;

export const CIPHERS: readonly CipherName[] = ["aes-cbc", "aes-gcm", "aes-gcm-siv"];

export function fromHex(hex: string): Bytes {
  return Uint8Array.from(hex.match(/../g) ?? [], (pair) => parseInt(pair, 16));
}

export function toHex(bytes: Bytes): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export function ascii(text: string): Bytes {
  return Uint8Array.from(text, (char) => char.charCodeAt(0));
}

export function concat(...parts: readonly Bytes[]): Bytes {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** A random source that gives the listed hex values in order, and fails when they run out or don't fit. */
export function listedRandom(values: readonly string[]): RandomSource & { readonly left: number } {
  let next = 0;
  return {
    get left() {
      return values.length - next;
    },
    fill(target: Bytes): void {
      const value = fromHex(values[next++] ?? "");
      if (value.length !== target.length) throw new Error(`asked for ${target.length}, have ${value.length}`);
      target.set(value);
    },
  };
}
