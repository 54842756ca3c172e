/**
 * The challenge between token and multiplexer, both sides, without IO or time (docs/protocols/snitun.md, Handshake). The edge
 * sends E(t), t = SHA-256 of 40 random bytes; the agent answers E(SHA-256(t)). The cipher states that this leaves
 * behind are the multiplexer's first. Deadlines are the transport's.
 *
 * Both sides park the ciphers after each unit: a peer that stays silent or goes away costs no native context, and
 * and a challenge that is dropped half-way leaves nothing to free.
 *
 * @module
 */

import { hash, timingSafeEqual } from "node:crypto";
import type { Bytes } from "../../bytes/bytes.ts";
import type { Opener, Sealer } from "../../crypto/header_cipher.ts";
import { type RandomSource, systemRandom } from "../../crypto/random.ts";
import { SallyportError } from "../../errors.ts";

/** The challenge's answer must come by then (spec: 60 s). */
export const CHALLENGE_DEADLINE_MS = 60_000;

/** Length of the challenge and of its answer before E. */
export const CHALLENGE_BYTES = 32;
const SEED_BYTES = 40;

/** The edge's side. */
export class EdgeChallenge {
  /** What to send first: E(t), 32 bytes and the cipher's overhead. */
  readonly first: Bytes;
  readonly #opener: Opener;
  readonly #expected: Bytes;
  readonly #answer: UnitCollector;

  /**
   * @param sealer of role "edge", unused so far.
   * @param opener of peer role "agent", unused so far.
   * @param random where the 40 bytes come from; the system when absent.
   */
  constructor(sealer: Sealer, opener: Opener, random: RandomSource = systemRandom) {
    const seed = new Uint8Array(SEED_BYTES);
    random.fill(seed);
    const challenge = sha256(seed);
    this.#expected = sha256(challenge);
    this.first = sealer.seal(challenge, CHALLENGE_BYTES).slice();
    sealer.park();
    this.#opener = opener;
    this.#answer = new UnitCollector(CHALLENGE_BYTES + opener.overheadBytes);
  }

  /**
   * Takes what the agent sent. Undefined while the answer isn't whole; then `rest`, the part of `chunk` behind it,
   * which is the multiplexer's. Not to be called again after that.
   *
   * @throws {SallyportError} `challenge_failed`: the agent doesn't have the token's key.
   */
  push(chunk: Bytes): { rest: Bytes } | undefined {
    const rest = this.#answer.push(chunk);
    if (rest === undefined) return undefined;
    const answer = openUnit(this.#opener, this.#answer.unit, "answer");
    if (!timingSafeEqual(answer, this.#expected)) throw failed("the answer is wrong");
    return { rest };
  }
}

/** The agent's side. */
export class AgentChallenge {
  readonly #sealer: Sealer;
  readonly #opener: Opener;
  readonly #challenge: UnitCollector;

  /**
   * @param sealer of role "agent", unused so far.
   * @param opener of peer role "edge", unused so far.
   */
  constructor(sealer: Sealer, opener: Opener) {
    this.#sealer = sealer;
    this.#opener = opener;
    this.#challenge = new UnitCollector(CHALLENGE_BYTES + opener.overheadBytes);
  }

  /**
   * Takes what the edge sent. Undefined while the challenge isn't whole; then the answer to send, 32 bytes and the
   * cipher's overhead, and `rest`, the part of `chunk` behind the challenge, which is the multiplexer's. Not to be
   * called again after that.
   *
   * @throws {SallyportError} `challenge_failed`: the edge doesn't have the token's key. With aes-cbc an edge without
   * the key isn't noticed here: any 32 bytes decrypt to something.
   */
  push(chunk: Bytes): { answer: Bytes; rest: Bytes } | undefined {
    const rest = this.#challenge.push(chunk);
    if (rest === undefined) return undefined;
    const challenge = openUnit(this.#opener, this.#challenge.unit, "challenge");
    const answer = this.#sealer.seal(sha256(challenge), CHALLENGE_BYTES).slice();
    this.#sealer.park();
    return { answer, rest };
  }
}

/** Collects a unit of known length out of chunks. */
class UnitCollector {
  /** The unit; whole once `push` has given a rest. */
  readonly unit: Bytes;
  #length = 0;

  constructor(unitBytes: number) {
    this.unit = new Uint8Array(unitBytes);
  }

  /** Undefined while bytes are missing; then what of `chunk` lies behind the unit. */
  push(chunk: Bytes): Bytes | undefined {
    const missing = this.unit.length - this.#length;
    if (missing === 0) {
      throw new SallyportError("closed", "Cannot go on with challenge: it is over", { side: "local" });
    }
    const taken = Math.min(missing, chunk.length);
    this.unit.set(chunk.subarray(0, taken), this.#length);
    this.#length += taken;
    return taken === missing ? chunk.subarray(taken) : undefined;
  }
}

function openUnit(opener: Opener, unit: Bytes, what: string): Bytes {
  try {
    return opener.open(unit).slice();
  } catch (cause) {
    throw failed(`the ${what} isn't sealed with the token's key`, cause);
  } finally {
    opener.park();
  }
}

function failed(why: string, cause?: unknown): SallyportError {
  return new SallyportError("challenge_failed", `Cannot open session: ${why}`, { side: "peer", cause });
}

function sha256(bytes: Bytes): Bytes {
  return new Uint8Array(hash("sha256", bytes, "buffer"));
}
