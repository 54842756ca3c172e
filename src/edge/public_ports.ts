/**
 * Public TCP ports at the edge, for what has no SNI: an agent whose token allows it asks for one, and who connects there
 * reaches the agent by a stream of its session (docs/protocols/snocat.md, Demand proxy).
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
import type { AgentRequest, EdgeTunnels } from "./agent_request.ts";

/** Which public ports an edge has. */
export interface PublicPortsOptions {
  /** First and last one. */
  readonly ports: PortRange;
  /** The one address on which they listen: an IP address, `::` or `0.0.0.0` for every interface. */
  readonly host: string;
}

/** What {@link publicPorts} works with. */
interface PublicPortsParts extends PublicPortsOptions {
  readonly runtime: Runtime;
  readonly log: Logger;
  readonly metrics: Metrics;
  /** How many connections one source may have to one port. */
  readonly shares: StreamShares;
}

/** The tunnels of an edge that has public ports, before those that its operator has of his own. */
export function publicPorts(parts: PublicPortsParts, tunnels?: EdgeTunnels): EdgeTunnels {
  const { ports, ...rest } = parts;
  const { clock } = parts.runtime;
  const leases = new PortLeases(ports, () => clock.nowMs());
  const proxy = new DemandProxy({ ...rest, leases });
  /** Their agents may not know yet. */
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
        "Cannot lease a public port: the session takes no visitors any more",
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

/** `tcp` gives any port, and of those that are wished its own last one alone: another's isn't for the asking. */
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

/** The first one's services, then the second one's. */
function either(first: Router, second: Router | undefined): Router {
  return { find: (address) => first.find(address) ?? second?.find(address) };
}
