/**
 * aes-gcm-siv (RFC 8452): `nonce(12) ‖ ciphertext ‖ tag(16)` with AES-256-GCM-SIV and random nonces
 * (docs/protocols/snitun.md, Handshake). Neither runtime provides it, so it comes from @noble/ciphers and costs some 12
 * µs per unit. A receiver can't predict a random nonce: replayed and reflected units pass, altered ones don't.
 *
 * @module
 */

import { gcmsiv } from "@noble/ciphers/aes.js";
import { type Bytes, part } from "../bytes/bytes.ts";
import { AEAD_OVERHEAD_BYTES, checkSealedLength, countUnits, tagWrong } from "./gcm_cipher.ts";
import { RandomPool, type RandomSource } from "./random.ts";
import type { Opener, Sealer } from "./sealer.ts";

const NONCE_BYTES = 12;

/** The encrypting half of aes-gcm-siv; created by `createSealer`. */
export class GcmSivSealer implements Sealer {
  readonly overheadBytes = AEAD_OVERHEAD_BYTES;
  readonly #key: Bytes;
  readonly #random: RandomSource | undefined;
  #pool: RandomPool | undefined;
  #out: Bytes | undefined;

  /** @param random source of nonces. Defaults to a pool of system randomness. */
  constructor(key: Bytes, random?: RandomSource) {
    this.#key = key.slice();
    this.#random = random;
  }

  seal(plain: Bytes, unitBytes: number): Bytes {
    const units = countUnits(plain, unitBytes, "aes-gcm-siv");
    const sealedBytes = unitBytes + AEAD_OVERHEAD_BYTES;
    const total = units * sealedBytes;
    if (this.#out === undefined || this.#out.length < total) this.#out = new Uint8Array(total);
    const out = this.#out;
    const random = this.#random ?? (this.#pool ??= new RandomPool());
    for (let unit = 0; unit < units; unit++) {
      const at = unit * sealedBytes;
      const nonce = out.subarray(at, at + NONCE_BYTES);
      random.fill(nonce);
      const sealed = gcmsiv(this.#key, nonce).encrypt(
        plain.subarray(unit * unitBytes, (unit + 1) * unitBytes),
      );
      out.set(sealed, at + NONCE_BYTES);
    }
    return part(out, 0, total);
  }

  park(): void {
    this.#out = undefined;
    this.#pool = undefined;
  }
}

/** The decrypting half of aes-gcm-siv; created by `createOpener`. */
export class GcmSivOpener implements Opener {
  readonly overheadBytes = AEAD_OVERHEAD_BYTES;
  readonly #key: Bytes;

  constructor(key: Bytes) {
    this.#key = key.slice();
  }

  open(wire: Bytes): Bytes {
    checkSealedLength(wire, "aes-gcm-siv");
    try {
      const opened = gcmsiv(this.#key, wire.subarray(0, NONCE_BYTES)).decrypt(wire.subarray(NONCE_BYTES));
      return opened as Bytes;
    } catch (cause) {
      throw tagWrong("aes-gcm-siv", cause);
    }
  }

  /** No state is kept between units. */
  park(): void {}
}
