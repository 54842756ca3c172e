/**
 * The side that connected: proves itself, and has a tunnel.
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

/** What {@link joinTunnel} takes. */
export interface JoinTunnelOptions {
  /** The connection, nothing of which has been attached. */
  readonly carrier: Carrier;
  readonly clock: Clock;
  /** How this side can say who it is, the way it likes best first. */
  readonly credentials: readonly TunnelCredential[];
  /** Serves the requests of the other side. */
  readonly router: Router;
  /** What the other side is called here. */
  readonly name: string;
  /** Where it logs; nowhere when absent. */
  readonly log?: Logger;
  /** Counts faults; nothing when absent. */
  readonly metrics?: Metrics;
  /** Hears why a request of the other side came to nothing, to be counted. */
  refused?(code: SallyportError["code"]): void;
}

/**
 * Authenticates to the other side. Rejects with `unauthorized` where it refuses, `challenge_failed` where it isn't to be
 * believed, `deadline_exceeded`, or what the connection ended with; the carrier is closed then.
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
