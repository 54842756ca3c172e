/**
 * QUIC as a source of tunnels, and the way to one.
 *
 * @module
 */
import type { SallyportError } from "../../errors.ts";
import type { Address, Runtime } from "../../runtime/port.ts";
import type { QuicIdentity, QuicTrust } from "../../runtime/quic_port.ts";
import type { Carrier } from "../carriers/carrier.ts";
import { QuicCarrier } from "../carriers/quic_carrier.ts";
import { UnreadBytes } from "../carriers/quic_stream.ts";
import { createTunnelSource, type TunnelSource } from "./source.ts";
import { DIAL_TIMEOUT_MS } from "../../runtime/port.ts";

/** The application protocol (ALPN) of tunnels, where none is named. */
export const TUNNEL_ALPN = "sallyport-tunnel-1";

/** What {@link listenQuicTunnels} takes. */
export interface QuicTunnelListenOptions {
  readonly runtime: Runtime;
  /** Where to listen, over UDP; port 0 takes any free one. */
  readonly listen: Address;
  readonly identity: QuicIdentity;
  /** The application protocol; {@link TUNNEL_ALPN} when absent. */
  readonly alpn?: string;
  /** A handshake failed; others aren't held up by it. */
  refused?(error: SallyportError): void;
}

/** A source that listens. */
export interface QuicTunnelSource extends TunnelSource {
  /** Where it listens. */
  readonly address: Address;
  /** Ends the socket with every tunnel on it; {@link TunnelSource.stop} leaves those that stand. */
  end(): void;
}

/**
 * Listens for QUIC connections, each of which a daemon authenticates. Connections that come while the source isn't
 * attached are closed. Rejects with `not_supported`, or as QUIC's `listen` does.
 *
 * @example
 * ```ts
 * const source = await listenQuicTunnels({ runtime, listen: { host: "::", port: 9443 }, identity });
 * daemon.attach(source);
 * ```
 */
export async function listenQuicTunnels(options: QuicTunnelListenOptions): Promise<QuicTunnelSource> {
  const { runtime, listen, identity, alpn = TUNNEL_ALPN } = options;
  const quic = await runtime.quic();
  const { capabilities } = quic;
  const source = createTunnelSource();
  const unread = new UnreadBytes();
  const listener = await quic.listen({
    ...listen,
    identity,
    alpn: [alpn],
    accept: (conn) => source.carrier(new QuicCarrier({ conn, clock: runtime.clock, capabilities, unread })),
    refused: (error) => options.refused?.(error),
  });
  return {
    address: listener.address,
    start: (sink) => source.start(sink),
    stop: () => source.stop(),
    end: () => listener.end(),
  };
}

/** What {@link dialQuicTunnel} takes. */
export interface QuicTunnelDialOptions {
  readonly runtime: Runtime;
  readonly server: Address;
  /** Whose certificate is believed. */
  readonly trust: QuicTrust;
  /** As the listener's. */
  readonly alpn?: string;
  /** Gives up. */
  readonly signal?: AbortSignal;
}

/** Connects to a {@link listenQuicTunnels}; `joinTunnel` makes a tunnel of it. Rejects as QUIC's `dial` does. */
export async function dialQuicTunnel(options: QuicTunnelDialOptions): Promise<Carrier> {
  const { runtime, server, trust, alpn = TUNNEL_ALPN, signal } = options;
  const quic = await runtime.quic();
  const conn = await quic.dial({ ...server, alpn, trust, signal, timeoutMs: DIAL_TIMEOUT_MS });
  return new QuicCarrier({ conn, clock: runtime.clock, capabilities: quic.capabilities });
}
