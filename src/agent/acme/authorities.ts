/**
 * The certificate authorities that an agent asks if its settings name none.
 *
 * @module
 */

/** Let's Encrypt, which every browser trusts. */
export const DEFAULT_AUTHORITIES: readonly string[] = ["https://acme-v02.api.letsencrypt.org/directory"];
