/**
 * Ciphers of a system library, which a runtime loads where its own are slow.
 *
 * @module
 */

import type { Aead } from "./aead.ts";
import type { CbcLibrary } from "./cbc_cipher.ts";

/** The ciphers. Their users compare them with others before the first use. */
export interface SystemCiphers {
  readonly aeads: readonly Aead[];
  readonly cbc: CbcLibrary | undefined;
}

/** For runtimes that load no library. */
export const NO_SYSTEM_CIPHERS: SystemCiphers = { aeads: [], cbc: undefined };
