/**
 * The edge's curve transport.
 *
 * @module
 */
import { curvePatience } from "../../protocol/curve/options.ts";
import type { QueueLimits } from "../../protocol/mux/queue_limits.ts";
import type { EdgeTransport } from "../edge_transport.ts";
import type { PortGroup } from "../port_group.ts";
import { type CurveIdentity, listenCurve } from "./accept.ts";
import { curveListenerSource, CurveMetrics } from "./metrics.ts";
import { CURVE } from "./session.ts";

/** Options of {@link curveTransport}. */
export interface CurveTransportOptions extends CurveIdentity {
  /** Only the peer timeout is used. Defaults apply when absent. */
  readonly queueLimits?: QueueLimits;
  /** The processes that share the UDP ports. Defaults to this one alone. */
  readonly group?: PortGroup | undefined;
}

/** Accepts agents over the curve transport, on its own UDP sockets. */
export function curveTransport({ queueLimits, ...identity }: CurveTransportOptions): EdgeTransport {
  return {
    name: CURVE,
    async listen(address, { runtime, metrics, admission }) {
      const opened = await listenCurve({
        ...identity,
        ...address,
        runtime,
        admission,
        options: curvePatience(queueLimits),
      });
      const uncount = metrics.group(CurveMetrics).add(curveListenerSource(opened));
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
