/**
 * What is measured: a tunnel, or a bound to compare tunnels with.
 *
 * @module
 */

import type { LineChild } from "../../tests/support/child.ts";
import { processTree, stopChild } from "../machine.ts";

/** The name that visitors ask for. */
export const SERVER_NAME = "bench.test";

/** A kind of tunnel. */
export interface Peer {
  /** Short and stable: it names the peer on the command line and in the results. */
  readonly name: string;
  readonly title: string;
  /** It lets agents in that speak SniTun. */
  readonly snitun?: boolean;
  /** The cases it takes part in; all when absent. */
  readonly cases?: readonly string[];
  /** Installs what is missing and answers the version; rejects with {@link Unavailable} where it can't. */
  prepare(): Promise<string>;
  /**
   * Starts it in front of an endpoint; resolves when its processes run, not yet when they carry bytes. `way` answers the
   * port that the agent has to dial in place of the edge's; see {@link startRelay}.
   */
  start(endpointPort: number, way?: Way): Promise<RunningPeer>;
  /** Whether `start` takes a way. */
  readonly takesWay?: boolean;
  /** The same where visitors' TLS ends in the agent, in front of an endpoint that speaks plain HTTP; absent where it can't. */
  startHttps?(endpointPort: number): Promise<RunningPeer>;
}

/** A detour between agent and edge: from the edge's port to the one that the agent dials. */
export type Way = (edgePort: number) => Promise<number>;

/** A tunnel that runs. */
export interface RunningPeer {
  /** HOST:PORT where visitors dial. */
  readonly visitors: string;
  /** Processes of the public side, and of the side behind NAT; empty where there is none. */
  edgePids(): number[];
  agentPids(): number[];
  /** Where further SniTun agents may dial, with a key for their tokens. */
  readonly sessions?: { readonly port: number; readonly fernetKey: string };
  stop(): Promise<void>;
}

/** A tunnel made of an edge's process and, except at a bound, an agent's. */
export function runningPeer(
  visitorPort: number,
  edge: LineChild | undefined,
  agent: LineChild | undefined,
  more: Partial<Pick<RunningPeer, "sessions" | "stop">> = {},
): RunningPeer {
  return {
    visitors: `127.0.0.1:${visitorPort}`,
    edgePids: () => edge === undefined ? [] : processTree(edge.pid),
    agentPids: () => agent === undefined ? [] : processTree(agent.pid),
    ...(more.sessions === undefined ? {} : { sessions: more.sessions }),
    async stop(): Promise<void> {
      if (agent !== undefined) await stopChild(agent);
      if (edge !== undefined) await stopChild(edge);
      await more.stop?.();
    },
  };
}

/**
 * Starts a tunnel and waits until it is `ready`; nothing is left running when it isn't. What `start` gives to `beside`
 * is stopped with the tunnel, after it.
 */
export async function startTunnel(
  start: (beside: (part: Pick<RunningPeer, "stop">) => void) => Promise<RunningPeer>,
  ready: (tunnel: RunningPeer) => Promise<void>,
): Promise<RunningPeer> {
  const parts: Pick<RunningPeer, "stop">[] = [];
  const stop = async (): Promise<void> => {
    for (const part of parts.splice(0).reverse()) await part.stop();
  };
  try {
    const running = await start((part) => void parts.push(part));
    parts.push(running);
    const tunnel = { ...running, stop };
    await ready(tunnel);
    return tunnel;
  } catch (error) {
    await stop();
    throw error;
  }
}
