/**
 * Rate limits for one credential at the session master. The settings can override them.
 *
 * @module
 */

/**
 * Tokens for one name by one credential per minute, before 429. A fleet that reconnects with one key requests one or
 * two tokens for each name, so it doesn't reach the limit.
 */
export const TOKENS_PER_MINUTE_MAX = 60;
/** Requests to the management API by one credential per minute, before 429. */
export const API_REQUESTS_PER_MINUTE_MAX = 3_000;
