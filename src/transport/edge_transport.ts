/**
 * The port of an edge's transports: how agents come in. Each transport has one implementation, in its folder; an edge has
 * a table of them.
 *
 * @module
 */
import type { Address, Listener, Runtime } from "../runtime/port.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import type { AcceptedConnection, AgentAdmission } from "./admission.ts";

/** What an edge gives its transports. */
export interface EdgeContext {
  readonly runtime: Runtime;
  readonly metrics: Metrics;
  /** Decides about this transport's agents. */
  readonly admission: AgentAdmission;
}

/** A transport as an edge has it. It takes connections from the edge's TCP ports, or opens sockets of its own. */
export interface EdgeTransport {
  /** Its name in settings, logs, metrics and tokens. */
  readonly name: string;
  /**
   * Over TCP: whether a connection that begins with this byte may be one of its agents'. Those of the TCP ports that all
   * share are offered to the transports in their order.
   */
  takes?(firstByte: number): boolean;
  /** Over TCP: takes a connection. */
  accept?(connection: AcceptedConnection, context: EdgeContext): void;
  /** Over sockets of its own: opens one; closing the listener ends the sessions on it. */
  listen?(address: Address, context: EdgeContext): Promise<Listener>;
  /** Takes no more connections; gives those that carry no session `graceMs` to finish. */
  close?(graceMs: number): Promise<void>;
}
