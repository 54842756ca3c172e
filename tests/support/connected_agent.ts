/**
 * Agents of the tests' own process.
 *
 * @module
 */
import { type Agent, type AgentOptions, createAgent } from "../../src/agent/agent.ts";
import { Dialers } from "../../src/agent/dialer.ts";
import { currentRuntime } from "../../src/runtime/mod.ts";
import type { Grant } from "../../src/transport/grant.ts";
import type { Session } from "../../src/transport/port.ts";
import { Ear } from "../conformance/transport_helpers.ts";

/** Runs an agent; resolves when an edge has let it in, rejects when it ends before. It is in `agents` from its start. */
export async function connectedAgent(
  options: Omit<AgentOptions, "connected">,
  agents: Agent[] = [],
): Promise<Agent> {
  const connected = Promise.withResolvers<void>();
  const agent = createAgent({ ...options, connected: () => connected.resolve() });
  agents.push(agent);
  agent.run().catch(connected.reject);
  await connected.promise;
  return agent;
}

/** Opens a session by SniTun, as an agent does, at the grant's edge; rejects where that refuses it. */
export async function openSession(grant: Grant): Promise<Session> {
  const dialer = new Dialers({ runtime: await currentRuntime() }).of("snitun");
  return await dialer.dial({
    grant,
    edge: dialer.edgeOf(grant),
    signal: new AbortController().signal,
    admitted: () => new Ear(),
  });
}
