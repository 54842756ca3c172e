/**
 * Mutations of an input that know how wire formats go wrong: lengths, borders, repetitions, what another input has.
 *
 * @module
 */
import type { Bytes } from "../../src/bytes/bytes.ts";

/** Numbers at which decoders turn. */
const TURNING = [0, 1, 2, 0x0d, 0x0a, 0x20, 0x2f, 0x3a, 0x7f, 0x80, 0xc0, 0xfe, 0xff];
/** Inputs don't grow beyond this. */
const INPUT_MAX_BYTES = 8 * 1024;

/** Changes `input` in one to six places; `other` lends parts. */
export function mutate(input: Bytes, other: Bytes, random: () => number): Bytes {
  let bytes = input.slice();
  for (let left = 1 + below(6, random); left > 0; left--) bytes = once(bytes, other, random);
  return bytes.length > INPUT_MAX_BYTES ? bytes.slice(0, INPUT_MAX_BYTES) : bytes;
}

/** Where an input is cut: between none and eight places, sometimes after every byte. */
export function cuts(length: number, random: () => number): number[] {
  if (length > 0 && length < 256 && random() < 0.1) {
    return Array.from({ length: length - 1 }, (_, at) => at + 1);
  }
  const places = new Set<number>();
  for (let left = below(9, random); left > 0; left--) places.add(below(length + 1, random));
  return [...places].sort((a, b) => a - b);
}

/** A whole number from 0 up to `bound`, exclusive. */
export function below(bound: number, random: () => number): number {
  return Math.floor(random() * bound);
}

function once(bytes: Bytes, other: Bytes, random: () => number): Bytes {
  const at = below(bytes.length + 1, random);
  const size = below(random() < 0.7 ? 9 : 300, random);
  switch (below(9, random)) {
    case 0:
      if (at < bytes.length) bytes[at]! ^= 1 << below(8, random);
      return bytes;
    case 1:
      if (at < bytes.length) bytes[at] = TURNING[below(TURNING.length, random)]!;
      return bytes;
    case 2:
      if (at < bytes.length) bytes[at]! += random() < 0.5 ? 1 : 255;
      return bytes;
    case 3: {
      // A length of two or four bytes.
      const view = new DataView(bytes.buffer);
      if (at + 4 <= bytes.length && random() < 0.5) {
        view.setUint32(at, 2 ** below(33, random) - below(2, random));
      } else if (at + 2 <= bytes.length) view.setUint16(at, 2 ** below(17, random) - below(2, random));
      return bytes;
    }
    case 4:
      return joined(bytes.subarray(0, at), bytes.subarray(Math.min(bytes.length, at + size)));
    case 5:
      return bytes.slice(0, at);
    case 6:
      return joined(bytes.subarray(0, at), bytes.subarray(at, at + size), bytes.subarray(at));
    case 7: {
      const from = below(other.length + 1, random);
      return joined(bytes.subarray(0, at), other.subarray(from, from + size), bytes.subarray(at));
    }
    default: {
      const noise = Uint8Array.from({ length: Math.min(size, 16) }, () => below(256, random));
      return joined(bytes.subarray(0, at), noise, bytes.subarray(at));
    }
  }
}

/** Several pieces as one. */
export function joined(...pieces: readonly Uint8Array[]): Bytes {
  const all = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    all.set(piece, at);
    at += piece.length;
  }
  return all;
}
