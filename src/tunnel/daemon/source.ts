/**
 * Sources: where a daemon's tunnels come from. They are attached and detached while it runs.
 *
 * @module
 */
import { SallyportError } from "../../errors.ts";
import type { Carrier } from "../carriers/carrier.ts";
import type { Tunnel } from "../tunnel.ts";

/** Takes what a source gives. */
export interface TunnelSink {
  /** A connection that somebody opened, to be authenticated; nothing of it has been attached. */
  carrier(carrier: Carrier): void;
  /** A tunnel whose other side has been authenticated already, as an edge's agents have. */
  tunnel(tunnel: Tunnel): void;
}

/** Gives tunnels to be, such as a listener. */
export interface TunnelSource {
  /** From now on what arrives goes to `sink`. */
  start(sink: TunnelSink): void;
  /** Gives nothing more; what was given stays. */
  stop(): void;
}

/**
 * A source that is fed by hand: what is put into it goes to the daemon that it's attached to, and is closed where there
 * is none.
 *
 * @example
 * ```ts
 * const source = createTunnelSource();
 * daemon.attach(source);
 * const edge = createEdge({ runtime, ring, tunnels: { router: () => router, opened: source.tunnel } });
 * ```
 */
export function createTunnelSource(): TunnelSource & TunnelSink {
  let sink: TunnelSink | undefined;
  const nobody = () =>
    new SallyportError("shutdown", "Cannot keep tunnel: nobody takes tunnels here", {
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
