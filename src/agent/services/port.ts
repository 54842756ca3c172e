/**
 * The port between the table of services and what carries their visitors: bytes passed through (passthrough.ts), or TLS
 * that ends in the agent (src/agent/tls).
 *
 * @module
 */
import type { Conn, Runtime } from "../../runtime/port.ts";
import type { Logger } from "../../telemetry/log.ts";
import type { ByteMeter } from "../../transport/splice.ts";
import type { Connector } from "../connector.ts";
import type { Service } from "./service.ts";
import type { Target } from "./target.ts";

/** The targets of one service: which of them to use now. */
export interface Targets {
  /** All of them, those that are well first, each group in the order of the service. Never empty. */
  candidates(): readonly Target[];
  /** A connection or a request to a target came to this; an `error` puts it behind the others for a while. */
  report(target: Target, error?: unknown): void;
  /**
   * Connects to the first candidate that answers, over TCP or a unix socket. Rejects with `endpoint_unreachable`,
   * naming every target that was tried, and has reported and logged it then. Skips targets of files.
   */
  dial(): Promise<{ readonly conn: Conn; readonly target: Target }>;
}

/** A line of a service's access log: a connection, or a request where the agent sees them. */
export interface AccessEntry {
  /** The name that the visitor asked for. */
  readonly name: string;
  readonly visitor: string;
  readonly target?: string;
  readonly bytesIn: number;
  readonly bytesOut: number;
  readonly durationMs: number;
  /** Requests alone. */
  readonly method?: string;
  readonly path?: string;
  readonly status?: number;
  /** Why it ended where that wasn't in order. */
  readonly error?: string;
}

/** What the connector of a service works with. */
export interface ServiceParts {
  readonly runtime: Runtime;
  readonly log: Logger;
  readonly targets: Targets;
  /** Counts the bytes that pass. */
  readonly meter?: ByteMeter;
  /** Notes a failure for `agent status`; the log is the caller's own business. */
  failed(error: unknown): void;
  /** Writes a line to the service's access log; absent where it has none. */
  readonly accessLog?: (entry: AccessEntry) => void;
}

/** What carries the visitors of one service. */
export interface ServiceConnector {
  /**
   * Takes a visitor's stream, of which nothing has been read: the first byte is that of its ClientHello. The stream's
   * `caller.serverName` is canonical and one of the service's names (or covered by its wildcard). The access list and
   * the limits have been applied.
   */
  readonly connect: Connector;
  /** The service is gone or has changed: no new stream comes; those that are open may go on for `graceMs`. */
  close?(graceMs: number): Promise<void> | void;
}

/** A certificate as `agent status` shows it. */
export interface CertificateFacts {
  readonly names: readonly string[];
  /** "acme", "file", "self-signed". */
  readonly source: string;
  readonly issuer?: string;
  /** Milliseconds since 1970. */
  readonly notBeforeMs?: number;
  /** Milliseconds since 1970. */
  readonly notAfterMs?: number;
  /** Why there is none, or why it couldn't be renewed. */
  readonly error?: string;
}

/** Makes the connectors of services whose TLS ends in the agent; src/agent/tls implements it. */
export interface ServiceConnectors {
  /** Called once for each service with {@link endsTlsHere}, and again for one that has changed. */
  terminating(service: Service, parts: ServiceParts): ServiceConnector;
  /** The certificates of all services that were asked for and haven't been closed. */
  certificates(): readonly CertificateFacts[];
  /** The agent is closing. */
  close(): Promise<void>;
}
