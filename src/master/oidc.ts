/**
 * JWTs of the operator's identity provider as credentials: their claims specify hostnames, public ports, scopes and
 * limits.
 *
 * | claim | |
 * | --- | --- |
 * | `sallyport_hostnames` | names allowed in tokens: exact ones, `*.NAME`, or `*` |
 * | `sallyport_publish` | public ports allowed in tokens |
 * | `sallyport_scopes` | scopes in the management API: read, admin |
 * | `sallyport_tenant` | the tenant it can see; defaults to all |
 * | `sallyport_limits` | limits of tokens for names that belong to no agent, as in `/v1/agents` |
 *
 * @module
 */
import { createLocalJWKSet, createRemoteJWKSet, type JSONWebKeySet, type JWTPayload, jwtVerify } from "jose";
import type { Clock } from "../runtime/port.ts";
import { LIMITS_MEMBER, readAgentClaim } from "../wire/token/agent_claim.ts";
import { allowsPort, coversAny, type Credential, type Credentials } from "./credentials.ts";
import { SCOPES } from "./model.ts";

/** Accepted signature algorithms; none based on a shared secret. */
const ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"];
/** Tolerated clock skew of the identity provider. */
export const OIDC_CLOCK_TOLERANCE_S = 30;
/** Timeout for fetching the identity provider's keys. */
export const OIDC_TIMEOUT_MS = 5_000;

/** Options of {@link oidcCredentials}. */
export interface OidcOptions {
  /** The required `iss` of tokens. */
  readonly issuer: string;
  /** The URL of the provider's keys, or the keys themselves. */
  readonly jwks: string | JSONWebKeySet;
  /** The required `aud` of tokens. */
  readonly audience: string;
  readonly clock: Clock;
}

/**
 * Makes credentials from the identity provider's JWTs. A JWT that is not from the provider, or not currently valid, is
 * an unknown credential.
 */
export function oidcCredentials({ issuer, jwks, audience, clock }: OidcOptions): Credentials {
  const keys = typeof jwks === "string"
    ? createRemoteJWKSet(new URL(jwks), { timeoutDuration: OIDC_TIMEOUT_MS })
    : createLocalJWKSet(jwks);
  return {
    async find(bearer): Promise<Credential | undefined> {
      if (bearer.split(".").length !== 3) return undefined;
      try {
        const { payload } = await jwtVerify(bearer, keys, {
          issuer,
          audience,
          algorithms: ALGORITHMS,
          clockTolerance: OIDC_CLOCK_TOLERANCE_S,
          currentDate: new Date(clock.wallMs()),
          requiredClaims: ["sub", "exp"],
        });
        return claimsCredential(payload);
      } catch {
        return undefined;
      }
    },
  };
}

/** The permissions granted by the claims of a person or a program. */
export function claimsCredential(payload: JWTPayload): Credential {
  const { sub, exp, sallyport_hostnames, sallyport_publish, sallyport_scopes, sallyport_tenant } = payload;
  const hostnames = texts(sallyport_hostnames).map((name) => name.toLowerCase());
  const publish = texts(sallyport_publish);
  const wanted = texts(sallyport_scopes);
  const { limits } = readAgentClaim({ [LIMITS_MEMBER]: payload.sallyport_limits });
  return {
    id: `oidc:${sub}`,
    scopes: SCOPES.filter((scope) => wanted.includes(scope)),
    ...typeof sallyport_tenant === "string" ? { tenant: sallyport_tenant } : {},
    claim: { limits },
    ...exp === undefined ? {} : { expiresAtMs: exp * 1000 },
    mayServe: (hostname) => coversAny(hostnames, hostname),
    mayPublish: (port) => allowsPort(publish, port),
  };
}

function texts(value: unknown): string[] {
  return Array.isArray(value) ? value.filter((item): item is string => typeof item === "string") : [];
}
