/**
 * The bound above everything: visitors dial the endpoint itself.
 *
 * @module
 */

import { type Peer, runningPeer } from "./peer.ts";

/** No tunnel at all. */
export const direct: Peer = {
  name: "direct",
  title: "direct",
  prepare: () => Promise.resolve("no tunnel"),
  start: (endpointPort) => Promise.resolve(runningPeer(endpointPort, undefined, undefined)),
};
