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
 * Carries a session's frames. A `Lane` is what carries those of one stream: its number, where all share one byte
 * stream, or a stream of its own below. Frames that come in are given to the session's {@link CreditSink}.
 */
export interface FrameChannel<Lane> extends CoreSender<CreditStream<Lane>> {
  /** A lane for a new stream of this side. */
  newLane(): Lane;
  /** The lane is `stream`'s from now on: its OPEN has been sent, or has come. */
  opened(stream: CreditStream<Lane>): void;
  /** Sends a frame ahead of all data: one of a stream's, or the session's where there is no lane. */
  control(lane: Lane | undefined, type: number, body: Bytes): void;
  /** A CREDIT is due for a stream, or for the session; {@link CreditSink.takeGrant} says how much when it goes out. */
  creditDue(stream: CreditStream<Lane> | undefined): void;
  /** The peer takes so many bytes more, over all streams. */
  credited(bytes: number): void;
  /** Writes `chunk` at once, without queueing, as far as that can be; says how much it was. */
  direct(stream: CreditStream<Lane>, chunk: Bytes): number;
  /** Nothing more is sent on the lane: both directions have ended, or the stream was reset. */
  finish(lane: Lane): void;
  /** The session is over: what the lane still holds is dropped. */
  abort(lane: Lane): void;
  /** The handler of the stream has heard the end: nothing of it stays. */
  closed(stream: CreditStream<Lane>): void;
  /** A PONG came that answers none of the session's pings; `id` is the callee's. */
  strayPong?(id: Bytes): void;
}

/** What a channel tells its session. Methods that take frames throw what ends the session. */
export interface CreditSink<Lane> {
  /** Monotonic milliseconds. */
  nowMs(): number;
  /** Neither side goes away: new streams are welcome. */
  readonly takesStreams: boolean;
  /** There is something to flush. */
  wake(): void;
  /** Something came from the peer. */
  alive(): void;
  /** There were enough frames without work for now: those that come have to wait. */
  readonly tired: boolean;
  /** OPEN came on a lane of the peer's. */
  accept(lane: Lane, body: Bytes): void;
  /** CREDIT, FIN or RESET came for a stream, undefined where that is over; false for any other type. */
  streamFrame(stream: CreditStream<Lane> | undefined, type: number, body: Bytes): boolean;
  /** CREDIT, GOAWAY, PING or PONG came for the session; false for any other type. */
  sessionFrame(type: number, body: Bytes): boolean;
  /** A DATA frame begins; says which stream takes its bytes, undefined to drop them as they come. */
  dataFrame(stream: CreditStream<Lane> | undefined, size: number): CreditStream<Lane> | undefined;
  /** A piece of the current DATA frame; valid during the call. */
  data(stream: CreditStream<Lane>, piece: Bytes): void;
  /** `byteLength` bytes of payload have left `stream`'s queue. */
  sent(stream: CreditStream<Lane>, byteLength: number): void;
  /** The FIN that stood behind `stream`'s data is out. */
  finSent(stream: CreditStream<Lane>): void;
  /** How much a CREDIT that goes out now grants a stream, or the session; 0 for none. */
  takeGrant(stream: CreditStream<Lane> | undefined): number;
  /** The lane of a stream broke off. */
  lost(stream: CreditStream<Lane>, error: unknown): void;
  /** What came can't be read. */
  unreadable(error: unknown): void;
  /** No numbers are left for new streams, or the like: the session says that it goes away. */
  goAway(reason: SallyportError): void;
  /** The session can't go on. */
  end(error: SallyportError): void;
}
