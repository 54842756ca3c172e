/**
 * Services: what an agent offers under which names. Plain data, so that two readings of a file can be compared.
 *
 * @module
 */
import { VISITOR_IDLE_TIMEOUT_MS } from "../../transport/splice.ts";
import { isWildcard } from "../../wire/wildcard.ts";
import type { Target } from "./target.ts";

/** Where the visitor's TLS ends: at the target (`passthrough`), else in the agent, with a certificate from there. */
export type TlsMode = "passthrough" | "acme" | "self-signed" | CertificateFiles;

/** A certificate chain and its key, in PEM files. */
export interface CertificateFiles {
  readonly certificateFile: string;
  readonly keyFile: string;
}

/** How a target is tested. A target that fails gets no visitors as long as another one passes. */
export interface HealthCheck {
  /** "tcp": it accepts a connection. "http": it answers a GET with a status from 200 to 399, or `status`. */
  readonly kind: "tcp" | "http";
  /** For "http"; `/` when absent. */
  readonly path?: string;
  /** For "http": the one status that counts as good. */
  readonly status?: number;
  readonly intervalMs: number;
  readonly timeoutMs: number;
}

/** How much a service takes; what is absent has no limit of its own. */
export interface ServiceLimits {
  /** Visitors' connections at a time. */
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
  /** Canonical names; the first one is what logs call it by. `*.home.example.org` covers one label. At least one. */
  readonly names: readonly string[];
  /** Tried in this order, those that pass their health check first. At least one. */
  readonly targets: readonly Target[];
  readonly tls: TlsMode;
  /** The version of the PROXY header in front of each connection to a target; 0 for none. */
  readonly proxyProtocol: 0 | 1 | 2;
  /** Networks of visitors that may come; everybody where empty. */
  readonly allow: readonly string[];
  /** Networks of visitors that may not, even where `allow` names them. */
  readonly block: readonly string[];
  readonly limits: ServiceLimits;
  /** Targets are only judged by visitors' connections when absent. */
  readonly healthCheck?: HealthCheck;
  /** Headers set on requests to the target, by name in lower case; an empty value removes one. */
  readonly requestHeaders: Readonly<Record<string, string>>;
  /** The same, on responses to visitors. */
  readonly responseHeaders: Readonly<Record<string, string>>;
  readonly idleTimeoutMs: number;
  readonly auth?: ServiceAuth;
  /** Where its access log goes: a file, or "-" for standard output; none when absent. */
  readonly accessLog?: string;
  /** Other agents may serve the same names at the same time, where the token allows it. */
  readonly shared: boolean;
}

/** What a service is made of where nothing else is said. */
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
 * The TLS mode of a service that names none: `HOST:PORT`, `tcp://` and `https://` get the visitor's TLS untouched; for all
 * others it ends here, with a certificate of our own for names that no authority gives one for, else by ACME.
 */
export function defaultTls(targets: readonly Target[], names: readonly string[]): TlsMode {
  const untouched = targets.every((target) =>
    target.protocol === "tcp" || (target.protocol === "https" && target.verify)
  );
  if (untouched) return "passthrough";
  return names.every(isLocalName) ? "self-signed" : "acme";
}

/** Whether the visitor's TLS ends in the agent. */
export function endsTlsHere(service: Service): boolean {
  return service.tls !== "passthrough";
}

/** Names that no public authority knows (RFC 6761, RFC 2606, RFC 6762 and RFC 8375). */
export function isLocalName(name: string): boolean {
  const host = isWildcard(name) ? name.slice(2) : name;
  return !host.includes(".") ||
    /(^|\.)(localhost|local|test|invalid|example|internal|home\.arpa)$/.test(host);
}
