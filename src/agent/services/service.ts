/**
 * Services: what an agent offers under which names. Plain data, so that two versions of a file can be compared.
 *
 * @module
 */
import { VISITOR_IDLE_TIMEOUT_MS } from "../../transport/splice.ts";
import { isWildcard } from "../../wire/wildcard.ts";
import type { Target } from "./target.ts";

/**
 * Where the visitor's TLS is terminated: at the target (`passthrough`), or in the agent with a certificate from this
 * source.
 */
export type TlsMode = "passthrough" | "acme" | "self-signed" | CertificateFiles;

/** A certificate chain and its key, in PEM files. */
export interface CertificateFiles {
  readonly certificateFile: string;
  readonly keyFile: string;
}

/** How a target is checked. A failing target gets no visitors as long as another one passes. */
export interface HealthCheck {
  /** "tcp": it accepts a connection. "http": it answers a GET with a status from 200 to 399, or `status`. */
  readonly kind: "tcp" | "http";
  /** For "http". Defaults to `/`. */
  readonly path?: string;
  /** For "http": the only status that passes. */
  readonly status?: number;
  readonly intervalMs: number;
  readonly timeoutMs: number;
}

/** A service's limits; an absent one is unlimited. */
export interface ServiceLimits {
  /** Concurrent visitors' connections. */
  readonly connections?: number;
  /** The same, from one address (an IPv6 /64 counts as one). */
  readonly connectionsPerVisitor?: number;
  /** For HTTP: largest request body in bytes. */
  readonly requestBodyBytes?: number;
}

/** Who may use an HTTP service; checked on this device. */
export interface ServiceAuth {
  readonly basicAuth?: BasicAuthSettings;
  readonly oidc?: OidcSettings;
}

/** User names and the hashes of their passwords. */
export interface BasicAuthSettings {
  readonly realm?: string;
  readonly users: Readonly<Record<string, string>>;
}

/** An OpenID Connect client. */
export interface OidcSettings {
  readonly issuer: string;
  readonly clientId: string;
  readonly clientSecretFile?: string;
  readonly allowedMails?: readonly string[];
  readonly allowedGroups?: readonly string[];
  readonly sessionSeconds?: number;
}

/** One service of an agent. */
export interface Service {
  /** Canonical names; logs use the first one. `*.home.example.org` covers one label. At least one. */
  readonly names: readonly string[];
  /** Tried in this order, those that pass their health check first. At least one. */
  readonly targets: readonly Target[];
  readonly tls: TlsMode;
  /** The version of the PROXY header in front of each connection to a target; 0 for none. */
  readonly proxyProtocol: 0 | 1 | 2;
  /** Networks of permitted visitors; empty permits all. */
  readonly allow: readonly string[];
  /** Networks of refused visitors, even if `allow` includes them. */
  readonly block: readonly string[];
  readonly limits: ServiceLimits;
  /** When absent, targets are judged only by visitors' connections. */
  readonly healthCheck?: HealthCheck;
  /** Headers set on requests to the target, by name in lower case; an empty value removes one. */
  readonly requestHeaders: Readonly<Record<string, string>>;
  /** The same, on responses to visitors. */
  readonly responseHeaders: Readonly<Record<string, string>>;
  readonly idleTimeoutMs: number;
  readonly auth?: ServiceAuth;
  /** Access log: a file, or "-" for standard output. Defaults to none. */
  readonly accessLog?: string;
  /** Whether other agents may serve the same names at the same time, if the token allows it. */
  readonly shared: boolean;
}

/** A service's defaults. */
export function serviceDefaults(
  given: Pick<Service, "names" | "targets"> & Partial<Service>,
): Service {
  const tls = given.tls ?? defaultTls(given.targets, given.names);
  return {
    tls,
    proxyProtocol: 0,
    allow: [],
    block: [],
    limits: {},
    requestHeaders: {},
    responseHeaders: {},
    idleTimeoutMs: VISITOR_IDLE_TIMEOUT_MS,
    shared: false,
    ...given,
  };
}

/**
 * The default TLS mode of a service: `HOST:PORT`, `tcp://` and `https://` get the visitor's TLS unchanged. For all
 * others it is terminated here, with a self-signed certificate for names that no authority certifies, otherwise by
 * ACME.
 */
export function defaultTls(targets: readonly Target[], names: readonly string[]): TlsMode {
  const untouched = targets.every((target) =>
    target.protocol === "tcp" || (target.protocol === "https" && target.verify)
  );
  if (untouched) return "passthrough";
  return names.every(isLocalName) ? "self-signed" : "acme";
}

/** Whether the visitor's TLS is terminated in the agent. */
export function endsTlsHere(service: Service): boolean {
  return service.tls !== "passthrough";
}

/** Names that no public authority certifies (RFC 6761, RFC 2606, RFC 6762 and RFC 8375). */
export function isLocalName(name: string): boolean {
  const host = isWildcard(name) ? name.slice(2) : name;
  return !host.includes(".") ||
    /(^|\.)(localhost|local|test|invalid|example|internal|home\.arpa)$/.test(host);
}
