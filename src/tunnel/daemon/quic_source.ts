/**
 * QUIC as a source of tunnels, and its dialler.
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

/** The default application protocol (ALPN) of tunnels. */
export const TUNNEL_ALPN = "sallyport-tunnel-1";

/** Options of {@link listenQuicTunnels}. */
export interface QuicTunnelListenOptions {
  readonly runtime: Runtime;
  /** The UDP address to listen on; port 0 takes any free one. */
  readonly listen: Address;
  readonly identity: QuicIdentity;
  /** The application protocol. Defaults to {@link TUNNEL_ALPN}. */
  readonly alpn?: string;
  /** A handshake failed; others aren't delayed by it. */
  refused?(error: SallyportError): void;
}

/** A source that listens. */
export interface QuicTunnelSource extends TunnelSource {
  /** The listening address. */
  readonly address: Address;
  /** Closes the socket and every tunnel on it; {@link TunnelSource.stop} keeps established ones. */
  end(): void;
}

/**
 * Listens for QUIC connections, each of which a daemon authenticates. Connections that arrive while the source isn't
 * attached are closed. Rejects with `not_supported`, or as QUIC's `listen` does.
 *
 * @example
 * ```ts const source = await listenQuicTunnels({ runtime, listen: { host: "::", port: 9443 }, identity });
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

/** Options of {@link dialQuicTunnel}. */
export interface QuicTunnelDialOptions {
  readonly runtime: Runtime;
  readonly server: Address;
  /** Which server certificates are trusted. */
  readonly trust: QuicTrust;
  /** The application protocol; must match the listener's. */
  readonly alpn?: string;
  /** Aborts the attempt. */
  readonly signal?: AbortSignal;
}

/**
 * Connects to a {@link listenQuicTunnels} source; `joinTunnel` turns the carrier into a tunnel. Rejects as QUIC's
 * `dial` does.
 */
export async function dialQuicTunnel(options: QuicTunnelDialOptions): Promise<Carrier> {
  const { runtime, server, trust, alpn = TUNNEL_ALPN, signal } = options;
  const quic = await runtime.quic();
  const conn = await quic.dial({ ...server, alpn, trust, signal, timeoutMs: DIAL_TIMEOUT_MS });
  return new QuicCarrier({ conn, clock: runtime.clock, capabilities: quic.capabilities });
}
