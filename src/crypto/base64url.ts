/**
 * URL-safe base64 with padding (RFC 4648 §5), decoded strictly and into a given buffer: each value has one encoding, so
 * that a token can't be written in two ways, and forged input causes no allocation.
 *
 * @module
 */

import type { Bytes } from "../bytes/bytes.ts";

/** The padding character, `=`. */
export const PAD = 0x3d;

/** The six bits that a character encodes, or -1 if it is not one of `A`–`Z`, `a`–`z`, `0`–`9`, `-`, `_`. */
export function sextet(char: number): number {
  if (char >= 0x61) return char <= 0x7a ? char - 71 : -1;
  if (char >= 0x41) return char <= 0x5a ? char - 65 : char === 0x5f ? 63 : -1;
  if (char >= 0x30) return char <= 0x39 ? char + 4 : -1;
  return char === 0x2d ? 62 : -1;
}

/** Number of bytes `text` decodes to, judged by its length and padding only; -1 if the length is impossible. */
export function decodedLength(text: Bytes, length: number = text.length): number {
  if (length % 4 !== 0) return -1;
  if (length === 0) return 0;
  const padding = text[length - 1] !== PAD ? 0 : text[length - 2] !== PAD ? 1 : 2;
  return length / 4 * 3 - padding;
}

/**
 * Decodes `text` into `target` at offset `at`, which must have room for {@link decodedLength} plus two bytes. Returns
 * the number of bytes, or -1 if a character is outside the alphabet, the padding doesn't match the length exactly, or
 * the bits after the last byte aren't 0.
 */
export function decodeBase64Url(text: Bytes, target: Bytes, at: number): number {
  const total = decodedLength(text);
  if (total <= 0) return total;
  const padding = (3 - total % 3) % 3;
  const last = text.length - 4;
  let to = at;
  // Negative once any character was invalid: one test at the end instead of four in each iteration.
  let seen = 0;
  for (let i = 0; i <= last; i += 4) {
    const a = sextet(text[i]!);
    const b = sextet(text[i + 1]!);
    const c = i === last && padding === 2 ? 0 : sextet(text[i + 2]!);
    const d = i === last && padding !== 0 ? 0 : sextet(text[i + 3]!);
    seen |= a | b | c | d;
    const word = (a << 18) | (b << 12) | (c << 6) | d;
    target[to] = word >> 16;
    target[to + 1] = word >> 8;
    target[to + 2] = word;
    to += 3;
  }
  // The bits in place of the padded bytes must be 0.
  for (let i = 0; i < padding; i++) seen |= -target[at + total + i]!;
  return seen < 0 ? -1 : total;
}
