/**
 * Agents of the tests' own process.
 *
 * @module
 */
import { type Agent, type AgentOptions, createAgent } from "../../src/agent/agent.ts";

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
