/**
 * The port of an edge's transports, which accept agents. Each transport has one implementation, in its folder; an edge
 * has a table of them.
 *
 * @module
 */
import type { Address, Listener, Runtime } from "../runtime/port.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import type { AcceptedConnection, AgentAdmission } from "./admission.ts";

/** Context that an edge gives its transports. */
export interface EdgeContext {
  readonly runtime: Runtime;
  readonly metrics: Metrics;
  /** Admission control for this transport's agents. */
  readonly admission: AgentAdmission;
}

/** A transport at the edge. It takes connections from the edge's TCP ports, or opens its own sockets. */
export interface EdgeTransport {
  /** Its name in settings, logs, metrics and tokens. */
  readonly name: string;
  /**
   * Over TCP: whether a connection that begins with this byte may be from one of its agents. Connections at shared TCP
   * ports are offered to the transports in order.
   */
  takes?(firstByte: number): boolean;
  /** Over TCP: takes a connection. */
  accept?(connection: AcceptedConnection, context: EdgeContext): void;
  /** Opens one of its own sockets; closing the listener ends the sessions on it. */
  listen?(address: Address, context: EdgeContext): Promise<Listener>;
  /** Stops accepting connections; gives those without a session `graceMs` to finish. */
  close?(graceMs: number): Promise<void>;
}
