/**
 * Agents of the tests' own process.
 *
 * @module
 */
import { type Agent, type AgentOptions, createAgent } from "../../src/agent/agent.ts";

/** Runs an agent, which goes into `agents` at once; resolves when an edge has let it in, rejects when it ends before. */
export async function connectedAgent(
  agents: Agent[],
  options: Omit<AgentOptions, "connected">,
): Promise<Agent> {
  const connected = Promise.withResolvers<void>();
  const agent = createAgent({ ...options, connected: () => connected.resolve() });
  agents.push(agent);
  agent.run().catch(connected.reject);
  await connected.promise;
  return agent;
}
