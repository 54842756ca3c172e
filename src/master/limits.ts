/**
 * How much one credential may ask of the session master, unless its settings say otherwise.
 *
 * @module
 */

/**
 * Tokens for one name by one credential in a minute, before 429. A fleet that comes back with one key asks once or twice
 * for each name, so it doesn't meet the limit.
 */
export const TOKENS_PER_MINUTE_MAX = 60;
/** Requests to the management API by one credential in a minute, before 429. */
export const API_REQUESTS_PER_MINUTE_MAX = 3_000;
