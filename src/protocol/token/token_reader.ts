/**
 * Reads the token that opens an agent's connection, without IO. A token has no length prefix and no terminator
 * (docs/protocols/snitun.md, Handshake), and may arrive in any number of segments. Its end is found as follows:
 *
 * - Padding (`=`) can only occur at the end. A padded token that doesn't open is refused at once.
 * - A third of all tokens have no padding. If the bytes so far could be a complete token, it is tried: at once if they
 *   have grown by a quarter since the last attempt, else after a pause in the input that doubles with each such attempt.
 *   So all attempts together hash a few times the token's length, however it is segmented. If no key decrypts it, more may
 *   follow; if nothing follows for TOKEN_QUIET_MS, it is refused.
 *
 * @module
 */

import type { Bytes } from "../../bytes/bytes.ts";
import { PAD, sextet } from "../../crypto/base64url.ts";
import { couldBeComplete, FernetError, type FernetFault } from "../../crypto/fernet.ts";
import { SallyportError } from "../../errors.ts";
import type { TokenClaims } from "../../wire/token/token_payload.ts";
import { TOKEN_MAX_BYTES } from "../../wire/token/token_payload.ts";

/** Time limit for an agent's complete token; longer than for a hello because a hub's uplink may be slow. */
export const TOKEN_DEADLINE_MS = 10_000;
/**
 * A token has no terminator. One that could be complete, opens with no key and isn't continued for this long is refused
 * without waiting for the token's deadline.
 */
export const TOKEN_QUIET_MS = 1_000;

/** Initial pause in the input after which a token that has hardly grown since the last attempt is tried again. */
export const TOKEN_PAUSE_FIRST_MS = 20;
/** Growth since the last attempt beyond which an unpadded token is tried at once. */
const GROWTH_MIN = 1.25;

/** Fits most tokens. */
const FIRST_BUFFER_BYTES = 512;
/** The version byte 0x80 makes a token's first character `g`, and its second one of `A` to `P`. */
export const TOKEN_FIRST_BYTE = 0x67;
const SECOND_CHAR_MIN = 0x41;
const SECOND_CHAR_MAX = 0x50;

/** A received token and its claims. */
export interface OpenedToken {
  readonly token: Bytes;
  readonly claims: TokenClaims;
}

/** Options of {@link TokenReader}. */
interface TokenReaderOptions {
  /**
   * Opens a token like `tryOpenToken`. The view is valid during the call. The fault "key" means that more of the token
   * may follow; any other fault or error refuses it.
   */
  readonly open: (token: Bytes) => TokenClaims | FernetFault;
  /** When the connection was accepted, on the monotonic clock. */
  readonly startedAtMs: number;
}

/** Collects one token. Times are monotonic milliseconds. After an error or a token it accepts no more. */
export class TokenReader {
  readonly #open: (token: Bytes) => TokenClaims | FernetFault;
  readonly #lateAtMs: number;
  #quietAtMs = Infinity;
  /** When to make the deferred attempt. */
  #pauseAtMs = Infinity;
  #pauseMs = TOKEN_PAUSE_FIRST_MS;
  /** Length at the last attempt. */
  #triedLength = 0;
  #buffer: Bytes = new Uint8Array(FIRST_BUFFER_BYTES);
  #length = 0;
  #padding = 0;
  #over = false;

  constructor(options: TokenReaderOptions) {
    this.#open = options.open;
    this.#lateAtMs = options.startedAtMs + TOKEN_DEADLINE_MS;
  }

  /** When to call {@link tick}; changes with each `push`. */
  get deadlineMs(): number {
    return Math.min(this.#lateAtMs, this.#quietAtMs, this.#pauseAtMs);
  }

  /**
   * Accepts and copies received bytes. Undefined until the token is complete; then the token. Bytes after it violate the
   * protocol until the challenge has been sent: in the same chunk they invalidate the token, and a later `push` throws.
   *
   * @throws {SallyportError} `token_invalid` or the error of `open`, as soon as no further bytes can make it valid;
   * `deadline_exceeded`.
   */
  push(chunk: Bytes, nowMs: number): OpenedToken | undefined {
    if (this.#over) throw invalid("bytes follow it before the challenge");
    try {
      const opened = this.#take(chunk, nowMs);
      this.#over = opened !== undefined;
      return opened;
    } catch (error) {
      this.#over = true;
      throw error;
    }
  }

  /**
   * Performs the work due at `nowMs`: returns a token whose end was inferred from a pause; does nothing before the
   * deadline or after a token.
   *
   * @throws {SallyportError} `token_invalid`: no key opens the bytes and nothing followed; `deadline_exceeded`.
   */
  tick(nowMs: number): OpenedToken | undefined {
    if (this.#over) return undefined;
    if (nowMs >= this.#pauseAtMs) {
      this.#pauseAtMs = Infinity;
      this.#pauseMs *= 2;
      try {
        const opened = this.#try(this.#length);
        this.#over = opened !== undefined;
        if (opened !== undefined) return opened;
      } catch (error) {
        this.#over = true;
        throw error;
      }
    }
    if (nowMs >= this.#quietAtMs) {
      this.#over = true;
      throw new FernetError("key");
    }
    if (nowMs >= this.#lateAtMs) {
      this.#over = true;
      throw new SallyportError(
        "deadline_exceeded",
        `Cannot read token: incomplete after ${TOKEN_DEADLINE_MS / 1000} s, ${this.#length} bytes arrived`,
        { side: "peer" },
      );
    }
    return undefined;
  }

  #take(chunk: Bytes, nowMs: number): OpenedToken | undefined {
    // A busy process may run a late timer after bytes that arrived too late; the deferred attempt is void then.
    this.#pauseAtMs = Infinity;
    this.tick(nowMs);
    if (chunk.length === 0) return undefined;
    const length = this.#length + chunk.length;
    if (length > TOKEN_MAX_BYTES) throw invalid(`it has more than ${TOKEN_MAX_BYTES} bytes`);
    this.#check(chunk);
    this.#append(chunk, length);
    this.#quietAtMs = Infinity;
    if (!couldBeComplete(this.#buffer, length)) {
      if (this.#padding > 0 && length % 4 === 0) throw new FernetError("shape");
      return undefined;
    }
    this.#quietAtMs = nowMs + TOKEN_QUIET_MS;
    if (this.#padding > 0 || length >= GROWTH_MIN * this.#triedLength) return this.#try(length);
    this.#pauseAtMs = nowMs + this.#pauseMs;
    return undefined;
  }

  /** Tries to open the bytes so far. */
  #try(length: number): OpenedToken | undefined {
    this.#triedLength = length;
    const token = this.#buffer.subarray(0, length);
    const claims = this.#open(token);
    if (typeof claims !== "string") return { token: token.slice(), claims };
    if (claims !== "key" || this.#padding > 0) throw new FernetError(claims);
    return undefined;
  }

  /** Refuses characters that are invalid at their position. */
  #check(chunk: Bytes): void {
    for (let i = 0; i < chunk.length; i++) {
      const at = this.#length + i;
      const char = chunk[i]!;
      let fits: boolean;
      if (char === PAD) {
        // The last one or two of a group of four.
        fits = at % 4 === 3 || (at % 4 === 2 && this.#padding === 0);
        this.#padding++;
      } else if (at === 0) fits = char === TOKEN_FIRST_BYTE;
      else if (at === 1) fits = char >= SECOND_CHAR_MIN && char <= SECOND_CHAR_MAX;
      else fits = this.#padding === 0 && sextet(char) >= 0;
      if (!fits) throw invalid(`byte ${at + 1} isn't valid at that position in a token`);
    }
  }

  #append(chunk: Bytes, length: number): void {
    if (length > this.#buffer.length) {
      const larger = new Uint8Array(Math.min(TOKEN_MAX_BYTES, Math.max(length, 2 * this.#buffer.length)));
      larger.set(this.#buffer.subarray(0, this.#length));
      this.#buffer = larger;
    }
    this.#buffer.set(chunk, this.#length);
    this.#length = length;
  }
}

function invalid(why: string): SallyportError {
  return new SallyportError("token_invalid", `Cannot read token: ${why}`, { side: "peer" });
}
