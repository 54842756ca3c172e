/**
 * Consecutively numbered boxes of one direction, under a chain of keys
 * (docs/protocols/sealed.md, Records). The pipe between two Sallyports uses them too (docs/protocols/pipe.md).
 *
 * @module
 */
import type { Bytes } from "../../bytes/bytes.ts";
import type { Aead } from "../../crypto/aead.ts";
import { NONCE_BYTES, type Sodium } from "../../crypto/sodium.ts";
import { bulkKey, nextKey, writeNonce } from "../handshake/sealed_keys.ts";

/** Sealed: minimum contents of a box for the bulk cipher, whose setup then pays off; part of the wire format. */
export const SEALED_BULK_MIN_BYTES = 4 * 1024;
/** Sealed: a direction's key is replaced after this many records, at most 2 GiB. */
export const SEALED_REKEY_RECORDS = 32_768;

/** The ciphers that seal one direction's boxes. */
export interface BoxCipher {
  /** Derives keys. */
  readonly sodium: Sodium;
  /** For small boxes: ChaCha20-Poly1305. */
  readonly small: Aead;
  /** For boxes with at least {@link SEALED_BULK_MIN_BYTES} of contents. */
  readonly bulk: Aead;
  readonly key: Bytes;
}

/** A direction's keys and their usage counts. */
export class BoxChain {
  readonly #sodium: Sodium;
  readonly #small: Aead;
  readonly #bulk: Aead;
  readonly #nonce: Bytes = new Uint8Array(NONCE_BYTES);
  #key: Bytes;
  #bulkKey: Bytes;
  #boxes = 0;

  constructor({ sodium, small, bulk, key }: BoxCipher) {
    this.#sodium = sodium;
    this.#small = small;
    this.#bulk = bulk;
    this.#key = key;
    this.#bulkKey = bulkKey(sodium, key);
  }

  /** Seals the next box into `into`, which is `TAG_BYTES` longer and doesn't overlap. */
  seal(plain: Bytes, into: Bytes): void {
    if (plain.length < SEALED_BULK_MIN_BYTES) this.#small.seal(plain, into, this.#nonce, this.#key);
    else this.#bulk.seal(plain, into, this.#nonce, this.#bulkKey);
    this.#step();
  }

  /** Opens the next box; false if it was altered or isn't the next one. */
  open(sealed: Bytes, into: Bytes): boolean {
    const opened = into.length < SEALED_BULK_MIN_BYTES
      ? this.#small.open(sealed, into, this.#nonce, this.#key)
      : this.#bulk.open(sealed, into, this.#nonce, this.#bulkKey);
    if (opened) this.#step();
    return opened;
  }

  /** Advances to the next nonce or key after a box has been sealed or opened. */
  #step(): void {
    this.#boxes++;
    if (this.#boxes === 2 * SEALED_REKEY_RECORDS) {
      this.#key = nextKey(this.#sodium, this.#key);
      this.#bulkKey = bulkKey(this.#sodium, this.#key);
      this.#boxes = 0;
    }
    writeNonce(this.#nonce, this.#boxes);
  }
}
