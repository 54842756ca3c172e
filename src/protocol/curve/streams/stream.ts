/**
 * A stream of a curve connection: ordered bytes in both directions, each with its own offsets, credit and end.
 *
 * @module
 */
import { type ErrorCode, errorCode, InternalError, internalError, SallyportError } from "../../../errors.ts";
import { type Bytes, part } from "../../../bytes/bytes.ts";
import type { MemoryBudget } from "../../../bytes/memory_budget.ts";
import type { ByteStream, ByteStreamHandler } from "../../../runtime/port.ts";
import { codeOfWire, wireCode } from "../../../wire/curve/error_number.ts";
import { ReceiveBuffer } from "./receive_buffer.ts";
import { SendBuffer } from "./send_buffer.ts";

/** Limits of a stream's queues in bytes. */
export interface StreamLimits {
  /** Receive credit of a stream that hasn't been read yet; it grows by what is read. */
  readonly firstWindowBytes: number;
  /** Maximum receive credit: bytes that may be held for a reader that stops reading. */
  readonly windowBytes: number;
  /** `write` returns false from here on, `drain` follows at `sendLowBytes`, beyond `sendMaxBytes` the stream is reset. */
  readonly sendHighBytes: number;
  readonly sendLowBytes: number;
  readonly sendMaxBytes: number;
  /** Memory budget of the process, to which the buffers' contents are charged. */
  readonly memory?: MemoryBudget;
}

/** The connection as seen by a stream. No method calls the stream back before it returns. */
export interface StreamHost {
  /** The time of the current turn. */
  readonly nowMs: number;
  /** The stream may have something to send. */
  wantsToSend(stream: CurveStream): void;
  /** The stream has events for its handler: call {@link CurveStream.turn} soon. */
  wantsTurn(stream: CurveStream): void;
  /** More bytes were received (counted by offset); throws beyond the connection's credit. */
  received(bytes: number): void;
  /** Bytes have been delivered or dropped: their credit is released. */
  consumed(bytes: number): void;
  /** The window that the stream gets now, having consumed so many bytes. */
  windowOf(stream: CurveStream, consumedBytes: number): number;
  /** The peer may have so many bytes of the stream unread at our side; 0 once it can send no more. */
  granted(stream: CurveStream, outstandingBytes: number): void;
  /** The stream owes the peer a MAX_STREAM_DATA. */
  owesCredit(stream: CurveStream): void;
  /** The stream owes the peer a RESET. */
  owesReset(stream: CurveStream): void;
  /** A frame contained no new data. */
  duplicate(): void;
  /** A stream's handler has thrown; the stream is being given up. */
  fault(error: InternalError): void;
  /** Nothing more will happen on the stream. */
  finished(stream: CurveStream): void;
}

/** The error for a connection that violates the format. */
export function brokenFrame(why: string): SallyportError {
  return new SallyportError("frame_invalid", `Cannot read packet: ${why}`, { side: "peer" });
}

/** A stream as seen by the connection's owner. */
export interface OwnedStream extends ByteStream {
  /** The stream number on the wire. */
  readonly id: number;
}

/** Out-of-order ranges that a stream may hold; an honest peer stays far below it. */
const FRAGMENTS_MAX = 4_096;

/** One stream. Outside `protocol/curve` it is an {@link OwnedStream}; all other members are for the connection. */
export class CurveStream implements OwnedStream {
  readonly id: number;
  readonly #host: StreamHost;
  readonly #limits: StreamLimits;
  readonly #counted: boolean;
  #handler: ByteStreamHandler | undefined;
  #paused = false;
  #discarding = false;
  #closed = false;
  #closing: { error: Error | undefined } | undefined;

  readonly #out: SendBuffer;
  #sendLimit: number;
  #wantDrain = false;
  #fin: "none" | "wanted" | "sent" | "acked" = "none";
  #resetCode = -1;
  #resetOffset = 0;
  #resetAcked = false;

  readonly #in: ReceiveBuffer;
  #receiveLimit: number;
  #highest = 0;
  #finalOffset = -1;
  #endDelivered = false;
  #resetReceived = false;
  #done = false;

  /** When the received bytes began to wait for the reader, or it last took some. */
  movedAtMs = 0;
  /** What its credit takes from the connection's pool of windows. */
  pooledBytes = 0;

  /** Queued in the connection. */
  queued = false;
  turnQueued = false;
  creditOwed = false;
  resetOwed = false;

  /** @param counted whether this stream's bytes count towards the connection's credit (all but stream 0). */
  constructor(id: number, host: StreamHost, limits: StreamLimits, sendLimit: number, counted = true) {
    this.id = id;
    this.#host = host;
    this.#limits = limits;
    this.#out = new SendBuffer(limits.memory);
    this.#in = new ReceiveBuffer(limits.memory);
    this.#counted = counted;
    this.#sendLimit = sendLimit;
    this.#receiveLimit = limits.firstWindowBytes;
  }

  // ByteStream.

  attach(handler: ByteStreamHandler): void {
    const first = this.#handler === undefined;
    this.#handler = handler;
    if (first) this.#host.wantsTurn(this);
  }

  write(chunk: Bytes): boolean {
    if (this.#fin !== "none" || this.#resetCode >= 0 || this.#closing !== undefined || chunk.length === 0) {
      return true;
    }
    this.#out.write(chunk);
    if (this.#out.unsent > this.#limits.sendMaxBytes) {
      this.abort(
        new SallyportError("stream_overflow", "Cannot send: the stream's queue is full", { side: "local" }),
      );
      return true;
    }
    this.#host.wantsToSend(this);
    if (this.#out.unsent < this.#limits.sendHighBytes) return true;
    this.#wantDrain = true;
    return false;
  }

  closeWrite(): void {
    if (this.#fin !== "none" || this.#resetCode >= 0) return;
    this.#fin = "wanted";
    this.#host.wantsToSend(this);
  }

  abort(error?: Error): void {
    if (this.#closed || this.#closing !== undefined) return;
    this.#drop(error === undefined ? "aborted" : errorCode(error), error);
  }

  release(): void {
    this.#discarding = true;
    this.closeWrite();
    this.#host.wantsTurn(this);
  }

  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    this.#host.wantsTurn(this);
  }

  get bufferedBytes(): number {
    return this.#out.unsent;
  }

  get heldBytes(): number {
    return this.#out.ringBytes + this.#in.ringBytes;
  }

  // Sending: called while packets are assembled.

  /** Whether anything can be sent now; `connectionCredit` applies only to new bytes. */
  sendable(connectionCredit: number): boolean {
    if (this.#resetCode >= 0) return false;
    if (this.#out.hasLost) return true;
    const credit = this.#counted ? connectionCredit : Infinity;
    if (this.#out.unsent > 0) return credit > 0 && this.#out.next < this.#sendLimit;
    return this.#fin === "wanted";
  }

  /** Whether new bytes wait only for the connection's credit. */
  get waitsForConnection(): boolean {
    return this.#resetCode < 0 && this.#counted && this.#out.unsent > 0 && this.#out.next < this.#sendLimit;
  }

  /** Offset of the next bytes to send: lost ones first. */
  get sendOffset(): number {
    return this.#out.hasLost ? this.#out.lostStart : this.#out.next;
  }

  /** How many bytes may be sent from {@link sendOffset} on. */
  sendLength(connectionCredit: number): number {
    if (this.#out.hasLost) return this.#out.lostLength;
    const credit = this.#counted ? connectionCredit : Infinity;
    return Math.max(0, Math.min(this.#out.unsent, this.#sendLimit - this.#out.next, credit));
  }

  /** Whether a frame of these bytes carries the end. */
  finAt(end: number): boolean {
    return this.#fin !== "none" && end === this.#out.end;
  }

  /** Copies bytes into a frame and counts them as sent. Returns how many use new connection credit. */
  takeInto(target: Bytes, offset: number, fin: boolean): number {
    const before = this.#out.next;
    if (target.length > 0) this.#out.copy(offset, target);
    this.#out.sent(offset, target.length);
    if (fin && this.#fin === "wanted") this.#fin = "sent";
    if (this.#wantDrain && this.#out.unsent <= this.#limits.sendLowBytes) this.#host.wantsTurn(this);
    return this.#counted ? this.#out.next - before : 0;
  }

  /** The peer has acknowledged these bytes. */
  framesAcked(offset: number, length: number, fin: boolean): void {
    if (this.#resetCode >= 0) return;
    this.#out.acked(offset, length);
    if (fin) this.#fin = "acked";
    if (this.#out.held > 0 || this.#fin !== "acked") return;
    if (this.#endDelivered) this.#close(undefined);
    else if (this.#discarding) this.#host.wantsTurn(this);
    this.#settle();
  }

  /** These bytes must be retransmitted. */
  framesLost(offset: number, length: number, fin: boolean): number {
    if (this.#resetCode >= 0) return 0;
    this.#out.lost(offset, length);
    if (fin && this.#fin === "sent") this.#fin = "wanted";
    this.#host.wantsToSend(this);
    return length;
  }

  /** The RESET to send: code and final offset. */
  get resetCode(): number {
    return this.#resetCode;
  }
  get resetOffset(): number {
    return this.#resetOffset;
  }

  /** The peer has acknowledged the RESET. */
  resetWasAcked(): void {
    this.#resetAcked = true;
    this.#settle();
  }

  /** Raises the peer's credit limit. */
  raiseSendLimit(limit: number): void {
    if (limit <= this.#sendLimit) return;
    this.#sendLimit = limit;
    this.#host.wantsToSend(this);
  }

  // Receiving.

  /** Handles a STREAM frame. Throws `frame_invalid` if the peer exceeds its credit or changes the final offset. */
  frameReceived(offset: number, data: Bytes, fin: boolean): void {
    const end = offset + data.length;
    if (end <= this.#in.offset && data.length > 0) this.#host.duplicate();
    this.#advance(end, fin ? end : -1);
    if (this.#done || this.#resetReceived || this.#endDelivered) return;
    if (this.#discarding) return this.#discard();
    if (this.#flowing && this.#in.empty && offset <= this.#in.offset) {
      if (end > this.#in.offset) {
        const fresh = part(data, this.#in.offset - offset);
        this.#in.skip(fresh.length);
        this.#deliver(fresh);
      }
    } else {
      if (this.#in.empty) this.movedAtMs = this.#host.nowMs;
      this.#in.add(offset, data);
      if (this.#in.fragments > FRAGMENTS_MAX) throw brokenFrame("a stream arrives in too many pieces");
    }
    this.#flow();
  }

  /** Handles the peer's RESET. Throws `frame_invalid` if it changes the final offset. */
  resetReceived(code: number, finalOffset: number): void {
    this.#advance(finalOffset, finalOffset);
    if (this.#done || this.#resetReceived) return;
    this.#resetReceived = true;
    if (!this.#endDelivered) this.#discard();
    const error = new SallyportError(codeOfWire(code), `Stream reset by the peer: ${codeOfWire(code)}`, {
      side: "peer",
    });
    if (this.#resetCode < 0 && this.#fin !== "acked") this.#reset(wireCode("closed"));
    this.#close(error);
    this.#settle();
  }

  /** The bytes that wait for the reader. */
  get incoming(): { readonly byteLength: number } {
    return this.#in;
  }

  /** The MAX_STREAM_DATA to send. */
  get receiveLimit(): number {
    return this.#receiveLimit;
  }

  /** Whether the peer can still use more credit. */
  get receiving(): boolean {
    return this.#finalOffset < 0 && !this.#done;
  }

  /** Delivers pending events to the handler: bytes, drain, close. */
  turn(): void {
    if (this.#closing !== undefined) {
      const { error } = this.#closing;
      if (this.#handler !== undefined) this.#close(error);
      return;
    }
    if (this.#discarding) {
      this.#discard();
      if (this.#finalOffset >= 0 && this.#in.offset >= this.#finalOffset && !this.#endDelivered) {
        this.#endDelivered = true;
        if (this.#fin === "acked") this.#close(undefined);
        this.#settle();
      }
    } else this.#flow();
    if (this.#wantDrain && this.#out.unsent <= this.#limits.sendLowBytes && this.#handler !== undefined) {
      this.#wantDrain = false;
      this.#guard((handler) => handler.drain());
    }
  }

  /** The connection is over. */
  end(error: SallyportError): void {
    this.#done = true;
    this.#out.clear();
    this.#in.clear();
    this.#close(error);
  }

  /** Everything written has been sent, and the released stream waits only for the peer's end. */
  get waitsForEnd(): boolean {
    return this.#discarding && !this.#done && this.#fin === "acked" && !this.#endDelivered &&
      this.#resetCode < 0;
  }

  get #flowing(): boolean {
    return this.#handler !== undefined && !this.#paused && !this.#closed && this.#closing === undefined;
  }

  #advance(end: number, finalOffset: number): void {
    if (end > this.#receiveLimit) throw brokenFrame("a stream exceeds its credit");
    if (
      this.#finalOffset >= 0 &&
      (end > this.#finalOffset || (finalOffset >= 0 && finalOffset !== this.#finalOffset))
    ) {
      throw brokenFrame("a stream's final size changes");
    }
    if (finalOffset >= 0) {
      if (finalOffset < this.#highest) {
        throw brokenFrame("a stream's final size is less than the bytes received");
      }
      this.#finalOffset = finalOffset;
      this.#host.granted(this, 0);
    }
    if (end > this.#highest) {
      if (this.#counted) this.#host.received(end - this.#highest);
      this.#highest = end;
    }
  }

  #flow(): void {
    while (this.#flowing && this.#in.ready) this.#deliver(this.#in.take());
    if (
      this.#flowing && !this.#endDelivered && this.#finalOffset >= 0 && this.#in.offset === this.#finalOffset
    ) {
      this.#endDelivered = true;
      this.#guard((handler) => handler.end());
      if (this.#fin === "acked" && this.#out.held === 0) this.#close(undefined);
      this.#settle();
    }
  }

  #deliver(chunk: Bytes): void {
    this.movedAtMs = this.#host.nowMs;
    this.#credit(chunk.length);
    try {
      this.#handler!.data(chunk);
    } catch (thrown) {
      this.#failed(thrown);
    }
  }

  #credit(bytes: number): void {
    if (!this.#counted) return;
    this.#host.consumed(bytes);
    if (this.#finalOffset >= 0) return;
    const window = this.#host.windowOf(this, this.#in.offset);
    if (this.#receiveLimit - this.#in.offset <= window / 2) {
      this.#receiveLimit = this.#in.offset + window;
      this.#host.owesCredit(this);
    }
    this.#host.granted(this, this.#receiveLimit - this.#in.offset);
  }

  /** Drops the received data; its credit is released at once, including gaps. */
  #discard(): void {
    const gap = this.#highest - this.#in.offset;
    if (gap > 0) {
      this.#in.skip(gap);
      this.#credit(gap);
    }
    this.#in.clear();
    if (this.#finalOffset >= 0 && !this.#endDelivered) this.#host.wantsTurn(this);
  }

  #drop(code: ErrorCode, error: Error | undefined): void {
    if (this.#resetCode < 0 && this.#fin !== "acked") this.#reset(wireCode(code));
    else if (this.#fin === "acked" && !this.#endDelivered) this.#reset(wireCode(code));
    this.#discarding = true;
    this.#discard();
    this.#closing ??= { error };
    this.#host.wantsTurn(this);
  }

  #reset(code: number): void {
    this.#resetCode = code;
    this.#resetOffset = this.#out.next;
    this.#out.clear();
    this.#host.owesReset(this);
  }

  #close(error: Error | undefined): void {
    if (this.#closed) return;
    if (this.#handler === undefined) {
      this.#closing ??= { error };
      return;
    }
    this.#closed = true;
    this.#closing ??= { error };
    this.#guard((handler) => handler.close(error));
  }

  #settle(): void {
    const sent = this.#resetCode >= 0 ? this.#resetAcked : this.#fin === "acked" && this.#out.held === 0;
    const received = this.#resetReceived || this.#endDelivered ||
      (this.#resetCode >= 0 && this.#finalOffset >= 0 && this.#highest >= this.#finalOffset);
    if (!sent || !received || this.#done) return;
    this.#done = true;
    this.#host.finished(this);
  }

  #guard(call: (handler: ByteStreamHandler) => void): void {
    try {
      call(this.#handler!);
    } catch (thrown) {
      this.#failed(thrown);
    }
  }

  /** A handler that throws loses its stream, not the connection. */
  #failed(thrown: unknown): void {
    const error = internalError("stream", thrown);
    if (error instanceof InternalError) this.#host.fault(error);
    this.abort(error);
  }
}
