/**
 * What a multiplexer asks of its driver. The multiplexer has no sockets, no timers and no clock: bytes and the time go
 * in, events, bytes and the next deadline come out.
 *
 * @module
 */
import type { ErrorCode, InternalError, SallyportError } from "../../errors.ts";
import type { Bytes } from "../../bytes/bytes.ts";
import type { MuxStream } from "./snitun/stream.ts";

/** The time, as a session's parts ask for it. */
export interface MuxClock {
  /** Asks for a call of `session.tick()` at `atMs` of `nowMs`'s clock; an earlier request stays good. */
  arm(atMs: number): void;
  /** Monotonic milliseconds. */
  nowMs(): number;
}

/**
 * The driver of a session with streams of class `Stream`. None of its methods may call back into the session before
 * it returns.
 */
export interface SessionHost<Stream> extends MuxClock {
  /** Asks for one call of `session.turn()` soon, behind the events that are being handled. */
  wake(): void;
  /** The peer has opened a stream; it must be attached or aborted, during the call or later. */
  opened(stream: Stream): void;
  /** The session refused or dropped a stream for this reason, to be counted; the session goes on. */
  refused(code: ErrorCode): void;
  /** A stream is over, its handler has heard `close`. */
  closed(stream: Stream): void;
  /** The peer wants no new streams, for this reason; open ones go on. Called once, where the dialect can say it. */
  goingAway?(code: ErrorCode): void;
  /** A stream's handler has thrown; the stream is over, the session goes on. */
  fault?(error: InternalError): void;
  /** The session is over: nothing is sent or received any more, every stream has been told. Called once. */
  ended(error: SallyportError): void;
}

/** The driver of a session whose frames share one byte stream. */
export interface MuxHost<Stream = MuxStream> extends SessionHost<Stream> {
  /** Sends bytes to the peer, all of them; false means: no more until `session.writable()` is called. */
  write(bytes: Bytes): boolean;
  /** Stops (true) or resumes (false) reading the peer's bytes. */
  holdReading(hold: boolean): void;
}

/** The visitor behind a stream, as far as the session's wire format describes it. */
export interface Caller {
  /** The visitor's IP address in canonical text; `0.0.0.0` when the protocol version can't carry it. */
  readonly address: string;
  /** The visitor's port, where the wire carries it. */
  readonly port?: number;
  /** The name that the visitor asked for, where the wire carries it. */
  readonly serverName?: string;
}

/** The address of a {@link Caller} that nothing is known of. */
export const UNKNOWN_ADDRESS = "0.0.0.0";
/** The caller where the wire carries none, or where the stream is no visitor's. */
export const UNKNOWN_CALLER: Caller = { address: UNKNOWN_ADDRESS };

/** A session as its driver sees it, in any dialect. */
export interface SessionMachine<Stream> {
  /** SniTun's version; undefined in the dialect of our own. */
  readonly protocolVersion: number | undefined;
  /** Streams that are open or still deliver what came before their end. */
  readonly streams: number;
  /** Payload bytes, without headers. */
  readonly bytesSent: number;
  readonly bytesReceived: number;
  /** The last measured round trip, undefined before the first pong. */
  readonly rttMs: number | undefined;
  /** Starts the session's clocks; to be called once, when the driver is ready. */
  start(): void;
  /** The end of a turn: delivers what was resumed, sends what was queued, tells those that wait. */
  turn(): void;
  /** Does what is due, and asks the host for the next call. */
  tick(): void;
  /** Opens a stream. Throws `limit_exceeded`, or why there are no new ones any more. */
  open(caller: Caller): Stream;
  /**
   * Opens no streams from now on: `open` throws `reason`. Tells the peer where the dialect can say it; open streams go
   * on.
   */
  goAway(reason: SallyportError): void;
  /**
   * Tells the peer to open another session, where the dialect can say it. Until it has, both sides may open streams in
   * this one.
   */
  askToMove(): void;
  /** Ends the session and every stream in it. */
  end(error: SallyportError): void;
}

/** A session whose frames share one byte stream. */
export interface Multiplexer<Stream = MuxStream> extends SessionMachine<Stream> {
  /** Takes bytes of the peer, in any pieces. A fault in them ends the session. */
  receive(chunk: Bytes): void;
  /** The host takes bytes again after `write` said false. */
  writable(): void;
}
