/**
 * The metadata that an OpenID Connect provider publishes (OpenID Connect Discovery 1.0 §4), fetched on demand.
 *
 * @module
 */
import * as oauth from "oauth4webapi";
import type { Clock, Fetch } from "../runtime/port.ts";

/** Timeout for an OpenID Connect provider's response. */
export const OIDC_TIMEOUT_MS = 10_000;
/** An OpenID Connect provider's metadata is fetched again after this time. */
export const PROVIDER_REFRESH_MS = 3_600_000;
/** Delay before a failed refresh of an OpenID Connect provider's metadata is repeated. */
export const PROVIDER_RETRY_MS = 60_000;

/** Options of {@link OidcProvider}. */
interface OidcProviderOptions {
  readonly issuer: string;
  readonly clock: Clock;
  /** Allows plain HTTP to the provider. */
  readonly insecure?: boolean;
  /** Sends requests to the provider. Defaults to the platform's. */
  readonly fetch?: Fetch;
}

interface Metadata {
  readonly server: oauth.AuthorizationServer;
  /** When it is fetched again. */
  readonly freshUntilMs: number;
}

/** A provider, by its issuer. */
export class OidcProvider {
  readonly #options: OidcProviderOptions;
  #metadata: Promise<Metadata> | undefined;

  constructor(options: OidcProviderOptions) {
    this.#options = options;
  }

  /** The provider's metadata, refreshed every hour. Rejects if it has never been reachable. */
  async metadata(): Promise<oauth.AuthorizationServer> {
    const known = await this.#metadata?.catch(() => undefined);
    const isFresh = known !== undefined && this.#options.clock.nowMs() < known.freshUntilMs;
    if (!isFresh) this.#metadata = this.#fetch(known?.server);
    return (await this.#metadata!).server;
  }

  async #fetch(known: oauth.AuthorizationServer | undefined): Promise<Metadata> {
    const { clock, issuer } = this.#options;
    const url = new URL(issuer);
    try {
      const answer = await oauth.discoveryRequest(url, this.requestOptions);
      const server = await oauth.processDiscoveryResponse(url, answer);
      return { server, freshUntilMs: clock.nowMs() + PROVIDER_REFRESH_MS };
    } catch (error) {
      // While the provider is away, what it said before still holds.
      if (known === undefined) throw error;
      return { server: known, freshUntilMs: clock.nowMs() + PROVIDER_RETRY_MS };
    }
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
