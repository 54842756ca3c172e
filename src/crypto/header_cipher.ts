/**
 * E of the SniTun handshake: creates the sealer and the opener of a session from its token (docs/protocols/snitun.md,
 * Handshake). The challenge uses them first, then the multiplexer continues with them.
 *
 * @module
 */

import type { Bytes } from "../bytes/bytes.ts";
import { SallyportError } from "../errors.ts";
import { CbcOpener, CbcSealer } from "./cbc_cipher.ts";
import { GcmOpener, GcmSealer } from "./gcm_cipher.ts";
import { GcmSivOpener, GcmSivSealer } from "./gcm_siv_cipher.ts";
import type { RandomSource } from "./random.ts";
import type { CipherName, Opener, Role, Sealer } from "./sealer.ts";

export type { CipherName, Opener, Role, Sealer };

/** Length of a session's AES key, and of its IV. */
export const CIPHER_KEY_BYTES = 32;
export const CIPHER_IV_BYTES = 16;

/**
 * The sealer for the data that `role`, this side, sends. `key` has 32 bytes, `iv` 16 (used by aes-cbc only); both are
 * copied.
 *
 * @param random nonces of aes-gcm-siv; for tests. Defaults to a pool of system randomness.
 * @throws {SallyportError} `cipher_failed`, side "local": a length is wrong.
 */
export function createSealer(
  cipher: CipherName,
  key: Bytes,
  iv: Bytes,
  role: Role,
  random?: RandomSource,
): Sealer {
  checkKey(key, iv);
  switch (cipher) {
    case "aes-cbc":
      return new CbcSealer(key, iv);
    case "aes-gcm":
      return new GcmSealer(key, role);
    case "aes-gcm-siv":
      return new GcmSivSealer(key, random);
  }
}

/**
 * The opener for the data that `peerRole`, the other side, sends. `key` has 32 bytes, `iv` 16; both are copied.
 *
 * @throws {SallyportError} `cipher_failed`, side "local": a length is wrong.
 */
export function createOpener(cipher: CipherName, key: Bytes, iv: Bytes, peerRole: Role): Opener {
  checkKey(key, iv);
  switch (cipher) {
    case "aes-cbc":
      return new CbcOpener(key, iv);
    case "aes-gcm":
      return new GcmOpener(key, peerRole);
    case "aes-gcm-siv":
      return new GcmSivOpener(key);
  }
}

function checkKey(key: Bytes, iv: Bytes): void {
  if (key.length !== CIPHER_KEY_BYTES || iv.length !== CIPHER_IV_BYTES) {
    throw new SallyportError(
      "cipher_failed",
      `Cannot make cipher: key and iv have ${key.length} and ${iv.length} bytes, need 32 and 16`,
      { side: "local" },
    );
  }
}
