/**
 * Our edge and our agent, in the test's own process, behind the interface of the scenarios.
 *
 * @module
 */

import { setTimeout as delay } from "node:timers/promises";
import { AccessList } from "../../src/agent/access_list.ts";
import { type Agent, createAgent } from "../../src/agent/agent.ts";
import { tcpConnector } from "../../src/agent/connector.ts";
import type { Grant } from "../../src/transport/grant.ts";
import { FernetRing } from "../../src/crypto/fernet.ts";
import { createEdge } from "../../src/edge/edge.ts";
import { SallyportError } from "../../src/errors.ts";
import { currentRuntime } from "../../src/runtime/mod.ts";
import type { ReferenceSession, ReferenceSessionOptions } from "./reference.ts";
import type { AgentUnderTest, EdgeUnderTest } from "./scenarios.ts";

const POLL_MS = 5;

/** Starts our edge: one port, the same on all hosts. */
export async function startOwnEdge(
  options: { fernetKeys: readonly string[]; hosts: readonly string[] },
): Promise<EdgeUnderTest> {
  const edge = createEdge({ runtime: await currentRuntime(), ring: new FernetRing(options.fernetKeys) });
  let port = 0;
  for (const host of options.hosts) port = (await edge.listen({ host, port })).address.port;
  const until = async (hostname: string, served: boolean): Promise<void> => {
    while (edge.serves(hostname) !== served) await delay(POLL_MS);
  };
  return {
    visitorPort: port,
    agentPort: port,
    served: (hostname) => until(hostname, true),
    gone: (hostname) => until(hostname, false),
    stop: () => edge.close(0),
  };
}

/** Our agent, one for each session; a session that ends isn't renewed. */
export function startOwnAgent(): Promise<AgentUnderTest> {
  const agents = new Set<Agent>();
  return Promise.resolve({
    connect: (options) => connect(options, agents),
    stop: async () => void await Promise.all([...agents].map((agent) => agent.close(0))),
  });
}

async function connect(options: ReferenceSessionOptions, agents: Set<Agent>): Promise<ReferenceSession> {
  const runtime = await currentRuntime();
  const connected = Promise.withResolvers<void>();
  const over = Promise.withResolvers<void>();
  let asked = false;
  const agent = createAgent({
    runtime,
    grants: (): Promise<Grant> => {
      if (!asked) {
        asked = true;
        return Promise.resolve(toGrant(options));
      }
      // A second grant is asked for when the first session has ended, or was never let in.
      const why = new SallyportError("closed", "Cannot renew session: the test gives one grant alone", {
        side: "local",
      });
      connected.reject(why);
      over.resolve();
      void agent.close(0);
      return Promise.reject(why);
    },
    connector: tcpConnector({
      runtime,
      host: "127.0.0.1",
      port: options.endpointPort,
      accessList: new AccessList({ allow: options.allow, block: options.block }),
    }),
    connected: () => connected.resolve(),
  });
  agents.add(agent);
  void agent.run().then(() => {
    connected.reject(new Error("Cannot connect: the agent has ended"));
    over.resolve();
  }, (error) => {
    connected.reject(error);
    over.resolve();
  });
  await connected.promise;
  return { disconnected: () => over.promise, disconnect: () => void agent.close(0) };
}

function toGrant({ token, edge, protocolVersion }: ReferenceSessionOptions): Grant {
  return {
    token: token.token,
    hostname: token.hostname,
    aliases: [],
    aesKey: new Uint8Array(Buffer.from(token.aesKey, "hex")),
    aesIv: new Uint8Array(Buffer.from(token.aesIv, "hex")),
    cipher: token.cipher,
    protocolVersion: (protocolVersion ?? token.protocolVersion) as 0 | 1 | 2,
    valid: Date.now() / 1000 + 3600,
    edge,
  };
}
