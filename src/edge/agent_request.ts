/**
 * An agent's request for admission, and the operator's hooks that decide on it.
 *
 * @module
 */
import type { OpenedToken } from "../protocol/token/token_reader.ts";
import type { Address } from "../runtime/port.ts";
import type { Carrier } from "../tunnel/carriers/carrier.ts";
import type { Router } from "../tunnel/requests/router.ts";
import type { Tunnel } from "../tunnel/tunnel.ts";

/**
 * An agent's request for admission, as passed to an {@link Authorize} hook. Its token is genuine and hasn't expired.
 */
export interface AgentRequest {
  /** The hostname it serves, canonical. */
  readonly hostname: string;
  /** Additional hostnames, canonical. */
  readonly aliases: readonly string[];
  /** SniTun's version. */
  readonly protocolVersion: number;
  /** The cipher of the session's headers. */
  readonly cipher: string;
  /** Unix seconds after which the token is refused. */
  readonly valid: number;
  /** Token members that SniTun doesn't define, such as operator-specific ones. */
  readonly extra: Readonly<Record<string, unknown>>;
  /** The agent's source address, taken from the PROXY header if it connects through a trusted proxy. */
  readonly remote: Address;
  /** The session's transport: "snitun", "sealed", "curve", "quic". */
  readonly transport: string;
}

/**
 * The operator's admission hook. It refuses an agent by throwing, or rejecting with, a {@link SallyportError} (such as
 * `unauthorized`), whose message is logged. Any other exception is a fault in the hook: the agent is refused, and the
 * stack is logged.
 */
export type Authorize = (agent: AgentRequest) => void | Promise<void>;

/** Requests between an edge and its agents, in either direction, besides carrying visitors. */
export interface EdgeTunnels {
  /**
   * Takes over an agent's carrier instead of the edge opening its own tunnel, as an authenticating source does. Returns
   * whether it took it.
   */
  adopt?(carrier: Carrier, agent: AgentRequest): boolean;
  /** The router that serves this agent's requests; undefined if it may make none. */
  router(agent: AgentRequest): Router | undefined;
  /** Called for each new tunnel, before any request in it. */
  opened?(tunnel: Tunnel, agent: AgentRequest): void;
  /**
   * Called when a tunnel's agent no longer receives visitors: it has a newer session, or is leaving. May be called more
   * than once.
   */
  left?(tunnel: Tunnel, why: string): void;
}

/** Builds an {@link AgentRequest} from an opened token. */
export function agentRequest({ claims }: OpenedToken, remote: Address, transport: string): AgentRequest {
  const { hostname, aliases, protocolVersion, cipher, valid, extra } = claims;
  return { hostname, aliases, protocolVersion, cipher, valid, extra, remote, transport };
}
