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
 * Providers that can't issue these claims have others, such as groups: {@link OidcGrant}s give them scopes.
 *
 * @module
 */
import {
  createLocalJWKSet,
  createRemoteJWKSet,
  type JSONWebKeySet,
  type JWTPayload,
  jwtVerify,
  type JWTVerifyGetKey,
} from "jose";
import { errorMessage } from "../errors.ts";
import { isLocalProvider, OIDC_TIMEOUT_MS, OidcProvider } from "../oidc/provider.ts";
import type { Clock } from "../runtime/port.ts";
import { type Logger, silentLogger } from "../telemetry/log.ts";
import { LIMITS_MEMBER, readAgentClaim } from "../wire/token/agent_claim.ts";
import { allowsPort, coversAny, type Credential, type Credentials } from "./credentials.ts";
import { type Scope, SCOPES } from "./model.ts";

/** Accepted signature algorithms; none based on a shared secret. */
const ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"];
/** Tolerated clock skew of the identity provider. */
export const OIDC_CLOCK_TOLERANCE_S = 30;

/** Gives a scope to everybody whose claim has a value. */
export interface OidcGrant {
  readonly scope: Scope;
  /** The name of a claim, such as `groups`, or a path to it, such as `realm_access.roles`. */
  readonly claim: string;
  /** The claim's value, or one of its values. */
  readonly value: string;
}

/** Options of {@link oidcCredentials}. */
export interface OidcOptions {
  /** The required `iss` of tokens. */
  readonly issuer: string;
  /** The URL of the provider's keys, or the keys themselves. Defaults to the URL in the provider's metadata. */
  readonly jwks?: string | JSONWebKeySet;
  /** The required `aud` of tokens. */
  readonly audience: string;
  readonly clock: Clock;
  /** Scopes by claim, besides those in `sallyport_scopes`. */
  readonly grants?: readonly OidcGrant[];
  /** Logger. Defaults to no logging. */
  readonly log?: Logger;
}

/**
 * Makes credentials from the identity provider's JWTs. A JWT that is not from the provider, or not currently valid, is
 * an unknown credential.
 */
export function oidcCredentials(options: OidcOptions): Credentials {
  const { issuer, audience, clock, grants, log = silentLogger } = options;
  const keys = keysOf(options);
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
        return claimsCredential(payload, grants);
      } catch (error) {
        // Agents' signatures and other JWTs are judged here as well: nothing that needs attention.
        log.debug({ issuer }, `JWT refused: ${errorMessage(error)}`);
        return undefined;
      }
    },
  };
}

function keysOf({ issuer, jwks, clock, log = silentLogger }: OidcOptions): JWTVerifyGetKey {
  if (typeof jwks === "object") return createLocalJWKSet(jwks);
  const provider = new OidcProvider({ issuer, clock, insecure: isLocalProvider(issuer) });
  let url = jwks;
  let keys: JWTVerifyGetKey | undefined;
  return async (header, token) => {
    try {
      const found = jwks ?? (await provider.metadata()).jwks_uri;
      if (found === undefined) throw new Error("it names no keys (jwks_uri)");
      if (keys === undefined || found !== url) {
        keys = createRemoteJWKSet(new URL(found), { timeoutDuration: OIDC_TIMEOUT_MS });
      }
      url = found;
    } catch (error) {
      log.warn({ issuer }, `Cannot find the keys of the identity provider: ${errorMessage(error)}`);
      throw error;
    }
    return await keys(header, token);
  };
}

/** The permissions granted by the claims of a person or a program. */
export function claimsCredential(payload: JWTPayload, grants: readonly OidcGrant[] = []): Credential {
  const { sub, exp, sallyport_hostnames, sallyport_publish, sallyport_scopes, sallyport_tenant } = payload;
  const hostnames = texts(sallyport_hostnames).map((name) => name.toLowerCase());
  const publish = texts(sallyport_publish);
  const wanted = [
    ...texts(sallyport_scopes),
    ...grants.filter(({ claim, value }) => valuesOf(payload, claim).includes(value)).map(({ scope }) =>
      scope
    ),
  ];
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

/** The values of a claim: by its name, which may itself contain dots, or by the path to it. */
function valuesOf(payload: JWTPayload, claim: string): string[] {
  let found: unknown = payload[claim];
  if (found === undefined) {
    found = payload;
    for (const name of claim.split(".")) {
      if (typeof found !== "object" || found === null || !Object.hasOwn(found, name)) return [];
      found = (found as Readonly<Record<string, unknown>>)[name];
    }
  }
  return typeof found === "string" ? [found] : texts(found);
}

function texts(value: unknown): string[] {
  return Array.isArray(value) ? value.filter((item): item is string => typeof item === "string") : [];
}
