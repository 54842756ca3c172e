/**
 * Sources of a daemon's tunnels. They can be attached and detached while it runs.
 *
 * @module
 */
import { SallyportError } from "../../errors.ts";
import type { Carrier } from "../carriers/carrier.ts";
import type { Tunnel } from "../tunnel.ts";

/** Receives connections and tunnels from a source. */
export interface TunnelSink {
  /** A new incoming connection, to be authenticated; not attached yet. */
  carrier(carrier: Carrier): void;
  /** A tunnel whose other side has been authenticated already, as an edge's agents have. */
  tunnel(tunnel: Tunnel): void;
}

/** Provides future tunnels, such as a listener. */
export interface TunnelSource {
  /** Starts passing arrivals to `sink`. */
  start(sink: TunnelSink): void;
  /** Stops passing arrivals; earlier ones stay. */
  stop(): void;
}

/**
 * A source fed by the caller: connections passed to it go to the daemon it is attached to, or are closed if there is
 * none.
 *
 * @example
 * ```ts const source = createTunnelSource(); daemon.attach(source); const edge = createEdge({ runtime, ring, tunnels: {
 * router: () => router, opened: source.tunnel } });
 * ```
 */
export function createTunnelSource(): TunnelSource & TunnelSink {
  let sink: TunnelSink | undefined;
  const nobody = () =>
    new SallyportError("shutdown", "Cannot keep tunnel: no daemon accepts tunnels here", {
      side: "local",
      retryable: true,
    });
  return {
    start: (to) => void (sink = to),
    stop: () => void (sink = undefined),
    carrier: (carrier) => sink === undefined ? carrier.close(nobody()) : sink.carrier(carrier),
    tunnel: (tunnel) => sink === undefined ? tunnel.close(nobody()) : sink.tunnel(tunnel),
  };
}
