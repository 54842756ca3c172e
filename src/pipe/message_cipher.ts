/**
 * Ciphers for a pipe's messages, one per direction: sodium-tcp's secretstream, and boxes between two Sallyport ends.
 *
 * @module
 */
import type { Bytes } from "../bytes/bytes.ts";
import { type Sodium, STREAM_EXTRA_BYTES, TAG_BYTES, TAG_MESSAGE } from "../crypto/sodium.ts";
import { BoxChain, type BoxCipher } from "../protocol/records/box_chain.ts";

/** Maximum overhead of a message. */
export const MESSAGE_EXTRA_MAX_BYTES = Math.max(STREAM_EXTRA_BYTES, TAG_BYTES);

/** One direction, encrypted or decrypted message by message. */
export interface MessageCipher {
  /** Overhead of a message. */
  readonly extraBytes: number;
  /** Seals the next message into `into`, elsewhere in memory. */
  seal(plain: Bytes, into: Bytes): void;
  /** Opens the next message; returns its tag, −1 if it was altered or isn't the next. */
  open(sealed: Bytes, into: Bytes): number;
}

/** Version 1: `crypto_secretstream_xchacha20poly1305`. Owns and advances `state`. */
export class StreamMessages implements MessageCipher {
  readonly extraBytes = STREAM_EXTRA_BYTES;
  readonly #sodium: Sodium;
  readonly #state: Bytes;

  constructor(sodium: Sodium, key: Bytes, header: Bytes) {
    this.#sodium = sodium;
    this.#state = sodium.streamState(key, header);
  }

  seal(plain: Bytes, into: Bytes): void {
    this.#sodium.push(this.#state, plain, into, TAG_MESSAGE);
  }

  open(sealed: Bytes, into: Bytes): number {
    return this.#sodium.pull(this.#state, sealed, into);
  }
}

/** Between two Sallyport ends: the sealed transport's boxes. */
export class BoxMessages implements MessageCipher {
  readonly extraBytes = TAG_BYTES;
  readonly #chain: BoxChain;

  constructor(cipher: BoxCipher) {
    this.#chain = new BoxChain(cipher);
  }

  seal(plain: Bytes, into: Bytes): void {
    this.#chain.seal(plain, into);
  }

  open(sealed: Bytes, into: Bytes): number {
    return this.#chain.open(sealed, into) ? TAG_MESSAGE : -1;
  }
}
