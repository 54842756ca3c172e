/**
 * E of the SniTun handshake: creates the sealer and the opener of a session from its token (docs/protocols/snitun.md,
 * Handshake). The challenge uses them first, then the multiplexer continues with them.
 *
 * @module
 */

import { type Bytes, sameBytes } from "../bytes/bytes.ts";
import { SallyportError } from "../errors.ts";
import { type Aead, agree, NodeAead } from "./aead.ts";
import { type CbcLibrary, CbcOpener, CbcSealer } from "./cbc_cipher.ts";
import { GcmOpener, GcmSealer } from "./gcm_cipher.ts";
import { GcmSivOpener, GcmSivSealer } from "./gcm_siv_cipher.ts";
import type { RandomSource } from "./random.ts";
import type { CipherName, Opener, Role, Sealer } from "./sealer.ts";
import type { SystemCiphers } from "./system_ciphers.ts";

export type { CipherName, Opener, Role, Sealer };

/** Length of a session's AES key, and of its IV. */
export const CIPHER_KEY_BYTES = 32;
export const CIPHER_IV_BYTES = 16;

/** Implementations used instead of node:crypto's, which takes 3 µs a unit on Deno, most of it for new buffers. */
export interface HeaderLibrary {
  readonly cbc?: CbcLibrary | undefined;
  readonly gcm?: Aead | undefined;
}

/** Those of a system's ciphers that give the same results as node:crypto. */
export function headerLibrary({ aeads, cbc }: SystemCiphers): HeaderLibrary {
  const node = new NodeAead("aes-256-gcm");
  return {
    cbc: cbc !== undefined && chainsAlike(cbc) ? cbc : undefined,
    gcm: aeads.find((aead) => aead.name === node.name && agree(aead, node)),
  };
}

/** Whether two interleaved chains of `cbc` are those of node:crypto, in both directions. */
function chainsAlike(cbc: CbcLibrary): boolean {
  const chains = [1, 2].map((fill) => {
    const [key, iv] = [
      new Uint8Array(CIPHER_KEY_BYTES).fill(fill),
      new Uint8Array(CIPHER_IV_BYTES).fill(fill),
    ];
    return {
      theirs: { sealer: new CbcSealer(key, iv, cbc), opener: new CbcOpener(key, iv, cbc) },
      node: new CbcSealer(key, iv),
    };
  });
  try {
    return [16, 32, 32, 512].every((size) =>
      chains.every(({ theirs, node }) => {
        const plain = new Uint8Array(size).map((_, i) => i);
        const sealed = theirs.sealer.seal(plain, 16);
        return sameBytes(sealed, node.seal(plain, 16)) && sameBytes(theirs.opener.open(sealed), plain);
      })
    );
  } catch {
    return false;
  } finally {
    for (const { node } of chains) node.park();
  }
}

/** Options of {@link createSealer}. */
interface SealerOptions {
  /** Nonces of aes-gcm-siv; for tests. Defaults to a pool of system randomness. */
  readonly random?: RandomSource;
  readonly library?: HeaderLibrary | undefined;
}

/**
 * The sealer for the data that `role`, this side, sends. `key` has 32 bytes, `iv` 16 (used by aes-cbc only); both are
 * copied.
 *
 * @throws {SallyportError} `cipher_failed`, side "local": a length is wrong.
 */
export function createSealer(
  cipher: CipherName,
  key: Bytes,
  iv: Bytes,
  role: Role,
  { random, library }: SealerOptions = {},
): Sealer {
  checkKey(key, iv);
  switch (cipher) {
    case "aes-cbc":
      return new CbcSealer(key, iv, library?.cbc);
    case "aes-gcm":
      return new GcmSealer(key, role, library?.gcm);
    case "aes-gcm-siv":
      return new GcmSivSealer(key, random);
  }
}

/**
 * The opener for the data that `peerRole`, the other side, sends. `key` has 32 bytes, `iv` 16; both are copied.
 *
 * @throws {SallyportError} `cipher_failed`, side "local": a length is wrong.
 */
export function createOpener(
  cipher: CipherName,
  key: Bytes,
  iv: Bytes,
  peerRole: Role,
  library?: HeaderLibrary,
): Opener {
  checkKey(key, iv);
  switch (cipher) {
    case "aes-cbc":
      return new CbcOpener(key, iv, library?.cbc);
    case "aes-gcm":
      return new GcmOpener(key, peerRole, library?.gcm);
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
