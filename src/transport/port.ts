/**
 * The transport port: a session over any transport. The edge opens a stream in it for each visitor; either side opens
 * streams for tunnel requests (src/tunnel).
 *
 * @module
 */
import type { InternalError, SallyportError } from "../errors.ts";
import type { Caller } from "../protocol/mux/host.ts";
import type { Address, ByteStream } from "../runtime/port.ts";

/** How long streams may take to finish at shutdown. */
export const SHUTDOWN_GRACE_MS = 5_000;

export type { Caller };

/** One stream of a session: bytes in both directions, and its caller. */
export interface SessionStream extends ByteStream {
  /** The caller: the visitor, where the stream is a visitor's. */
  readonly caller: Caller;
  /** Whether the other side has sent PAUSE: it is still delivering bytes it received. */
  readonly peerPaused: boolean;
}

/** Events of a {@link Session} for its owner. */
export interface SessionHandler {
  /** The other side has opened a stream. It waits, unread, until it is attached or aborted. */
  stream(stream: SessionStream): void;
  /** A stream is over. */
  streamClosed(): void;
  /** A stream was refused or dropped by the session itself, for this reason; the session goes on. */
  streamRefused(code: SallyportError["code"]): void;
  /**
   * The other side accepts no new streams, for this reason; open ones continue. Not every transport can signal it.
   * Called at most once.
   */
  goingAway?(code: SallyportError["code"]): void;
  /** A stream's handler on this side has thrown; the stream is over, the session goes on. */
  fault?(error: InternalError): void;
  /** The session is over, with the reason; every stream has been notified. The last call. */
  ended(error: SallyportError): void;
}

/** An authenticated connection between an agent and an edge. */
export interface Session {
  /** The transport's name: "snitun", "sealed", "curve", "quic"; "link" between nodes of a cluster. */
  readonly transport: string;
  /** The peer's address. */
  readonly remote: Address;
  /** SniTun's version; undefined for Sallyport's own transports. */
  readonly protocolVersion: number | undefined;
  /** The cipher of its headers. */
  readonly cipher: string;
  /**
   * Whether the two directions of a stream close separately. If not, after a visitor's end the response continues as
   * long as its bytes arrive (`HALF_CLOSE_GRACE_MS`), and an endpoint's end closes both.
   */
  readonly halfClose: boolean;
  /** Streams open now. */
  readonly streams: number;
  /** Payload bytes since the session began. */
  readonly bytesSent: number;
  /** The same, received. */
  readonly bytesReceived: number;
  /** The last measured round trip in milliseconds. */
  readonly rttMs: number | undefined;
  /** The transport's counts and measurements of this session, for logs; not provided by every transport. */
  summary?(): Readonly<Record<string, number>>;
  /**
   * Stops new streams: `open` throws `reason`, and the other side is notified if the transport can signal it. Open
   * streams continue.
   */
  goAway(reason: SallyportError): void;
  /**
   * Asks the other side to open another session. Until it has, both sides may open streams in this one. The Python
   * reference and SniTun protocol versions that don't know the request ignore it.
   */
  askToMove(): void;
  /** Opens a stream to the other side. Throws `limit_exceeded` or the session's end reason. */
  open(caller: Caller): SessionStream;
  /** Closes the session and its streams with this reason. */
  close(reason: SallyportError): void;
}
