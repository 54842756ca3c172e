/**
 * The metadata that an OpenID Connect provider publishes (OpenID Connect Discovery 1.0 §4), fetched on demand.
 *
 * @module
 */
import * as oauth from "oauth4webapi";
import type { Clock, Fetch } from "../runtime/port.ts";

/** Timeout for an OpenID Connect provider's response. */
export const OIDC_TIMEOUT_MS = 10_000;
/** An OpenID Connect provider's metadata and keys are fetched again after this time. */
const PROVIDER_REFRESH_MS = 3600_000;

/** Options of {@link OidcProvider}. */
interface OidcProviderOptions {
  readonly issuer: string;
  readonly clock: Clock;
  /** Allows plain HTTP to the provider. */
  readonly insecure?: boolean;
  /** Sends requests to the provider. Defaults to the platform's. */
  readonly fetch?: Fetch;
}

/** A provider, by its issuer. */
export class OidcProvider {
  readonly #options: OidcProviderOptions;
  #metadata: Promise<{ readonly server: oauth.AuthorizationServer; readonly fetchedMs: number }> | undefined;

  constructor(options: OidcProviderOptions) {
    this.#options = options;
  }

  /** The provider's metadata, at most an hour old. Rejects if it is unreachable. */
  async metadata(): Promise<oauth.AuthorizationServer> {
    const { clock } = this.#options;
    const known = await this.#metadata?.catch(() => undefined);
    if (known !== undefined && clock.nowMs() - known.fetchedMs < PROVIDER_REFRESH_MS) return known.server;
    const issuer = new URL(this.#options.issuer);
    this.#metadata = oauth.discoveryRequest(issuer, this.requestOptions)
      .then((answer) => oauth.processDiscoveryResponse(issuer, answer))
      .then((server) => ({ server, fetchedMs: clock.nowMs() }));
    return (await this.#metadata).server;
  }

  /** Options of requests to the provider. */
  get requestOptions() {
    const { fetch } = this.#options;
    return {
      ...fetch === undefined ? {} : {
        [oauth.customFetch]: (url: string, init: RequestInit) => fetch(new Request(url, init)),
      },
      signal: () => AbortSignal.timeout(OIDC_TIMEOUT_MS),
      ...this.#options.insecure === true ? { [oauth.allowInsecureRequests]: true } : {},
    };
  }
}

/** Whether a provider is on this machine, where plain HTTP is harmless. */
export function isLocalProvider(issuer: string): boolean {
  return /^http:\/\/(localhost|127(\.\d+){3}|\[::1\])(:\d+)?(\/|$)/.test(issuer);
}
