/**
 * The connecting side: authenticates and gets a tunnel.
 *
 * @module
 */
import { internalError, type SallyportError } from "../../errors.ts";
import type { Clock } from "../../runtime/port.ts";
import { reportFault } from "../../telemetry/faults.ts";
import type { Logger } from "../../telemetry/log.ts";
import type { Metrics } from "../../telemetry/metrics.ts";
import { proveSelf } from "../auth/negotiate.ts";
import type { TunnelCredential } from "../auth/port.ts";
import type { Carrier } from "../carriers/carrier.ts";
import type { Router } from "../requests/router.ts";
import { Tunnel } from "../tunnel.ts";

/** Options of {@link joinTunnel}. */
export interface JoinTunnelOptions {
  /** The connection, not attached yet. */
  readonly carrier: Carrier;
  readonly clock: Clock;
  /** This side's credentials, preferred first. */
  readonly credentials: readonly TunnelCredential[];
  /** Serves the requests of the other side. */
  readonly router: Router;
  /** The local name of the other side. */
  readonly name: string;
  /** Logger. Defaults to no logging. */
  readonly log?: Logger;
  /** Metrics for faults. Defaults to none. */
  readonly metrics?: Metrics;
  /** Called with the reason when a request of the other side fails, for counting. */
  refused?(code: SallyportError["code"]): void;
}

/**
 * Authenticates to the other side. Rejects with `unauthorized` if it refuses, `challenge_failed` if its own proof is
 * invalid, `deadline_exceeded`, or the connection's end reason; the carrier is then closed.
 */
export async function joinTunnel(options: JoinTunnelOptions): Promise<Tunnel> {
  const { carrier, credentials, clock } = options;
  try {
    await proveSelf(carrier, credentials, { transport: carrier.transport, remote: carrier.remote, clock });
  } catch (error) {
    const reason = internalError("handshake", error);
    if (options.log !== undefined) reportFault(reason, { log: options.log, metrics: options.metrics });
    carrier.close(reason);
    throw reason;
  }
  return new Tunnel(options);
}
