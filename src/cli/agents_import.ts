/**
 * `agents import`: adds the agents of a file to a session master.
 *
 * @module
 */
import { readFile } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import { errorCode, errorMessage, SallyportError } from "../errors.ts";
import { formatJoinLink } from "../wire/token/join_link.ts";
import type { ManagedMaster } from "./manage.ts";

/** Members of an agent that a file sets; `agents list --json` also prints the master's own. */
const MEMBERS: ReadonlySet<string> = new Set([
  ...["name", "hostnames", "publish", "limits", "agent_networks", "visitor_networks"],
  ...["group", "tenant", "expires_at", "notes"],
]);

/**
 * Adds the agents of a JSON list, and prints a line with the join link of each as it is added. One that the master
 * refuses is reported, and doesn't keep the others from being added.
 */
export async function importAgents(
  master: ManagedMaster,
  path: string,
  more: Readonly<Record<string, unknown>>,
): Promise<void> {
  const entries = await readEntries(path);
  let refused = 0;
  for (const entry of entries) {
    const given = Object.entries(entry).filter(([name, value]) => MEMBERS.has(name) && value !== null);
    try {
      const { id, name, join_code: code, join_expires_at } = await addPatiently(master, {
        ...Object.fromEntries(given),
        ...more,
      });
      const join = formatJoinLink({ master: master.url, code });
      master.io.out(master.json ? JSON.stringify({ id, name, join, join_expires_at }) : `${name}\t${join}`);
    } catch (error) {
      if (errorCode(error) !== "config_invalid") throw error;
      refused++;
      master.io.err(`${String(entry.name)}: ${errorMessage(error)}`);
    }
  }
  if (refused === 0) return;
  const why = `Cannot import ${refused} of ${entries.length} agents; the reasons are above`;
  throw new SallyportError("config_invalid", why, { side: "config" });
}

async function readEntries(path: string): Promise<readonly Readonly<Record<string, unknown>>[]> {
  const text = await readFile(path, "utf8").catch((cause) => {
    throw fault(path, errorMessage(cause));
  });
  let list: unknown;
  try {
    list = JSON.parse(text);
  } catch {
    throw fault(path, "it isn't JSON");
  }
  const isList = Array.isArray(list) && list.every((entry) => typeof entry === "object" && entry !== null);
  if (!isList) throw fault(path, "it isn't a JSON list of agents, as `agents list --json` prints it");
  return list as Record<string, unknown>[];
}

/** Adds an agent; waits where the master takes no more requests in this minute. */
async function addPatiently(master: ManagedMaster, body: unknown) {
  for (;;) {
    try {
      return await master.call("POST", "/v1/agents", body);
    } catch (error) {
      if (errorCode(error) !== "limit_exceeded" || !(error instanceof SallyportError)) throw error;
      await delay(error.retryAfterMs ?? 1_000);
    }
  }
}

function fault(path: string, why: string): SallyportError {
  return new SallyportError("config_invalid", `Cannot import agents of ${path}: ${why}`, { side: "config" });
}
