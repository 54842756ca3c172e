/**
 * Which sessions may hold a name together, by members of the token that other edges ignore: `shared` for agents that
 * share a name, `instance` for the sessions of one agent at several nodes (docs/protocols/cluster.md, Directory).
 *
 * @module
 */
import { sharedInstance } from "./shared_claim.ts";

/** The longest name of an agent's instance. */
const INSTANCE_MAX_LENGTH = 64;

/** The group of a session, by its token's hostname, further members and id. */
export function routeGroup(
  hostname: string,
  extra: Readonly<Record<string, unknown>>,
  tokenId: string,
): string {
  if (sharedInstance(extra) !== undefined) return `shared:${hostname}`;
  const { instance } = extra;
  if (typeof instance === "string" && instance !== "" && instance.length <= INSTANCE_MAX_LENGTH) {
    return `instance:${instance}`;
  }
  return `token:${tokenId}`;
}
