/**
 * A session master's claims about an agent in its token, in members unknown to SniTun: the agent's identity and its
 * limits at the edge.
 *
 * @module
 */

/** The members' names, in a token's payload. */
export const AGENT_MEMBER = "agent";
export const LIMITS_MEMBER = "limits";
export const MONTH_MEMBER = "month";
export const AGENT_NETWORKS_MEMBER = "agent_networks";
export const VISITOR_NETWORKS_MEMBER = "visitor_networks";

/** Longest id or tenant of an agent, in characters. */
export const ID_MAX_LENGTH = 300;

/** An agent's limits at an edge; an absent member means no limit. */
export interface AgentLimits {
  /** Concurrent sessions at one edge. */
  readonly sessions?: number;
  /** Concurrent visitor streams at one edge. */
  readonly streams?: number;
  /** New visitors per second. */
  readonly visitors_per_second?: number;
  /** Payload bytes per second from visitors to the agent. */
  readonly bytes_per_second_to_agent?: number;
  /** Payload bytes per second from the agent to visitors. */
  readonly bytes_per_second_to_visitor?: number;
  /** Payload bytes in both directions per calendar month (UTC). */
  readonly monthly_bytes?: number;
}

/** The names of all limits. */
export const LIMIT_NAMES = [
  "sessions",
  "streams",
  "visitors_per_second",
  "bytes_per_second_to_agent",
  "bytes_per_second_to_visitor",
  "monthly_bytes",
] as const satisfies readonly (keyof AgentLimits)[];

/** Usage of the month when the token was created. */
interface MonthUsed {
  /** `2026-11`, in UTC. */
  readonly month: string;
  readonly bytes: number;
}

/** A token's claims about its agent. */
export interface AgentClaim {
  /** The agent's id at the session master; absent in a token that only names a host. */
  readonly id?: string;
  /** The tenant that it belongs to. */
  readonly tenant?: string;
  /** The generation of the agent's key: older ones may be refused. */
  readonly generation: number;
  readonly limits: AgentLimits;
  readonly month?: MonthUsed;
  /** Networks from which the agent may connect; all if empty. */
  readonly agentNetworks: readonly string[];
  /** Networks from which visitors may connect; all if empty. */
  readonly visitorNetworks: readonly string[];
}

type Members = Readonly<Record<string, unknown>>;

/** The token members that encode a claim. */
export function agentMembers(claim: AgentClaim): Members {
  const { id, tenant, generation, limits, month, agentNetworks, visitorNetworks } = claim;
  return {
    ...id === undefined ? {} : { [AGENT_MEMBER]: { id, tenant, generation } },
    ...Object.keys(limits).length === 0 ? {} : { [LIMITS_MEMBER]: limits },
    ...month === undefined ? {} : { [MONTH_MEMBER]: month },
    ...agentNetworks.length === 0 ? {} : { [AGENT_NETWORKS_MEMBER]: agentNetworks },
    ...visitorNetworks.length === 0 ? {} : { [VISITOR_NETWORKS_MEMBER]: visitorNetworks },
  };
}

/** Reads the claims in a token's extra members. Unknown or malformed members count as absent. */
export function readAgentClaim(extra: Members): AgentClaim {
  const agent = asObject(extra[AGENT_MEMBER]);
  const limits = asObject(extra[LIMITS_MEMBER]);
  const month = asObject(extra[MONTH_MEMBER]);
  return {
    ...isId(agent.id) ? { id: agent.id } : {},
    ...isId(agent.tenant) ? { tenant: agent.tenant } : {},
    generation: typeof agent.generation === "number" ? agent.generation : 0,
    limits: Object.fromEntries(LIMIT_NAMES.flatMap((name) => {
      const value = limits[name];
      return typeof value === "number" && value >= 0 ? [[name, value]] : [];
    })),
    ...typeof month.month === "string" && typeof month.bytes === "number"
      ? { month: { month: month.month, bytes: month.bytes } }
      : {},
    agentNetworks: asTexts(extra[AGENT_NETWORKS_MEMBER]),
    visitorNetworks: asTexts(extra[VISITOR_NETWORKS_MEMBER]),
  };
}

function asObject(value: unknown): Members {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? value as Members : {};
}

/** The session master would refuse each report that names a longer one. */
function isId(value: unknown): value is string {
  return typeof value === "string" && value !== "" && value.length <= ID_MAX_LENGTH;
}

function asTexts(value: unknown): readonly string[] {
  return Array.isArray(value) ? value.filter((item) => typeof item === "string") : [];
}
