/**
 * Which sessions may hold a name together, by members of the token that other edges ignore: `shared` for agents that
 * share a name, `instance` for the sessions of one agent at several edges (docs/protocols/cluster.md, Directory).
 *
 * @module
 */
import { sharedInstance } from "./claims.ts";

/** The member that names a run of an agent, which of its sessions this is, and how many there are: `RUN.0/2`. */
export const INSTANCE_MEMBER = "instance";
/** How a client names a session: the run, a dot, and the session's number. */
export const INSTANCE = /^[\w-]{8,60}\.[0-3]$/;
/** The member's value. */
const INSTANCE_CLAIM = /^(([\w-]{8,60})\.([0-3]))\/([1-4])$/;
/** Maximum edges at which an agent may keep sessions at once. */
export const EDGES_PER_AGENT_MAX = 4;

/** A session's place among others with the same name. */
interface GroupPlace {
  readonly group: string;
  /** A newer session of the same member replaces the older; undefined if the group has one session. */
  readonly member: string | undefined;
}

/** The group of a session and its place in it, by its token's hostname, further members and id. */
export function routeGroup(
  hostname: string,
  extra: Readonly<Record<string, unknown>>,
  tokenId: string,
): GroupPlace {
  const { [INSTANCE_MEMBER]: instance } = extra;
  const [, named, run, number, edges] =
    (typeof instance === "string" ? INSTANCE_CLAIM.exec(instance) : null) ?? [];
  const own = Number(number) < Number(edges) ? named : undefined;
  const shared = sharedInstance(extra);
  if (shared !== undefined) return { group: `shared:${hostname}`, member: own ?? shared };
  // Each session's limits depend on how many there are, so sessions with a different count form another group.
  if (own !== undefined) return { group: `instance:${run}/${edges}`, member: own };
  return { group: `token:${tokenId}`, member: undefined };
}
