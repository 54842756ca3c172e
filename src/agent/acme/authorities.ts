/**
 * The authorities that are asked where none is set.
 *
 * @module
 */

/** Let's Encrypt, whose certificates every browser believes. */
export const DEFAULT_AUTHORITIES: readonly string[] = ["https://acme-v02.api.letsencrypt.org/directory"];
