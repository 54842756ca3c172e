/**
 * HPACK's Huffman code (RFC 7541 §5.2 and Appendix B), decoding only: what we send isn't compressed.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import type { Bytes } from "../../bytes/bytes.ts";

/**
 * The length of each symbol's code, in base 36, in the order of the symbols; the last is the end of the string. The code
 * is canonical: these lengths define it.
 */
const CODE_LENGTHS = "dnsssssssoussussssssssusssssssss" + // controls
  "6aacd68baa8b8666555666666678f6ca" + // blank to ?
  "d67777777777777777777777878djde6" + // @ to _
  "f56565666577666567655677777fbeds" + // ` to DEL
  "kmkkmmmnmnnnnnonoomnonnnnlmnmnnomlkmmnnlnmmolmnnllmlnmnnkmmmnmmn" +
  "qqkjmnmpqqqrrqopjlqrrqrollqqsrrrkoklmllnmmppooqnqrqqrrrrrsrrrrrq" + "u";
const END_OF_STRING = 256;
const LONGEST = 30;
/** Codes of up to this length, which are those of common characters, are found in one step. */
const SHORT = 8;

interface Code {
  /** By the next {@link SHORT} bits: the symbol, and its length times 256; 0 if the code is longer. */
  readonly short: Uint16Array;
  /** By length: the first code of the length, how many there are, and where their symbols begin. */
  readonly first: Uint32Array;
  readonly count: Uint16Array;
  readonly at: Uint16Array;
  /** In the order of the codes. */
  readonly symbols: Uint16Array;
}

function makeCode(): Code {
  const lengths = [...CODE_LENGTHS].map((digit) => parseInt(digit, 36));
  const order = lengths.map((_, symbol) => symbol).sort((a, b) => lengths[a]! - lengths[b]! || a - b);
  const made: Code = {
    short: new Uint16Array(1 << SHORT),
    first: new Uint32Array(LONGEST + 1),
    count: new Uint16Array(LONGEST + 1),
    at: new Uint16Array(LONGEST + 1),
    symbols: Uint16Array.from(order),
  };
  let [next, length] = [0, 0];
  for (const [index, symbol] of order.entries()) {
    while (length < lengths[symbol]!) {
      next *= 2;
      length++;
      made.first[length] = next;
      made.at[length] = index;
    }
    made.count[length]!++;
    if (length <= SHORT) {
      const free = SHORT - length;
      made.short.fill(length << 8 | symbol, next << free, next + 1 << free);
    }
    next++;
  }
  return made;
}

const CODE = makeCode();

/** Decodes a string; undefined if it isn't one, or is longer than `maxLength`. */
export function decodeHuffman(bytes: Bytes, maxLength: number): string | undefined {
  const { short, first, count, at, symbols } = CODE;
  const bits = 8 * bytes.length;
  // No code is shorter than 5 bits.
  const text = Buffer.allocUnsafe(Math.min(maxLength, Math.floor(bits / 5)));
  let [length, position] = [0, 0];
  while (position < bits) {
    const left = bits - position;
    const byte = position >> 3;
    const next = ((bytes[byte]! << 8 | (bytes[byte + 1] ?? 0xff)) >> (8 - (position & 7))) & 0xff;
    const found = short[next]!;
    let symbol = found & 0xff;
    if (found !== 0 && found >> 8 <= left) position += found >> 8;
    else {
      // The padding is the beginning of the code for the end of the string: ones, fewer than 8.
      if (left < 8) return next === 0xff ? text.toString("latin1", 0, length) : undefined;
      let [value, width] = [0, 0];
      do {
        if (position >= bits || width === LONGEST) return undefined;
        value = value * 2 + (bytes[position >> 3]! >> (7 - (position & 7)) & 1);
        position++;
        width++;
      } while (value - first[width]! >= count[width]!);
      symbol = symbols[at[width]! + value - first[width]!]!;
      if (symbol === END_OF_STRING) return undefined;
    }
    if (length === text.length) return undefined;
    text[length++] = symbol;
  }
  return text.toString("latin1", 0, length);
}
