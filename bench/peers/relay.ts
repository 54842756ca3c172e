/**
 * The bound of a runtime: two relays in a row that do nothing but pass bytes on, in the places of edge and agent.
 *
 * @module
 */

import { join } from "node:path";
import { freePorts, listens, ROOT, startChild } from "../machine.ts";
import { type Peer, runningPeer } from "./peer.ts";
import { runtimeArgs, type RuntimeName, runtimeProgram } from "./sallyport.ts";

/** `bench/upstream/relay.js` twice on one runtime. */
export function relay(runtime: RuntimeName, name: string, title: string): Peer {
  return {
    name,
    title,
    cases: ["bulk", "visitors", "pingpong"],
    prepare: () => runtimeProgram(runtime),
    async start(endpointPort) {
      const program = await runtimeProgram(runtime);
      const [visitors, between] = await freePorts(2);
      const start = (port: number, toPort: number) =>
        startChild(program, [
          ...runtimeArgs(runtime, join(ROOT, "bench", "upstream", "relay.js")),
          ...[String(port), String(toPort)],
        ]);
      const far = start(between!, endpointPort);
      // A relay on Deno ends at a visitor whom it can't pass on.
      await listens(between!);
      return runningPeer(visitors!, start(visitors!, between!), far);
    },
  };
}
