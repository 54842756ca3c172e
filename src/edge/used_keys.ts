/**
 * One key, one session. A token's key opens one session, on whichever transport; a second use would let a copied login
 * be played again, and under aes-gcm it would repeat nonces (docs/protocols/login.md). SniTun's aes-cbc and aes-gcm-siv
 * alone may be used again, over SniTun: agents of the reference come back with the token that they have.
 *
 * @module
 */
import { hash } from "node:crypto";
import type { Bytes } from "../bytes/bytes.ts";
import { errorCode, SallyportError } from "../errors.ts";

/** Key material remembered to refuse its second use; beyond it tokens as old as the oldest are refused as stale. */
export const USED_KEYS_MAX = 200_000;

const FINGERPRINT_CHARS = 22;

/** Where several edges with the same Fernet keys note which tokens have been used, such as Redis. */
export interface KeyUseStore {
  /**
   * Notes a key by its fingerprint until `validUntilS` (Unix seconds), after which no edge takes its token. True where
   * no edge had noted it before. A store that may lose its notes judges `use`: it rejects with `token_stale` where the
   * token may have been used before its notes begin, and nonces would repeat. Rejects with `io_failed` while the store
   * is away.
   */
  first(
    fingerprint: string,
    validUntilS: number,
    use: Pick<KeyUse, "madeAtS" | "noncesRepeat">,
  ): boolean | Promise<boolean>;
  /** Since when it remembers, in Unix seconds, where it does not outlive a restart: older tokens are refused as stale. */
  readonly sinceS?: number;
}

/** A use of a token's key. */
export interface KeyUse {
  readonly aesKey: Bytes;
  /** Unix seconds: the token's end, and its making. */
  readonly validUntilS: number;
  readonly madeAtS: number;
  /** It may be followed by further uses of this kind. */
  readonly repeatable: boolean;
  /** A second use that isn't noticed would repeat nonces: what an earlier process may have seen is refused. */
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
  /** Unix seconds: tokens made before then may have been used without our knowing. */
  #knownSinceS: number;

  /**
   * @param startedAtS when this process began, in Unix seconds; earlier ones have left no note of what they saw
   * @param store a note that outlives the process, where there is one
   */
  constructor(startedAtS: number, store?: KeyUseStore) {
    // Tokens have whole seconds. One of this very second counts as made after the start.
    this.#knownSinceS = Math.floor(store?.sinceS ?? startedAtS);
    this.#store = store;
  }

  /**
   * Notes a use. Throws or rejects with `key_reused` where there was one before, and with `token_stale` where nobody can
   * know whether there was: with a fresh token the agent may come again at once.
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

  /** Forgets keys whose token nobody accepts any more. */
  sweep(nowS: number): void {
    for (const [fingerprint, { validUntilS }] of this.#keys) {
      if (validUntilS < nowS) this.#keys.delete(fingerprint);
    }
  }

  async #awaited(first: Promise<boolean>, { noncesRepeat }: KeyUse): Promise<void> {
    const answer = await first.catch((error) => {
      // While the store is away, agents get in where a second use that nobody notices gives nobody anything: a login is
      // bound to its connection. Repeated nonces would give something.
      if (noncesRepeat || errorCode(error) !== "io_failed") throw error;
      return true;
    });
    if (!answer) throw reused();
  }

  #judgeAge({ madeAtS, noncesRepeat }: KeyUse): void {
    if (!noncesRepeat || madeAtS >= this.#knownSinceS) return;
    const why = `its token was made ${
      this.#knownSinceS - madeAtS
    } s before this edge began to note which were used`;
    throw stale(why);
  }

  #note(fingerprint: string, { validUntilS, madeAtS, repeatable }: KeyUse): void {
    const [oldest] = this.#keys;
    if (this.#keys.size >= USED_KEYS_MAX && oldest !== undefined) {
      this.#keys.delete(oldest[0]);
      if (!oldest[1].repeatable) this.#knownSinceS = Math.max(this.#knownSinceS, oldest[1].madeAtS + 1);
    }
    this.#keys.set(fingerprint, { validUntilS, madeAtS, repeatable });
  }
}

/** How an edge refuses a token that may have been used before anybody noted it. */
function stale(why: string): SallyportError {
  return new SallyportError("token_stale", `Cannot open session: ${why}; ask for a fresh token`, {
    side: "peer",
    retryable: true,
  });
}

function reused(): SallyportError {
  return new SallyportError(
    "key_reused",
    "Cannot open session: the token's key has opened one before, and it opens one only; ask for a fresh token",
    { side: "peer", retryable: true },
  );
}
