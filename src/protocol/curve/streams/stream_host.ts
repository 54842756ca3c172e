/**
 * What a stream and its connection ask of each other.
 *
 * @module
 */
import type { MemoryBudget } from "../../../bytes/memory_budget.ts";
import { type InternalError, SallyportError } from "../../../errors.ts";
import type { CurveStream } from "./stream.ts";

/** Bounds of a stream's queues in bytes. */
export interface StreamLimits {
  /** Credit for received bytes: what may be held for a reader that doesn't read. */
  readonly windowBytes: number;
  /** `write` says false from here, `drain` comes at `sendLowBytes`, beyond `sendMaxBytes` the stream is reset. */
  readonly sendHighBytes: number;
  readonly sendLowBytes: number;
  readonly sendMaxBytes: number;
  /** The process's: the buffers count what they hold in it. */
  readonly memory?: MemoryBudget;
}

/** What a stream asks of its connection. None of these calls the stream back before it returns. */
export interface StreamHost {
  /** The stream may have something to send. */
  wantsToSend(stream: CurveStream): void;
  /** The stream has something to tell its handler: call {@link CurveStream.turn} soon. */
  wantsTurn(stream: CurveStream): void;
  /** More bytes have arrived (counted by offset); throws beyond the connection's credit. */
  received(bytes: number): void;
  /** Bytes have been delivered or dropped: their credit is free. */
  consumed(bytes: number): void;
  /** The stream owes the peer a MAX_STREAM_DATA. */
  owesCredit(stream: CurveStream): void;
  /** The stream owes the peer a RESET. */
  owesReset(stream: CurveStream): void;
  /** A frame brought nothing new. */
  duplicate(): void;
  /** A stream's handler has thrown; the stream is being given up. */
  fault(error: InternalError): void;
  /** Nothing more will happen on the stream. */
  finished(stream: CurveStream): void;
}

/** The error of a connection that breaks the format. */
export function brokenFrame(why: string): SallyportError {
  return new SallyportError("frame_invalid", `Cannot read packet: ${why}`, { side: "peer" });
}
