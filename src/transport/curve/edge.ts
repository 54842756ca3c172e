/**
 * The curve transport as an edge has it.
 *
 * @module
 */
import type { EdgeTransport } from "../edge_transport.ts";
import { type CurveIdentity, listenCurve } from "./accept.ts";
import { curveListenerSource } from "./metrics.ts";
import { CURVE } from "./session.ts";

/** Lets agents in by the curve transport, at UDP sockets of its own. */
export function curveTransport(identity: CurveIdentity): EdgeTransport {
  return {
    name: CURVE,
    async listen(address, { runtime, metrics, admission }) {
      const opened = await listenCurve({ ...identity, ...address, runtime, admission });
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
