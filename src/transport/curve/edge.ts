/**
 * The curve transport as an edge has it.
 *
 * @module
 */
import type { EdgeTransport } from "../edge_transport.ts";
import { type CurveIdentity, listenForCurve } from "./accept.ts";
import { curveListenerSource } from "./metrics.ts";
import { CURVE } from "./session.ts";

/** Lets agents in by the curve transport, at UDP sockets of its own. */
export function curveTransport(identity: CurveIdentity): EdgeTransport {
  return {
    name: CURVE,
    async listen(address, { runtime, metrics, admission }) {
      const opened = await listenForCurve({ ...identity, ...address, runtime, admission });
      const uncount = metrics.curve.add(curveListenerSource(opened));
      let closed = false;
      return {
        address: opened.address,
        close: () => {
          if (closed) return;
          closed = true;
          uncount();
          opened.close();
        },
      };
    },
  };
}
