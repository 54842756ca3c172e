/**
 * The demand proxy as a service of a tunnel, and its use from the other end.
 *
 * @module
 */
import { SallyportError } from "../../errors.ts";
import type { Clock } from "../../runtime/port.ts";
import {
  DEMAND_PREFIX,
  demandSegments,
  type DemandTarget,
  parseDemandSegments,
} from "../../wire/snocat/demand_proxy.ts";
import { type PublicPort, requestPublicPort } from "./demand_proxy_client.ts";
import type { DemandProxy } from "./demand_proxy_server.ts";
import { refusal, type TunnelService } from "../requests/router.ts";
import type { Tunnel } from "../tunnel.ts";
import { DEMAND_OPEN_DEADLINE_MS } from "./demand_proxy_server.ts";

/** Options of {@link demandProxyService}, besides the proxy. */
interface DemandServiceOptions {
  /**
   * Checks whether the tunnel may have this port; undefined means any. Throws the reason for a refusal. Defaults to
   * allowing it.
   */
  allow?(tunnel: Tunnel, wishedPort: number | undefined): void;
  /** Ports that a tunnel may hold at once. Defaults to DEMAND_LEASES_PER_CLIENT_MAX, which is also the maximum. */
  readonly portsMax?: number;
  /** Whether ports are reserved for the tunnel's name as long as others are free. */
  readonly keepForName?: boolean;
}

/** Serves `/proxyme/0.0.1/HOST/PORT` for tunnels whose router has it under `/proxyme`. */
export function demandProxyService(proxy: DemandProxy, options: DemandServiceOptions = {}): TunnelService {
  return ({ address, tunnel }) => {
    const target = parseDemandSegments(address);
    if (target === undefined) throw refusal(`it needs /${DEMAND_PREFIX.join("/")}/HOST/PORT`);
    return (stream) =>
      proxy.serve(stream, {
        owner: tunnel,
        name: tunnel.name,
        target,
        portsMax: options.portsMax,
        holder: options.keepForName === true ? tunnel.name : undefined,
        open: ({ host, port }, visitor) =>
          tunnel.open(["proxy-tcp", "dns", host ?? "localhost", "tcp", String(port)], {
            caller: { address: visitor.host, port: visitor.port },
            timeoutMs: DEMAND_OPEN_DEADLINE_MS,
          }),
        allow: (wished) => options.allow?.(tunnel, wished),
      });
  };
}

/** Options of {@link openPublicPort}. */
interface OpenPublicPortOptions {
  readonly clock: Clock;
  /** The target of visitors, from this side's point of view; its router must serve `/proxy-tcp` for it. */
  readonly target: DemandTarget;
  /** The preferred port. */
  readonly wishedPort?: number;
}

/** Number of attempts, with delays between them: snocat's server may not know a new tunnel yet. */
const ATTEMPTS = 5;
const PAUSE_MS = 300;

/**
 * Requests a public port from the other end of a tunnel.
 *
 * @throws SallyportError as {@link requestPublicPort} and {@link Tunnel.open}.
 */
export async function openPublicPort(tunnel: Tunnel, options: OpenPublicPortOptions): Promise<PublicPort> {
  const { clock, target, wishedPort } = options;
  let over: SallyportError | undefined;
  void tunnel.closed.then((error) => over = error);
  for (let attempt = 1;; attempt++) {
    const stream = await tunnel.open(demandSegments(target));
    try {
      return await requestPublicPort({ stream, clock, wishedPort });
    } catch (error) {
      const again = error instanceof SallyportError && error.code === "connection_lost" && attempt < ATTEMPTS;
      if (!again || over !== undefined) throw over ?? error;
      await new Promise<void>((resolve) => void clock.after(PAUSE_MS, resolve));
    }
  }
}
