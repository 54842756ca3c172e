/**
 * The channel for the frames of a credit session: one byte stream that all streams share, or one stream for each visitor.
 *
 * @module
 */
import type { Bytes } from "../../../bytes/bytes.ts";
import type { SallyportError } from "../../../errors.ts";
import type { CoreSender } from "../session_core.ts";
import type { CreditStream } from "./stream.ts";

/**
 * Carries a session's frames. A `Lane` carries the frames of one stream: it is a stream number if all share one byte
 * stream, or a separate transport stream. Incoming frames are passed to the session's {@link CreditSink}.
 */
export interface FrameChannel<Lane> extends CoreSender<CreditStream<Lane>> {
  /** Returns a lane for a new local stream. */
  newLane(): Lane;
  /** Assigns the lane to `stream`: its OPEN has been sent or received. */
  opened(stream: CreditStream<Lane>): void;
  /** Sends a frame ahead of all data: a stream's, or the session's if there is no lane. */
  control(lane: Lane | undefined, type: number, body: Bytes): void;
  /** A CREDIT is due for a stream or the session. {@link CreditSink.takeGrant} returns the amount when it is sent. */
  creditDue(stream: CreditStream<Lane> | undefined): void;
  /** The peer has granted this many more bytes over all streams. */
  credited(bytes: number): void;
  /** Writes as much of `chunk` as possible at once, without queueing. Returns the number of bytes written. */
  direct(stream: CreditStream<Lane>, chunk: Bytes): number;
  /** Nothing more is sent on the lane: both directions have ended, or the stream was reset. */
  finish(lane: Lane): void;
  /** The session is over: drops everything queued on the lane. */
  abort(lane: Lane): void;
  /** The stream's handler has seen its end: drops all state for the stream. */
  closed(stream: CreditStream<Lane>): void;
  /** A PONG arrived that answers none of the session's pings. The callee owns `id`. */
  strayPong?(id: Bytes): void;
}

/** Events that a channel reports to its session. An error thrown by a method that takes frames ends the session. */
export interface CreditSink<Lane> {
  /** Monotonic milliseconds. */
  nowMs(): number;
  /** Neither side is going away: new streams are accepted. */
  readonly takesStreams: boolean;
  /** Data is waiting to be flushed. */
  wake(): void;
  /** Something was received from the peer. */
  alive(): void;
  /** The budget for no-op frames is used up for now: further frames have to wait. */
  readonly tired: boolean;
  /** Too much payload was wasted: bytes that arrive have to wait. */
  readonly wasteful: boolean;
  /** When they may be read again. */
  readonly restEndsMs: number;
  /** OPEN was received on one of the peer's lanes. */
  accept(lane: Lane, body: Bytes): void;
  /** Handles CREDIT, FIN or RESET for a stream (undefined if it is over). False for any other type. */
  streamFrame(stream: CreditStream<Lane> | undefined, type: number, body: Bytes): boolean;
  /** Handles CREDIT, GOAWAY, PING or PONG for the session. False for any other type. */
  sessionFrame(type: number, body: Bytes): boolean;
  /** A DATA frame begins. Returns the stream that takes its bytes, or undefined to discard them. */
  dataFrame(stream: CreditStream<Lane> | undefined, size: number): CreditStream<Lane> | undefined;
  /** A piece of the current DATA frame; valid during the call. */
  data(stream: CreditStream<Lane>, piece: Bytes): void;
  /** `byteLength` bytes of payload have left `stream`'s queue. */
  sent(stream: CreditStream<Lane>, byteLength: number): void;
  /** The FIN queued behind `stream`'s data has been sent. */
  finSent(stream: CreditStream<Lane>): void;
  /** The amount that a CREDIT sent now grants a stream or the session; 0 for none. */
  takeGrant(stream: CreditStream<Lane> | undefined): number;
  /** A stream's lane has failed. */
  lost(stream: CreditStream<Lane>, error: unknown): void;
  /** The received bytes can't be parsed. */
  unreadable(error: unknown): void;
  /** No stream numbers are left, or a similar limit was reached: the session sends GOAWAY. */
  goAway(reason: SallyportError): void;
  /** The session can't continue. */
  end(error: SallyportError): void;
}
