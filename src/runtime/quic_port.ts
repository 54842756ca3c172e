/**
 * The QUIC that Sallyport needs from the runtime: connections that carry streams opened by either side. Part of the
 * runtime port; adapters are `deno_quic.ts`, `bun_quic.ts` and, in memory, `quic_memory.ts`.
 *
 * @module
 */
import type { SallyportError } from "../errors.ts";
import type { Address, Bytes, ByteStream } from "./port.ts";

/** QUIC: keep-alive interval of a connection (snocat's), so that NAT mappings persist. */
export const QUIC_KEEP_ALIVE_MS = 5_000;
/** QUIC: idle timeout of a connection (snocat's). */
export const QUIC_IDLE_MS = 30_000;
/**
 * QUIC: streams that a peer may have open at once: a session's, its control stream, and some that are closing. Also the
 * maximum number of our own streams waiting for the peer's permission.
 */
export const QUIC_STREAMS_MAX = 4_096 + 512;
/**
 * Delay between a stopping QUIC connection's last stream and its close, since closing drops data in flight. On Bun a
 * socket stays open as long, so that its connections' last packets are sent.
 */
export const QUIC_FAREWELL_MS = 300;

/**
 * QUIC connections of a listener in their handshake, and as many that haven't logged in: each takes 45 to 380 KB in the
 * runtime (measured on Deno), far more than a TCP connection.
 */
export const QUIC_PENDING_MAX = 1_024;
/** Pending QUIC connections from one address (an IPv6 /64 counts as one). */
export const QUIC_PENDING_PER_SOURCE_MAX = 64;

/** A QUIC connection: streams opened by either side, and at least one certificate. */
export interface QuicConn {
  /** The peer's current address; it may change. */
  readonly remote: Address;
  /** The negotiated application protocol. */
  readonly alpn: string;
  /** SHA-256 of the peer's certificate (DER), 32 bytes; undefined if the peer sent none, and where Deno hides it. */
  readonly peerFingerprint: Bytes | undefined;
  /** Sets the event handler. Nothing is delivered before. */
  attach(handler: QuicConnHandler): void;
  /**
   * Opens a bidirectional stream; waits while the peer allows no more. Rejects with the connection's end reason, and
   * with `limit_exceeded` if QUIC_STREAMS_MAX are already waiting.
   */
  open(): Promise<ByteStream>;
  /**
   * Closes the connection and its streams with this reason; `ended` follows. The last bytes written may be lost, so to
   * deliver a final message, send it and let the peer close.
   */
  close(reason: SallyportError): void;
}

/** Events of a {@link QuicConn} for its owner. */
export interface QuicConnHandler {
  /** The peer opened a stream. It waits, unread, until it is attached or aborted. */
  stream(stream: ByteStream): void;
  /** The connection is over; every stream has been notified. The last call. */
  ended(error: SallyportError): void;
}

/** A certificate chain, its own first, and its private key (PKCS #8), both as PEM text. */
export interface QuicIdentity {
  readonly certificatePem: string;
  readonly keyPem: string;
}

/** Options of {@link Quic.listen}. */
export interface QuicListenOptions {
  /** An IP address in text, IPv6 without brackets. */
  readonly host: string;
  /** 0 takes any free port. */
  readonly port: number;
  readonly identity: QuicIdentity;
  /** Application protocols, the preferred one first. */
  readonly alpn: readonly string[];
  /** A connection has completed its handshake; it must be attached before the call returns. */
  accept(conn: QuicConn): void;
  /** A handshake failed or was abandoned; others aren't delayed by it. */
  refused?(error: SallyportError): void;
}

/** Which certificates a client trusts. */
export type QuicTrust =
  /** The certificate with this SHA-256 (DER), regardless of its name and issuer. */
  | { readonly fingerprint: Bytes }
  /** Certificates that chain to these authorities and contain the name. Deno also accepts public authorities. */
  | { readonly authoritiesPem: string; readonly serverName: string };

/** Options of {@link Quic.dial}. */
export interface QuicDialOptions {
  /** A name, or an IP address in text, IPv6 without brackets. */
  readonly host: string;
  readonly port: number;
  /** The application protocol; one, since Bun's client offers no more. */
  readonly alpn: string;
  readonly trust: QuicTrust;
  /** Aborts the dial: rejects with the signal's reason and releases all resources. */
  readonly signal?: AbortSignal;
  /** Handshake timeout; on expiry the dial rejects with `deadline_exceeded`. */
  readonly timeoutMs: number;
}

/** A listening QUIC endpoint. */
export interface QuicListener {
  /** The bound address, with the actual port if 0 was requested. */
  readonly address: Address;
  /** Stops accepting; established connections continue until their own `close`, or `end`. */
  close(): void;
  /** Closes the socket and everything on it. */
  end(): void;
}

/** Capabilities of the runtime's QUIC, so that callers can compensate for missing ones. */
export interface QuicCapabilities {
  /** `pause` of a stream reaches the sender; without it incoming data accumulates here. */
  readonly receiveBackPressure: boolean;
  /** `abort` of a stream reaches the peer as a reset; without it the peer sees a clean end. */
  readonly reset: boolean;
  /** Streams that a server may have open at once on a connection dialled here. */
  readonly acceptedStreams: number;
  /** TLS secrets are written to the file that `SSLKEYLOGFILE` names. */
  readonly keyLog: boolean;
  /**
   * Datagrams from strangers to a listener take a bounded share of the thread. Without it a few hundred Initial packets
   * per second stall the whole process.
   */
  readonly withstandsFloods: boolean;
  /** A client must validate its source address (Retry) before the server keeps any state for it. */
  readonly retry: boolean;
}

/** The runtime's QUIC. */
export interface Quic {
  readonly capabilities: QuicCapabilities;
  /** Rejects with `address_in_use`, `connection_refused` (address unavailable) or `config_invalid` (identity). */
  listen(options: QuicListenOptions): Promise<QuicListener>;
  /**
   * Rejects with `certificate_refused` (side "peer"), `deadline_exceeded` (no answer), `host_unknown`,
   * `connection_lost` (the peer refused, for example the application protocol), or the signal's reason.
   */
  dial(options: QuicDialOptions): Promise<QuicConn>;
}
