/**
 * The interface between a multiplexer and its driver. The multiplexer has no sockets, timers or clock: its inputs are
 * bytes and the time; its outputs are events, bytes and the next deadline.
 *
 * @module
 */
import type { ErrorCode, InternalError, SallyportError } from "../../errors.ts";
import type { Bytes } from "../../bytes/bytes.ts";
import type { MuxStream } from "./snitun/stream.ts";

/** The clock used by a session's parts. */
export interface MuxClock {
  /** Requests a call of `session.tick()` at `atMs` of `nowMs`'s clock; an earlier request stays in force. */
  arm(atMs: number): void;
  /** Monotonic milliseconds. */
  nowMs(): number;
}

/**
 * The driver of a session with streams of class `Stream`. None of its methods may call back into the session before
 * it returns.
 */
export interface SessionHost<Stream> extends MuxClock {
  /** Requests one call of `session.turn()` soon, after the events being handled. */
  wake(): void;
  /** The peer has opened a stream; it must be attached or aborted, during the call or later. */
  opened(stream: Stream): void;
  /** The session refused or dropped a stream for this reason, to be counted; the session continues. */
  refused(code: ErrorCode): void;
  /** A stream is over, and `close` has been delivered to its handler. */
  closed(stream: Stream): void;
  /** The peer accepts no new streams, for this reason; open ones continue. Called once, if the dialect supports it. */
  goingAway?(code: ErrorCode): void;
  /** A stream's handler has thrown: the stream is over, the session continues. */
  fault?(error: InternalError): void;
  /** The session is over: nothing more is sent or received, and every stream has been notified. Called once. */
  ended(error: SallyportError): void;
}

/** The driver of a session whose frames share one byte stream. */
export interface MuxHost<Stream = MuxStream> extends SessionHost<Stream> {
  /** Sends all the bytes to the peer; false means to write no more until `session.writable()` is called. */
  write(bytes: Bytes): boolean;
  /** Stops (true) or resumes (false) reading the peer's bytes. */
  holdReading(hold: boolean): void;
}

/** The visitor behind a stream, as far as the session's wire format conveys it. */
export interface Caller {
  /** The visitor's IP address in canonical text; `0.0.0.0` when the protocol version can't carry it. */
  readonly address: string;
  /** The visitor's port, if the wire format carries it. */
  readonly port?: number;
  /** The server name that the visitor requested, if the wire format carries it. */
  readonly serverName?: string;
}

/** The address of an unknown {@link Caller}. */
export const UNKNOWN_ADDRESS = "0.0.0.0";
/** The caller if the wire format carries none, or if the stream isn't a visitor's. */
export const UNKNOWN_CALLER: Caller = { address: UNKNOWN_ADDRESS };

/** A session as its driver sees it, in any dialect. */
export interface SessionMachine<Stream> {
  /** SniTun's version; undefined in our own dialect. */
  readonly protocolVersion: number | undefined;
  /** Streams that are open or still deliver data received before their end. */
  readonly streams: number;
  /** Payload bytes, without headers. */
  readonly bytesSent: number;
  readonly bytesReceived: number;
  /** The last measured round trip, undefined before the first pong. */
  readonly rttMs: number | undefined;
  /** Starts the session's clocks. Call it once, when the driver is ready. */
  start(): void;
  /** Ends a turn: delivers to resumed streams, sends queued frames, and notifies waiting writers. */
  turn(): void;
  /** Performs due work, and arms the host for the next call. */
  tick(): void;
  /** Opens a stream. Throws `limit_exceeded`, or the reason why no more streams can be opened. */
  open(caller: Caller): Stream;
  /**
   * Opens no streams from now on: `open` throws `reason`. Notifies the peer if the dialect supports it; open streams
   * continue.
   */
  goAway(reason: SallyportError): void;
  /**
   * Asks the peer to open another session, if the dialect supports it. Until it has, both sides may open streams in this
   * one.
   */
  askToMove(): void;
  /** Ends the session and every stream in it. */
  end(error: SallyportError): void;
}

/** A session whose frames share one byte stream. */
export interface Multiplexer<Stream = MuxStream> extends SessionMachine<Stream> {
  /** Accepts bytes from the peer in chunks of any size. An invalid frame ends the session. */
  receive(chunk: Bytes): void;
  /** The host accepts bytes again after `write` returned false. */
  writable(): void;
}
