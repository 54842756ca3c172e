/**
 * The least that a tunnel does on a runtime's own sockets (bench/upstream/bare_tunnel.js): a bound for new visitors, not a
 * tunnel to use.
 *
 * @module
 */

import { join } from "node:path";
import { freePorts, ROOT, run, startChild } from "../machine.ts";
import { type Peer, runningPeer } from "./peer.ts";
import { runtimeArgs, type RuntimeName, runtimeProgram } from "./sallyport.ts";

const SCRIPT = join(ROOT, "bench", "upstream", "bare_tunnel.js");

/** A bare tunnel on `runtime`. */
export function bare(runtime: RuntimeName, title: string): Peer {
  return {
    name: `bare-${runtime}`,
    title,
    // Nothing bounds its queues.
    cases: ["visitors"],
    prepare: async () => await run(await runtimeProgram(runtime), ["--version"]),
    async start(endpointPort) {
      const program = await runtimeProgram(runtime);
      const [visitors, agents] = await freePorts(2);
      const startEnd = (role: string, ...ports: readonly number[]) =>
        startChild(program, [...runtimeArgs(runtime, SCRIPT), role, ...ports.map(String)]);
      const edge = startEnd("edge", visitors!, agents!);
      return runningPeer(visitors!, edge, startEnd("agent", agents!, endpointPort));
    },
  };
}
