/**
 * Public TCP ports at the edge, for protocols without SNI. An agent whose token allows it requests a port, and
 * connections to that port reach the agent through streams of its session (docs/protocols/snocat.md, Demand proxy).
 *
 * @module
 */
import { SallyportError } from "../errors.ts";
import type { Runtime } from "../runtime/port.ts";
import type { Logger } from "../telemetry/log.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import type { StreamShares } from "../transport/stream_shares.ts";
import { DemandProxy } from "../tunnel/ports/demand_proxy_server.ts";
import { demandProxyService } from "../tunnel/ports/demand_proxy_service.ts";
import { PortLeases, type PortRange } from "../tunnel/ports/port_leases.ts";
import { createRouter, type Router } from "../tunnel/requests/router.ts";
import type { Tunnel } from "../tunnel/tunnel.ts";
import { DEMAND_PREFIX } from "../wire/snocat/demand_proxy.ts";
import { claimsAllow, formatPublishClaim, type PublishClaim, publishClaims } from "../wire/token/claims.ts";
import type { NetworkSet } from "../wire/ip/networks.ts";
import type { AgentRequest, EdgeTunnels } from "./agent_request.ts";

/** An edge's public ports. */
export interface PublicPortsOptions {
  /** First and last port. */
  readonly ports: PortRange;
  /** The address they listen on: an IP address, or `::` or `0.0.0.0` for all interfaces. */
  readonly host: string;
}

/** Options of {@link publicPorts}. */
interface PublicPortsParts extends PublicPortsOptions {
  readonly runtime: Runtime;
  readonly log: Logger;
  readonly metrics: Metrics;
  /** Limits one source's connections to one port. */
  readonly shares: StreamShares;
  /** Trusted proxies, whose connections to public ports begin with a PROXY header as well. */
  readonly proxies?: NetworkSet | undefined;
}

/** The tunnels of an edge with public ports; they take precedence over the operator's own. */
export function publicPorts(parts: PublicPortsParts, tunnels?: EdgeTunnels): EdgeTunnels {
  const { ports, ...rest } = parts;
  const { clock } = parts.runtime;
  const leases = new PortLeases(ports, () => clock.nowMs());
  const proxy = new DemandProxy({ ...rest, leases });
  /** Tunnels that receive no more visitors; their agents may not know yet. */
  const left = new WeakSet<Tunnel>();
  return {
    adopt: (carrier, agent) => tunnels?.adopt?.(carrier, agent) ?? false,
    router: (agent) => either(routerFor(proxy, leases, agent, left), tunnels?.router(agent)),
    opened: (tunnel, agent) => tunnels?.opened?.(tunnel, agent),
    left(tunnel, why) {
      left.add(tunnel);
      proxy.release(tunnel, why);
      tunnels?.left?.(tunnel, why);
    },
  };
}

function routerFor(
  proxy: DemandProxy,
  leases: PortLeases,
  agent: AgentRequest,
  left: WeakSet<Tunnel>,
): Router {
  const claims = publishClaims(agent.extra);
  for (const { port } of claims) if (port !== undefined) leases.reserve(port, agent.hostname);
  const allow = (tunnel: Tunnel, wished: number | undefined) => {
    if (left.has(tunnel)) {
      throw new SallyportError(
        "replaced",
        "Cannot lease a public port: the session no longer accepts visitors",
        { side: "local" },
      );
    }
    judge(claims, wished, wished !== undefined && leases.lastHolder(wished) === agent.hostname);
  };
  return createRouter({
    [`/${DEMAND_PREFIX[0]}`]: demandProxyService(proxy, {
      allow,
      portsMax: claims.length,
      keepForName: true,
    }),
  });
}

/**
 * `tcp` grants any port. A specific port is granted only if it was the agent's last one, since another agent's can't be
 * requested.
 */
function judge(claims: readonly PublishClaim[], wished: number | undefined, own: boolean): void {
  const specific = claims.some(({ port }) => port === wished);
  if (specific || (own && claimsAllow(claims, wished))) return;
  const allowed = claims.length === 0
    ? "no public port"
    : `${claims.map(formatPublishClaim).join(", ")} alone`;
  const asked = formatPublishClaim(wished === undefined ? {} : { port: wished });
  throw new SallyportError(
    "access_denied",
    `Cannot lease a public port: ${asked}: the token allows ${allowed}`,
    { side: "peer" },
  );
}

/** A router that tries the first router's services, then the second's. */
function either(first: Router, second: Router | undefined): Router {
  return { find: (address) => first.find(address) ?? second?.find(address) };
}
