/**
 * Sallyport: a tunnel edge that speaks SniTun, on Deno and on Bun.
 *
 * @module
 */
export { VERSION } from "./src/version.ts";
export { type ErrorCode, errorCode, SallyportError, type Side } from "./src/errors.ts";
