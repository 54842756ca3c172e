/**
 * QUIC as Sallyport needs it of the machine below: connections that carry streams opened by either side. Part of the
 * runtime port; adapters are `deno_quic.ts`, `bun_quic.ts` and, in memory, `quic_memory.ts`.
 *
 * @module
 */
import type { SallyportError } from "../errors.ts";
import type { Address, Bytes, ByteStream } from "./port.ts";

/** QUIC: a connection says something this often (snocat's), so that mappings of a NAT stay, */
export const QUIC_KEEP_ALIVE_MS = 5_000;
/** and one that has heard nothing for this long is over (snocat's). */
export const QUIC_IDLE_MS = 30_000;
/**
 * QUIC: streams that a peer may have open at once: a session's, its control stream, and some that are ending. No more of
 * our own may wait until the peer allows them.
 */
export const QUIC_STREAMS_MAX = 4_096 + 512;
/**
 * A QUIC connection that stops is closed so long after its last stream: closing drops what is still on its way. On Bun a
 * socket stays as long, so that what its connections say last gets out.
 */
export const QUIC_FAREWELL_MS = 300;

/**
 * QUIC connections of a listener in their handshake, and as many that haven't logged in: each holds some 400 KB in the
 * runtime (measured on Deno), far more than a TCP connection.
 */
export const QUIC_PENDING_MAX = 1_024;
/** Of those, from one address (an IPv6 /64 counts as one). */
export const QUIC_PENDING_PER_SOURCE_MAX = 64;

/** A QUIC connection: streams either way, one certificate at least. */
export interface QuicConn {
  /** Where the peer is now; it may move. */
  readonly remote: Address;
  /** The application protocol that both sides chose. */
  readonly alpn: string;
  /** SHA-256 of the peer's certificate (DER), 32 bytes; undefined where the peer showed none, and where Deno hides it. */
  readonly peerFingerprint: Bytes | undefined;
  /** Says who hears of it. Nothing is delivered before. */
  attach(handler: QuicConnHandler): void;
  /**
   * Opens a bidirectional stream; waits while the peer allows no more of them. Rejects with what the connection ended
   * with, and with `limit_exceeded` where QUIC_STREAMS_MAX wait already.
   */
  open(): Promise<ByteStream>;
  /**
   * Ends the connection and its streams for this reason; `ended` follows. What was written last may get lost on the
   * way, so whoever has something to say says it and leaves the closing to the peer.
   */
  close(reason: SallyportError): void;
}

/** What a {@link QuicConn} tells its owner. */
export interface QuicConnHandler {
  /** The peer opened a stream. It waits, unread, until it is attached or aborted. */
  stream(stream: ByteStream): void;
  /** The connection is over; every stream has been told. The last call. */
  ended(error: SallyportError): void;
}

/** A certificate chain, its own first, and its private key (PKCS #8), both as PEM text. */
export interface QuicIdentity {
  readonly certificatePem: string;
  readonly keyPem: string;
}

/** What {@link Quic.listen} takes. */
export interface QuicListenOptions {
  /** An IP address in text, IPv6 without brackets. */
  readonly host: string;
  /** 0 takes any free port. */
  readonly port: number;
  readonly identity: QuicIdentity;
  /** Application protocols, the preferred one first. */
  readonly alpn: readonly string[];
  /** A connection has come through the handshake; it must be attached before the call returns. */
  accept(conn: QuicConn): void;
  /** A handshake failed or was given up; others aren't held up by it. */
  refused?(error: SallyportError): void;
}

/** Whom a client believes. */
export type QuicTrust =
  /** The certificate with this SHA-256 (DER), whatever name and issuer stand in it. */
  | { readonly fingerprint: Bytes }
  /** Certificates that chain to these authorities and carry the name. Deno takes the public authorities', too. */
  | { readonly authoritiesPem: string; readonly serverName: string };

/** What {@link Quic.dial} takes. */
export interface QuicDialOptions {
  /** A name, or an IP address in text, IPv6 without brackets. */
  readonly host: string;
  readonly port: number;
  /** The application protocol; one, since Bun's client offers no more. */
  readonly alpn: string;
  readonly trust: QuicTrust;
  /** Gives up when it is aborted: rejects with its reason, and nothing stays behind. */
  readonly signal?: AbortSignal;
  /** Until the handshake is through; beyond it the dial rejects with `deadline_exceeded`. */
  readonly timeoutMs: number;
}

/** An open QUIC endpoint that accepts. */
export interface QuicListener {
  /** Where it is, with the actual port where 0 was asked for. */
  readonly address: Address;
  /** Stops accepting; connections that stand go on until `close` of each, or `end`. */
  close(): void;
  /** Ends the socket with everything on it. */
  end(): void;
}

/** What the QUIC below can't do, so that who builds on it can make up for it. */
export interface QuicCapabilities {
  /** `pause` of a stream reaches the sender; without it what comes in piles up here. */
  readonly receiveBackPressure: boolean;
  /** `abort` of a stream reaches the peer as a reset; without it the peer sees an orderly end. */
  readonly reset: boolean;
  /** Streams that a server may have open at once on a connection that was dialled here. */
  readonly acceptedStreams: number;
  /** TLS secrets are written to the file that `SSLKEYLOGFILE` names. */
  readonly keyLog: boolean;
  /**
   * Datagrams that strangers send to a listener take a bounded share of the thread. Without it a few hundred Initial
   * packets a second stop the whole process.
   */
  readonly withstandsFloods: boolean;
  /** A client must show that it has the address it comes from before the server keeps anything of it (Retry). */
  readonly retry: boolean;
}

/** The runtime's QUIC. */
export interface Quic {
  readonly capabilities: QuicCapabilities;
  /** Rejects with `address_in_use`, `connection_refused` (address not to be had) or `config_invalid` (identity). */
  listen(options: QuicListenOptions): Promise<QuicListener>;
  /**
   * Rejects with `certificate_refused` (side "peer"), `deadline_exceeded` (nobody answers), `host_unknown`,
   * `connection_lost` (the peer said no, to the application protocol for one), or the signal's reason.
   */
  dial(options: QuicDialOptions): Promise<QuicConn>;
}
