/**
 * Connectors: what an agent does with a visitor's stream.
 *
 * @module
 */
import { type Conn, DIAL_TIMEOUT_MS, type Runtime } from "../runtime/port.ts";
import { SallyportError } from "../errors.ts";
import { type Logger, silentLogger } from "../telemetry/log.ts";
import { LogSampler } from "../telemetry/log_sampler.ts";
import type { SessionStream } from "../transport/port.ts";
import { type ByteMeter, idleTicks, splice, VISITOR_IDLE_TIMEOUT_MS } from "../transport/splice.ts";
import { AlertDescription } from "../wire/tls/tls_alert.ts";
import type { AccessList } from "./access_list.ts";
import { dialFault } from "./services/targets.ts";
import { turnAway } from "./turn_away.ts";
import { DEMAND_IDLE_TICKS } from "../tunnel/requests/tcp_proxy.ts";

/**
 * Handles a visitor's stream: attaches a handler, now or later (the stream stays unread until then), or aborts it. An
 * exception or rejection ends the stream.
 */
export type Connector = (stream: SessionStream) => void | Promise<void>;

/** Options of {@link tcpConnector}. */
export interface TcpConnectorOptions {
  /** The runtime. */
  readonly runtime: Runtime;
  /** The endpoint. */
  readonly host: string;
  /** The endpoint's port. */
  readonly port: number;
  /** Permitted visitors. Defaults to all. */
  readonly accessList?: AccessList;
  /** Logger. Defaults to no logging. */
  readonly log?: Logger;
  /** A visitor with no traffic in either direction is disconnected after this time. Defaults to an hour. */
  readonly idleTimeoutMs?: number;
  /** Counts transferred bytes. */
  readonly meter?: ByteMeter;
  /**
   * The streams carry any protocol, not TLS, such as those of a public port. A visitor that can't be served gets no
   * alert, and an idle stream is kept for two hours, to suit SSH.
   */
  readonly plain?: boolean;
}

/**
 * Forwards each stream to a TCP endpoint. A visitor who isn't permitted, or for whom the endpoint can't be reached,
 * gets a TLS alert (`access_denied`, `internal_error`); with `plain`, the stream is just closed.
 */
export function tcpConnector(options: TcpConnectorOptions): Connector {
  const { runtime, host, port, accessList, meter, plain = false } = options;
  const { idleTimeoutMs = VISITOR_IDLE_TIMEOUT_MS } = options;
  const log = options.log ?? silentLogger;
  const sampler = new LogSampler({ log, clock: runtime.clock });
  return async (stream) => {
    const visitor = stream.caller.address;
    if (accessList !== undefined && !accessList.permits(visitor)) {
      sampler.info("access", { visitor, reason: "access_denied" }, "visitor is refused by the access list");
      return plain ? stream.abort() : turnAway(stream, AlertDescription.access_denied);
    }
    let conn: Conn;
    try {
      conn = await runtime.dial({ host, port, timeoutMs: DIAL_TIMEOUT_MS });
    } catch (cause) {
      const error = new SallyportError(
        "endpoint_unreachable",
        `Cannot reach endpoint ${dialFault(`${host}:${port}`, cause)}`,
        { side: "local", retryable: true, cause },
      );
      const endpoint = `${host}:${port}`;
      sampler.warn("endpoint", { visitor, endpoint, reason: error.code }, error.message);
      return plain ? stream.abort(error) : turnAway(stream, AlertDescription.internal_error);
    }
    log.debug({ visitor, endpoint: `${host}:${port}` }, "visitor connected");
    splice({
      visitorSide: stream,
      agentSide: conn,
      stream,
      clock: runtime.clock,
      memory: runtime.memory,
      meter,
      idleTicks: plain ? DEMAND_IDLE_TICKS : idleTicks(idleTimeoutMs),
      done: (error) => log.debug({ visitor, endpoint: `${host}:${port}`, error }, "visitor left"),
    });
  };
}
