/**
 * Which sessions may hold a name together, by members of the token that other edges ignore: `shared` for agents that
 * share a name, `instance` for the sessions of one agent at several edges (docs/protocols/cluster.md, Directory).
 *
 * @module
 */
import { sharedInstance } from "./claims.ts";

/** The member that names a run of an agent, and which of its sessions this is. */
export const INSTANCE_MEMBER = "instance";
/** What may stand in it: the run, a dot, and the number of the session. */
export const INSTANCE = /^([\w-]{8,60})\.([0-3])$/;
/** The edges at which an agent may keep sessions at once. */
export const EDGES_PER_AGENT_MAX = 4;

/** Where a session stands among others of its name. */
interface GroupPlace {
  readonly group: string;
  /** A newer session of the same member replaces the older; undefined where the group has one session. */
  readonly member: string | undefined;
}

/** The group of a session and its place in it, by its token's hostname, further members and id. */
export function routeGroup(
  hostname: string,
  extra: Readonly<Record<string, unknown>>,
  tokenId: string,
): GroupPlace {
  const { [INSTANCE_MEMBER]: instance } = extra;
  const [own, run] = (typeof instance === "string" ? INSTANCE.exec(instance) : undefined) ?? [];
  const shared = sharedInstance(extra);
  if (shared !== undefined) return { group: `shared:${hostname}`, member: own ?? shared };
  if (own !== undefined) return { group: `instance:${run}`, member: own };
  return { group: `token:${tokenId}`, member: undefined };
}
