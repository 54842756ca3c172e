/**
 * Connection ids that name a worker, when several share a UDP port: 48 random bits and the worker's number, masked by a
 * keyed hash of these bits, so that only the workers can read it (docs/protocols/curve.md, "Workers").
 *
 * @module
 */
import type { Bytes } from "../../bytes/bytes.ts";
import type { RandomSource } from "../../crypto/random.ts";
import { ID_BYTES } from "../../wire/curve/curve_packet.ts";

/** Bytes of the key that all workers of a port share. */
export const WORKER_KEY_BYTES = 8;
const RANDOM_BYTES = 6;

/** Draws and reads connection ids. */
export class WorkerIds {
  readonly #low: number;
  readonly #high: number;

  /** @param key {@link WORKER_KEY_BYTES} */
  constructor(key: Bytes) {
    this.#low = word(key, 0);
    this.#high = word(key, 4);
  }

  /** An id that names `worker`, a number below 65,536. */
  draw(random: RandomSource, worker: number): Bytes {
    const id = new Uint8Array(ID_BYTES);
    random.fill(id.subarray(0, RANDOM_BYTES));
    const masked = worker ^ this.#mask(id, 0);
    id[RANDOM_BYTES] = masked >>> 8;
    id[RANDOM_BYTES + 1] = masked;
    return id;
  }

  /** The worker named by the id at `at`; any number for an id drawn with another key. */
  workerOf(packet: Bytes, at: number): number {
    return (packet[at + RANDOM_BYTES]! << 8 | packet[at + RANDOM_BYTES + 1]!) ^ this.#mask(packet, at);
  }

  #mask(bytes: Bytes, at: number): number {
    const tail = (RANDOM_BYTES << 24) | (bytes[at + 5]! << 8) | bytes[at + 4]!;
    return halfSipHash(this.#low, this.#high, word(bytes, at), tail) & 0xffff;
  }
}

function word(bytes: Bytes, at: number): number {
  return bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24);
}

/**
 * HalfSipHash-2-4 of a message of two words, the second of which ends with the message's length: SipHash with 32-bit
 * words (Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012). It runs for every received packet, and takes
 * a fraction of the time of a call into a cipher.
 */
export function halfSipHash(low: number, high: number, first: number, last: number): number {
  let v0 = low;
  let v1 = high;
  let v2 = 0x6c796765 ^ low;
  let v3 = 0x74656462 ^ high;
  const rounds = (count: number) => {
    for (let round = 0; round < count; round++) {
      v0 = (v0 + v1) | 0;
      v1 = rotate(v1, 5) ^ v0;
      v0 = rotate(v0, 16);
      v2 = (v2 + v3) | 0;
      v3 = rotate(v3, 8) ^ v2;
      v0 = (v0 + v3) | 0;
      v3 = rotate(v3, 7) ^ v0;
      v2 = (v2 + v1) | 0;
      v1 = rotate(v1, 13) ^ v2;
      v2 = rotate(v2, 16);
    }
  };
  for (const message of [first, last]) {
    v3 ^= message;
    rounds(2);
    v0 ^= message;
  }
  v2 ^= 0xff;
  rounds(4);
  return (v1 ^ v3) >>> 0;
}

function rotate(value: number, bits: number): number {
  return (value << bits) | (value >>> (32 - bits));
}
