/**
 * What a session master says of an agent in its token, in members that SniTun doesn't know: which agent it is, and what
 * the edge lets it have.
 *
 * @module
 */

/** The members' names, in a token's payload. */
export const AGENT_MEMBER = "agent";
export const LIMITS_MEMBER = "limits";
export const MONTH_MEMBER = "month";
export const AGENT_NETWORKS_MEMBER = "agent_networks";
export const VISITOR_NETWORKS_MEMBER = "visitor_networks";

/** What an agent may have at an edge; without limit where a member is absent. */
export interface AgentLimits {
  /** Sessions at the same time, at one edge. */
  readonly sessions?: number;
  /** Visitors' streams at the same time, at one edge. */
  readonly streams?: number;
  /** New visitors a second. */
  readonly visitors_per_second?: number;
  /** Payload bytes a second from visitors to the agent. */
  readonly bytes_per_second_to_agent?: number;
  /** Payload bytes a second from the agent to visitors. */
  readonly bytes_per_second_to_visitor?: number;
  /** Payload bytes both ways in a calendar month (UTC). */
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

/** What was used of a month when the token was made. */
interface MonthUsed {
  /** `2026-11`, in UTC. */
  readonly month: string;
  readonly bytes: number;
}

/** What a token says of its agent. */
export interface AgentClaim {
  /** The agent's id at the session master; absent in a token for a name alone. */
  readonly id?: string;
  /** The tenant that it belongs to. */
  readonly tenant?: string;
  /** The generation of the agent's key: older ones may be refused. */
  readonly generation: number;
  readonly limits: AgentLimits;
  readonly month?: MonthUsed;
  /** Networks from which the agent may connect; all when empty. */
  readonly agentNetworks: readonly string[];
  /** Networks from which visitors may come; all when empty. */
  readonly visitorNetworks: readonly string[];
}

type Members = Readonly<Record<string, unknown>>;

/** The members of a token that say this. */
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

/** Reads what a token's extra members say. Members that aren't understood count as absent. */
export function readAgentClaim(extra: Members): AgentClaim {
  const agent = asObject(extra[AGENT_MEMBER]);
  const limits = asObject(extra[LIMITS_MEMBER]);
  const month = asObject(extra[MONTH_MEMBER]);
  return {
    ...typeof agent.id === "string" ? { id: agent.id } : {},
    ...typeof agent.tenant === "string" ? { tenant: agent.tenant } : {},
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

function asTexts(value: unknown): readonly string[] {
  return Array.isArray(value) ? value.filter((item) => typeof item === "string") : [];
}
