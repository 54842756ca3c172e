/**
 * The peer's address: the current path, a candidate path being challenged, and the peer's challenges awaiting an
 * answer.
 *
 * @module
 */
import type { Bytes } from "../../bytes/bytes.ts";
import type { RandomSource } from "../../crypto/random.ts";
import type { Address } from "../../runtime/port.ts";
import { CHALLENGE_BYTES } from "../../wire/curve/curve_frame.ts";

const TRIES = 3;
/** An unvalidated address is sent at most this many times the bytes received from it. */
const AMPLIFICATION = 3;
const RESPONSES_MAX = 4;

/** Whether two addresses are the same. */
export function sameAddress(a: Address, b: Address): boolean {
  return a.port === b.port && a.host === b.host;
}

interface Candidate {
  readonly address: Address;
  readonly data: Bytes;
  /** Number of the packet received from there. */
  number: number;
  received: number;
  sent: number;
  tries: number;
  nextMs: number;
}

/** An answer to a challenge of the peer. */
interface PathAnswer {
  readonly to: Address;
  readonly data: Bytes;
}

/** The path of one connection. */
export class PathState {
  current: Address;
  moves = 0;
  #candidate: Candidate | undefined;
  readonly #answers: PathAnswer[] = [];
  readonly #random: RandomSource;

  constructor(current: Address, random: RandomSource) {
    this.current = current;
    this.#random = random;
  }

  /** A packet was opened; `newest` if its number is higher than any before. */
  received(from: Address, number: number, newest: boolean, bytes: number, nowMs: number): void {
    const candidate = this.#candidate;
    if (sameAddress(from, this.current)) {
      // The peer still sends from the current path: the other packet was a copy, or the peer has moved back.
      if (candidate !== undefined && newest) this.#candidate = undefined;
      return;
    }
    if (candidate !== undefined && sameAddress(from, candidate.address)) {
      candidate.received += bytes;
      if (newest) candidate.number = number;
      return;
    }
    if (!newest) return;
    const data = new Uint8Array(CHALLENGE_BYTES);
    this.#random.fill(data);
    const address = { host: from.host, port: from.port };
    this.#candidate = { address, data, number, received: bytes, sent: 0, tries: 0, nextMs: nowMs };
  }

  /** Handles a PATH_RESPONSE. True if the path has moved to its source. */
  answered(from: Address, data: Bytes): boolean {
    const candidate = this.#candidate;
    if (candidate === undefined || !sameAddress(from, candidate.address)) return false;
    if (candidate.tries === 0 || data.some((byte, i) => byte !== candidate.data[i])) return false;
    this.current = candidate.address;
    this.#candidate = undefined;
    this.moves++;
    return true;
  }

  /** Handles the peer's PATH_CHALLENGE: queues an answer to its source. */
  challenged(from: Address, data: Bytes): void {
    if (this.#answers.length >= RESPONSES_MAX) return;
    this.#answers.push({ to: { host: from.host, port: from.port }, data: data.slice() });
  }

  /** The next answer to send. */
  takeAnswer(): PathAnswer | undefined {
    return this.#answers.shift();
  }

  /** The challenge to send now, if one is due and `bytes` may still be sent there. */
  challenge(nowMs: number, bytes: number, retryMs: number): PathAnswer | undefined {
    const candidate = this.#candidate;
    if (candidate === undefined || nowMs < candidate.nextMs) return undefined;
    if (candidate.tries >= TRIES) {
      this.#candidate = undefined;
      return undefined;
    }
    candidate.nextMs = nowMs + retryMs;
    if (candidate.sent + bytes > AMPLIFICATION * candidate.received) return undefined;
    candidate.tries++;
    candidate.sent += bytes;
    return { to: candidate.address, data: candidate.data };
  }

  /** When {@link challenge} is due. */
  get deadlineMs(): number {
    return this.#candidate?.nextMs ?? Infinity;
  }
}
