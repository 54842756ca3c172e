/**
 * The reference: SniTun's Python implementation, from PyPI.
 *
 * @module
 */

import {
  type ReferenceClient,
  type ReferenceServer,
  startReferenceClient,
  startReferenceServer,
} from "../../tests/interop/reference.ts";
import { REFERENCE_VERSION, referencePython } from "../../tests/interop/reference_env.ts";
import { type CipherName, fernetKey, issueToken } from "../../tests/support/tokens.ts";
import { processTree, run, Unavailable } from "../machine.ts";
import { type Peer, SERVER_NAME } from "./peer.ts";

const running = new Set<ReferenceServer | ReferenceClient>();

/** The reference's server on one port with its client, protocol version 2. */
export function reference(name: string, title: string, cipher: CipherName, cases?: readonly string[]): Peer {
  return {
    name,
    title,
    snitun: true,
    ...(cases === undefined ? {} : { cases }),
    async prepare(): Promise<string> {
      const python = await referencePython().catch((error) => {
        throw new Unavailable((error as Error).message);
      });
      return `${REFERENCE_VERSION}, ${await run(python, ["--version"])}`;
    },
    async start(endpointPort) {
      const key = fernetKey();
      const server = await startReferenceServer({ fernetKeys: [key] });
      running.add(server);
      const client = await startReferenceClient();
      running.add(client);
      await client.connect({
        edge: { host: "127.0.0.1", port: server.agentPort },
        endpointPort,
        token: issueToken(key, { hostname: SERVER_NAME, cipher }),
      });
      return {
        visitors: `127.0.0.1:${server.visitorPort}`,
        edgePids: () => processTree(server.pid),
        agentPids: () => processTree(client.pid),
        sessions: { port: server.agentPort, fernetKey: key },
        async stop(): Promise<void> {
          running.delete(server);
          running.delete(client);
          await Promise.all([client.stop(), server.stop()]);
        },
      };
    },
  };
}

/** Ends all reference processes that still run. */
export async function stopReferences(): Promise<void> {
  await Promise.all([...running].map((part) => part.stop()));
}
