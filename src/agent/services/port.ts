/**
 * The port between the table of services and the connectors for their visitors: passthrough (passthrough.ts), or TLS
 * termination in the agent (src/agent/tls).
 *
 * @module
 */
import type { SallyportError } from "../../errors.ts";
import type { ByteStream, Conn, Runtime } from "../../runtime/port.ts";
import type { Logger } from "../../telemetry/log.ts";
import type { ByteMeter } from "../../transport/splice.ts";
import type { Connector } from "../connector.ts";
import type { Service } from "./service.ts";
import type { Target } from "./target.ts";

/** Takes the outcome of {@link Targets.connect}: one of the two is called once, later than the call itself. */
export interface TargetHandler {
  /** The connection must be attached before the call returns. */
  reached(conn: Conn, target: Target): void;
  /** As {@link Targets.dial} rejects. */
  unreachable(error: SallyportError): void;
}

/** A connection to one of a service's targets that is being established. */
export interface TargetAttempt {
  /**
   * Gives a target up that was tried for {@link DIAL_TIMEOUT_MS}, and tries the next one. To be called by whoever
   * waits, after that time.
   *
   * @returns milliseconds until the next call; 0 if the outcome is known
   */
  late(): number;
}

/** The targets of one service, and the choice among them. */
export interface Targets {
  /** All targets, healthy ones first, each group in the service's order. Never empty. */
  candidates(): readonly Target[];
  /** Reports the outcome of a connection or request to a target; an `error` moves it behind the others for a while. */
  report(target: Target, error?: unknown): void;
  /**
   * Connects to the first candidate that answers, over TCP or a unix socket. Rejects with `endpoint_unreachable`,
   * naming every target tried, after reporting and logging it. Skips file targets.
   *
   * @param peerSpeaks as in `ListenOptions`
   */
  dial(peerSpeaks?: boolean): Promise<{ readonly conn: Conn; readonly target: Target }>;
  /** As {@link dial}, without a promise and a timer, for those who connect for each visitor. */
  connect(handler: TargetHandler, peerSpeaks?: boolean): TargetAttempt;
}

/** A line of a service's access log: a connection, or a request if the agent sees requests. */
export interface AccessEntry {
  /** The name that the visitor requested. */
  readonly name: string;
  readonly visitor: string;
  readonly target?: string;
  readonly bytesIn: number;
  readonly bytesOut: number;
  readonly durationMs: number;
  /** Only for requests. */
  readonly method?: string;
  readonly path?: string;
  readonly status?: number;
  /** The reason for an abnormal end. */
  readonly error?: string;
}

/** Options of a service's connector. */
export interface ServiceParts {
  readonly runtime: Runtime;
  readonly log: Logger;
  readonly targets: Targets;
  /** Counts transferred bytes. */
  readonly meter?: ByteMeter;
  /** Records a failure for `agent status`; logging is left to the caller. */
  failed(error: unknown): void;
  /** Writes a line to the service's access log; absent if it has none. */
  readonly accessLog?: (entry: AccessEntry) => void;
}

/** A visitor that is refused. */
export interface VisitorRefusal {
  readonly stream: ByteStream;
  /** A TLS alert. */
  readonly alert: number;
  refused(): void;
}

/** The connector for the visitors of one service. */
export interface ServiceConnector {
  /**
   * Takes a visitor's unread stream: its first byte is that of the ClientHello. The stream's `caller.serverName` is
   * canonical and one of the service's names (or covered by its wildcard). The access list and the limits have been
   * applied.
   */
  readonly connect: Connector;
  /**
   * Takes the stream of a visitor that the access list or a limit refuses: sends the alert and calls `refused`, unless the
   * visitor is an authority that validates a name, which may come from any address. Absent if no authority is expected.
   */
  refuse?(refusal: VisitorRefusal): void;
  /** Its certificates, if TLS is terminated here. */
  certificates?(): readonly CertificateFacts[];
  /** The service was removed or changed: no new streams follow; open ones may continue for `graceMs`. */
  close?(graceMs: number): Promise<void> | void;
}

/** A certificate's status in `agent status`. */
export interface CertificateFacts {
  readonly names: readonly string[];
  /** "acme", "file", "self-signed". */
  readonly source: string;
  readonly issuer?: string;
  /** Milliseconds since 1970. */
  readonly notBeforeMs?: number;
  /** Milliseconds since 1970. */
  readonly notAfterMs?: number;
  /** Why there is none, or why renewal failed. */
  readonly error?: string;
}

/** Creates the connectors of services whose TLS is terminated in the agent; src/agent/tls implements it. */
export interface ServiceConnectors {
  /** Called once for each service with {@link endsTlsHere}, and again when it changes. */
  terminating(service: Service, parts: ServiceParts): ServiceConnector;
  /** The agent is closing. */
  close(): void;
}
