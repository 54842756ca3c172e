/**
 * The challenge between token and multiplexer, both sides, without IO or time (docs/protocols/snitun.md, Handshake). The edge
 * sends E(t), t = SHA-256 of 40 random bytes; the agent answers E(SHA-256(t)). The multiplexer continues with the
 * resulting cipher states. The transport sets the deadlines.
 *
 * Both sides park the ciphers after each unit: a peer that is silent or disconnects costs no native context, and an
 * abandoned challenge leaves nothing to free.
 *
 * @module
 */

import { hash, timingSafeEqual } from "node:crypto";
import type { Bytes } from "../../bytes/bytes.ts";
import type { Opener, Sealer } from "../../crypto/header_cipher.ts";
import { type RandomSource, systemRandom } from "../../crypto/random.ts";
import { SallyportError } from "../../errors.ts";

/** Time limit for the challenge's answer (spec: 60 s). */
export const CHALLENGE_DEADLINE_MS = 60_000;

/** Length of the challenge and of its answer before encryption with E. */
export const CHALLENGE_BYTES = 32;
const SEED_BYTES = 40;

/** The edge's side. */
export class EdgeChallenge {
  /** The first message to send: E(t), 32 bytes plus the cipher's overhead. */
  readonly first: Bytes;
  readonly #opener: Opener;
  readonly #expected: Bytes;
  readonly #answer: UnitCollector;

  /**
   * @param sealer of role "edge", unused so far.
   * @param opener of peer role "agent", unused so far.
   * @param random source of the 40 bytes. Defaults to the system's.
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
   * Handles bytes from the agent. Undefined until the answer is complete; then `rest`, the part of `chunk` after it, for
   * the multiplexer. Must not be called again after that.
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
   * Handles bytes from the edge. Undefined until the challenge is complete; then the answer to send, 32 bytes plus the
   * cipher's overhead, and `rest`, the part of `chunk` after the challenge, for the multiplexer. Must not be called again
   * after that.
   *
   * @throws {SallyportError} `challenge_failed`: the edge doesn't have the token's key. With aes-cbc an edge without
   * the key isn't detected here: any 32 bytes decrypt to something.
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

/** Collects a unit of known length from chunks. */
class UnitCollector {
  /** The unit; complete once `push` has returned a rest. */
  readonly unit: Bytes;
  #length = 0;

  constructor(unitBytes: number) {
    this.unit = new Uint8Array(unitBytes);
  }

  /** Undefined while bytes are missing; then the part of `chunk` after the unit. */
  push(chunk: Bytes): Bytes | undefined {
    const missing = this.unit.length - this.#length;
    if (missing === 0) {
      throw new SallyportError("closed", "Cannot continue challenge: it is over", { side: "local" });
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
