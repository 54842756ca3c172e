/**
 * Sign-in at an OpenID Connect provider: authorization code flow with PKCE (RFC 7636). What is stored about a user
 * afterwards is up to the caller.
 *
 * @module
 */
import * as oauth from "oauth4webapi";
import type { Clock, Fetch } from "../runtime/port.ts";
import { OidcProvider } from "./provider.ts";

/** Options of {@link SignIn}. */
interface SignInOptions {
  readonly issuer: string;
  readonly clientId: string;
  /** Absent for a public client. */
  readonly clientSecret?: string;
  readonly clock: Clock;
  /** Allows plain HTTP to the provider; for tests. */
  readonly insecure?: boolean;
  /** Sends requests to the provider. Defaults to the platform's. */
  readonly fetch?: Fetch;
}

/** Secrets to keep between the redirect to the provider and the callback. */
interface PendingSignIn {
  readonly state: string;
  readonly nonce: string;
  readonly verifier: string;
}

/** The ID token's claims about the user. */
export type IdentityClaims = oauth.IDToken;

/** Signs people in at one provider. */
export class SignIn {
  readonly #provider: OidcProvider;
  readonly #clientId: string;
  readonly #clock: Clock;
  readonly #clientAuth: oauth.ClientAuth;

  constructor(options: SignInOptions) {
    const { clientId, clientSecret, clock } = options;
    this.#provider = new OidcProvider(options);
    this.#clientId = clientId;
    this.#clock = clock;
    this.#clientAuth = clientSecret === undefined ? oauth.None() : oauth.ClientSecretPost(clientSecret);
  }

  /** Fetches the provider's metadata, at most once an hour. Rejects if it is unreachable. */
  async discover(): Promise<void> {
    await this.#find();
  }

  /** The URL to redirect the user to. Rejects if the provider is unreachable. */
  async begin(
    redirectUri: string,
    scope: string,
  ): Promise<{ readonly url: string; readonly pending: PendingSignIn }> {
    const server = await this.#find();
    const pending = {
      state: oauth.generateRandomState(),
      nonce: oauth.generateRandomNonce(),
      verifier: oauth.generateRandomCodeVerifier(),
    };
    const url = new URL(server.authorization_endpoint as string);
    const query = {
      client_id: this.#clientId,
      redirect_uri: redirectUri,
      response_type: "code",
      scope,
      state: pending.state,
      nonce: pending.nonce,
      code_challenge: await oauth.calculatePKCECodeChallenge(pending.verifier),
      code_challenge_method: "S256",
    };
    for (const [name, value] of Object.entries(query)) url.searchParams.set(name, value);
    return { url: url.href, pending };
  }

  /** Identifies the user that the provider has redirected back. Rejects if the provider doesn't vouch for anyone. */
  async finish(callback: URL, redirectUri: string, pending: PendingSignIn): Promise<IdentityClaims> {
    const server = await this.#find();
    const client = this.#client;
    const params = oauth.validateAuthResponse(server, client, callback, pending.state);
    const answer = await oauth.authorizationCodeGrantRequest(
      ...[server, client, this.#clientAuth, params, redirectUri, pending.verifier] as const,
      this.#provider.requestOptions,
    );
    const result = await oauth.processAuthorizationCodeResponse(server, client, answer, {
      expectedNonce: pending.nonce,
      requireIdToken: true,
    });
    // The ID token came over TLS from the provider itself; its signature is verified nonetheless.
    await oauth.validateApplicationLevelSignature(server, answer, this.#provider.requestOptions);
    const claims = oauth.getValidatedIdTokenClaims(result);
    if (claims === undefined) throw new Error("the provider gave no ID token");
    return claims;
  }

  /** The client, with the distance of our clock from the machine's, by which the library would judge tokens. */
  get #client(): oauth.Client {
    const skewS = Math.round((this.#clock.wallMs() - Date.now()) / 1000);
    return { client_id: this.#clientId, [oauth.clockSkew]: skewS };
  }

  async #find(): Promise<oauth.AuthorizationServer> {
    const server = await this.#provider.metadata();
    if (server.authorization_endpoint === undefined) throw new Error("it names no authorization endpoint");
    return server;
  }
}
