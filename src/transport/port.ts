/**
 * The transport port: a session, however it crosses the network. The edge opens a stream in it for each visitor; either
 * side opens streams for tunnel requests (src/tunnel).
 *
 * @module
 */
import type { InternalError, SallyportError } from "../errors.ts";
import type { Caller } from "../protocol/mux/host.ts";
import type { Address, ByteStream } from "../runtime/port.ts";

/** At shutdown, streams may finish for this long. */
export const SHUTDOWN_GRACE_MS = 5_000;

export type { Caller };

/** One stream of a session: bytes both ways, and its caller. */
export interface SessionStream extends ByteStream {
  /** The caller: the visitor, where the stream is a visitor's. */
  readonly caller: Caller;
  /** The other side has asked to wait: it still hands on what it got. */
  readonly peerPaused: boolean;
}

/** What a {@link Session} tells its owner. */
export interface SessionHandler {
  /** The other side has opened a stream. It waits, unread, until it is attached or aborted. */
  stream(stream: SessionStream): void;
  /** A stream is over. */
  streamClosed(): void;
  /** A stream was refused or dropped by the session itself, for this reason; the session goes on. */
  streamRefused(code: SallyportError["code"]): void;
  /**
   * The other side wants no new streams, for this reason; those that are open go on. Not every transport can say it.
   * Called at most once.
   */
  goingAway?(code: SallyportError["code"]): void;
  /** A stream's handler of this side has thrown; the stream is over, the session goes on. */
  fault?(error: InternalError): void;
  /** The session is over, with the reason; every stream has been told. The last call. */
  ended(error: SallyportError): void;
}

/** An authenticated connection between an agent and an edge. */
export interface Session {
  /** How it crosses the network: "snitun", "sealed", "curve". */
  readonly transport: string;
  /** The peer's address. */
  readonly remote: Address;
  /** SniTun's version; undefined for the transports of our own. */
  readonly protocolVersion: number | undefined;
  /** The cipher of its headers. */
  readonly cipher: string;
  /**
   * The two directions of a stream end one by one. Where they don't, a visitor's end lets the answer go on as long as
   * its bytes come (`HALF_CLOSE_GRACE_MS`), and an endpoint's end is the end of both.
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
  /** What the transport has counted and measured of this session, for logs; not every transport does. */
  summary?(): Readonly<Record<string, number>>;
  /**
   * No new streams from now on: `open` throws `reason`, and the other side is told where the transport can say it.
   * Streams that are open go on.
   */
  goAway(reason: SallyportError): void;
  /**
   * Asks the other side to open another session. Until it has, both sides may open streams in this one. The Python
   * reference and protocol versions of SniTun that do not know the request pass it over.
   */
  askToMove(): void;
  /** Opens a stream to the other side. Throws `limit_exceeded` or what the session ended with. */
  open(caller: Caller): SessionStream;
  /** Ends the session and its streams for this reason. */
  close(reason: SallyportError): void;
}
