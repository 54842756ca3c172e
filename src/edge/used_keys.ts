/**
 * One key, one session. A token's key opens one session, on any transport. A second use would allow a copied login to
 * be replayed, and under aes-gcm it would repeat nonces (docs/protocols/login.md). Only SniTun's aes-cbc and
 * aes-gcm-siv keys may be reused, over SniTun: agents of the reference reconnect with the token they have.
 *
 * @module
 */
import { hash } from "node:crypto";
import type { Bytes } from "../bytes/bytes.ts";
import { errorCode, SallyportError } from "../errors.ts";

/** Keys remembered to refuse a second use; beyond this number, tokens as old as the oldest are refused as stale. */
export const USED_KEYS_MAX = 200_000;

const FINGERPRINT_CHARS = 22;

/** Record of used tokens, shared by edges with the same Fernet keys, such as Redis. */
export interface KeyUseStore {
  /**
   * Records a key by its fingerprint until `validUntilS` (Unix seconds), after which no edge accepts its token. True if
   * no edge had recorded it before. A store that may lose its records checks `use`: it rejects with `token_stale` if
   * the token may have been used before its records begin, and nonces would repeat. Rejects with `io_failed` while the
   * store is unavailable.
   */
  first(
    fingerprint: string,
    validUntilS: number,
    use: Pick<KeyUse, "madeAtS" | "noncesRepeat">,
  ): boolean | Promise<boolean>;
  /** Start of its records, in Unix seconds, if they don't survive a restart: older tokens are refused as stale. */
  readonly sinceS?: number;
}

/** A use of a token's key. */
export interface KeyUse {
  readonly aesKey: Bytes;
  /** When the token expires and when it was issued, in Unix seconds. */
  readonly validUntilS: number;
  readonly madeAtS: number;
  /** Whether further uses of this kind may follow. */
  readonly repeatable: boolean;
  /** An undetected second use would repeat nonces: tokens that an earlier process may have seen are refused. */
  readonly noncesRepeat: boolean;
}

interface Used {
  readonly validUntilS: number;
  readonly madeAtS: number;
  readonly repeatable: boolean;
}

/** Remembers keys until their token expires, in bounded memory. */
export class UsedKeys {
  /** By fingerprint, in the order of use. */
  readonly #keys = new Map<string, Used>();
  readonly #store: KeyUseStore | undefined;
  readonly #startedAtS: () => number;
  /** Unix seconds: the record of tokens issued before then is incomplete. */
  #evictedSinceS = -Infinity;

  /**
   * @param startedAtS when this process started, in Unix seconds by the present clock; earlier ones left no record
   * @param store a record that outlives the process, if there is one
   */
  constructor(startedAtS: () => number, store?: KeyUseStore) {
    this.#startedAtS = startedAtS;
    this.#store = store;
  }

  /** Unix seconds: tokens issued before then may have been used without our knowledge. */
  get #knownSinceS(): number {
    // Tokens have a resolution of whole seconds. One issued in this second counts as issued after the start.
    return Math.max(this.#evictedSinceS, Math.floor(this.#store?.sinceS ?? this.#startedAtS()));
  }

  /**
   * Records a use. Throws or rejects with `key_reused` if there was one before, and with `token_stale` if that can't be
   * known; the agent may reconnect at once with a fresh token.
   */
  use(use: KeyUse): void | Promise<void> {
    const fingerprint = hash("sha256", use.aesKey, "base64").slice(0, FINGERPRINT_CHARS);
    const before = this.#keys.get(fingerprint);
    if (before !== undefined && !(before.repeatable && use.repeatable)) throw reused();
    if (before === undefined && (this.#store === undefined || this.#store.sinceS !== undefined)) {
      this.#judgeAge(use);
    }
    this.#note(fingerprint, use);
    if (use.repeatable || this.#store === undefined) return;
    const first = this.#store.first(fingerprint, use.validUntilS, use);
    if (first === false) throw reused();
    if (first !== true) return this.#awaited(first, use);
  }

  /** Forgets keys whose token is no longer accepted. */
  sweep(nowS: number): void {
    for (const [fingerprint, { validUntilS }] of this.#keys) {
      if (validUntilS < nowS) this.#keys.delete(fingerprint);
    }
  }

  async #awaited(first: Promise<boolean>, { noncesRepeat }: KeyUse): Promise<void> {
    const answer = await first.catch((error) => {
      // While the store is unavailable, agents are admitted if an undetected second use gains an attacker nothing,
      // since a login is bound to its connection. Repeated nonces would be a gain.
      if (noncesRepeat || errorCode(error) !== "io_failed") throw error;
      return true;
    });
    if (!answer) throw reused();
  }

  #judgeAge({ madeAtS, noncesRepeat }: KeyUse): void {
    const knownSinceS = this.#knownSinceS;
    if (!noncesRepeat || madeAtS >= knownSinceS) return;
    const why = `its token was issued ${
      knownSinceS - madeAtS
    } s before this edge began to record used tokens`;
    throw new SallyportError("token_stale", `Cannot open session: ${why}; request a fresh token`, {
      side: "peer",
      retryable: true,
    });
  }

  #note(fingerprint: string, { validUntilS, madeAtS, repeatable }: KeyUse): void {
    const [oldest] = this.#keys;
    if (this.#keys.size >= USED_KEYS_MAX && oldest !== undefined) {
      this.#keys.delete(oldest[0]);
      if (!oldest[1].repeatable) this.#evictedSinceS = Math.max(this.#evictedSinceS, oldest[1].madeAtS + 1);
    }
    this.#keys.set(fingerprint, { validUntilS, madeAtS, repeatable });
  }
}

function reused(): SallyportError {
  return new SallyportError(
    "key_reused",
    "Cannot open session: the token's key has already opened a session, and may open only one; request a fresh token",
    { side: "peer", retryable: true },
  );
}
