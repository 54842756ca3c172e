/**
 * An agent that asks to be let in, and what an operator says to that.
 *
 * @module
 */
import type { OpenedToken } from "../protocol/token/token_reader.ts";
import type { Address } from "../runtime/port.ts";
import type { Carrier } from "../tunnel/carriers/carrier.ts";
import type { Router } from "../tunnel/requests/router.ts";
import type { Tunnel } from "../tunnel/tunnel.ts";

/** An agent that asks to be let in, as an {@link Authorize} hook sees it. Its token is genuine and hasn't expired. */
export interface AgentRequest {
  /** The name that it serves, canonical. */
  readonly hostname: string;
  /** Further names, canonical. */
  readonly aliases: readonly string[];
  /** SniTun's version. */
  readonly protocolVersion: number;
  /** The cipher of the session's headers. */
  readonly cipher: string;
  /** Unix seconds after which the token is refused. */
  readonly valid: number;
  /** Members of the token that SniTun doesn't know, such as an operator's own. */
  readonly extra: Readonly<Record<string, unknown>>;
  /** Where it comes from, as a trusted proxy names it where there is one. */
  readonly remote: Address;
  /** How its session crosses the network: "snitun", "sealed", "curve", "quic". */
  readonly transport: string;
}

/**
 * An operator's own say: refuses an agent by throwing, or rejecting with, a {@link SallyportError} (such as
 * `unauthorized`), whose message goes to the log. Anything else that it throws is a fault of the hook: the agent is
 * refused, and the log has the stack.
 */
export type Authorize = (agent: AgentRequest) => void | Promise<void>;

/** What agents may ask an edge for, besides carrying visitors, and the edge its agents. */
export interface EdgeTunnels {
  /**
   * Takes an agent's carrier in place of a tunnel of the edge's own, as a source that authenticates it does; says
   * whether it has.
   */
  adopt?(carrier: Carrier, agent: AgentRequest): boolean;
  /** What serves the requests of this agent; undefined where it may make none. */
  router(agent: AgentRequest): Router | undefined;
  /** Hears of each tunnel, before any request in it. */
  opened?(tunnel: Tunnel, agent: AgentRequest): void;
  /** Hears that a tunnel's agent gets no visitors any more: it has a newer session, or is leaving. More than once. */
  left?(tunnel: Tunnel, why: string): void;
}

/** Such a request. */
export function agentRequest({ claims }: OpenedToken, remote: Address, transport: string): AgentRequest {
  const { hostname, aliases, protocolVersion, cipher, valid, extra } = claims;
  return { hostname, aliases, protocolVersion, cipher, valid, extra, remote, transport };
}
