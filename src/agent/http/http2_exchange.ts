/**
 * One stream of an HTTP/2 connection: a request and its response, with their flow control.
 *
 * @module
 */
import type { Bytes } from "../../bytes/bytes.ts";
import { ChunkQueue } from "../../bytes/chunk_queue.ts";
import { SallyportError } from "../../errors.ts";
import type { ByteStream, Clock } from "../../runtime/port.ts";
import type { Faults } from "../../runtime/shared.ts";
import type { Caller } from "../../transport/port.ts";
import { contentLengthOf, endToEnd, type Field, fieldOf } from "../../wire/http1/fields.ts";
import type { RequestHead, ResponseHead } from "../../wire/http1/head.ts";
import { Reason, WINDOW_MAX_BYTES } from "../../wire/http2/frames.ts";
import { BodyStream, type Exchange } from "./exchange.ts";
import type { HttpServerOptions } from "./http1_server.ts";

/** Bytes of one request's body that a visitor may send ahead of its reader. */
export const HTTP2_WINDOW_BYTES = 256 * 1024;

/** The connection, as its exchanges see it. */
export interface Http2Carrier {
  readonly options: HttpServerOptions;
  /** Whether it accepts bytes. */
  readonly taking: boolean;
  /** Bytes of bodies that it may send now. */
  readonly sendWindow: number;
  /** Bytes not yet passed on. */
  readonly bufferedBytes: number;
  sendHead(id: number, fields: readonly Field[], endsStream: boolean): void;
  /** Sends a piece of a body, which fits into both windows. */
  sendBody(id: number, piece: Bytes, endsStream: boolean): void;
  /** Bytes of a body have been read. */
  bodyRead(byteLength: number): void;
  /** Lets the visitor send so many bytes more on a stream. */
  widen(id: number, byteLength: number): void;
  /** The exchange is over; with a reason, its stream has to be reset. */
  exchangeOver(id: number, reason: number | undefined): void;
}

/** A violation that ends one stream. */
export class StreamFault extends Error {
  readonly reason: number;

  constructor(reason: number, why: string) {
    super(why);
    this.reason = reason;
  }
}

/** A request and its response. */
export class Http2Exchange extends BodyStream implements Exchange {
  readonly request: RequestHead;
  readonly visitor: Caller;
  readonly stream: ByteStream = this;
  readonly upgrade: undefined;
  readonly hasBody: boolean;
  protected readonly clock: Clock;
  protected readonly faults: Faults;
  answered = false;
  readonly #id: number;
  readonly #carrier: Http2Carrier;
  /** Whether the visitor waits for 100 (Continue) before it sends the body (RFC 9110 §10.1.1). */
  #expects: boolean;
  /** Bytes that the request's body must still have; undefined if it has no declared length. */
  #bodyLeft: number | undefined;
  #receiveWindow = HTTP2_WINDOW_BYTES;
  /** Bytes received that nobody has read, and bytes read that the visitor doesn't know of. */
  #unread = 0;
  #unreported = 0;
  #inputWhole = false;
  #inputDelivered = false;
  #sendWindow: number;
  /** Bytes of the response that wait for a window. */
  readonly #queue = new ChunkQueue();
  #blocked = false;
  /** Bytes that the response's body must still have; undefined if it has no declared length. */
  #answerLeft: number | undefined;
  #endSent = false;
  #outputDone = false;
  #released = false;
  #moved = -1;
  #movedMs = 0;

  constructor(
    carrier: Http2Carrier,
    id: number,
    request: RequestHead,
    { hasBody, sendWindow }: { readonly hasBody: boolean; readonly sendWindow: number },
  ) {
    super();
    this.#carrier = carrier;
    this.#id = id;
    this.request = request;
    this.hasBody = hasBody;
    this.#sendWindow = sendWindow;
    const { visitor, clock, faults } = carrier.options;
    this.visitor = visitor;
    this.clock = clock;
    this.faults = faults;
    this.#bodyLeft = contentLengthOf(request.fields);
    this.#expects = hasBody && fieldOf(request.fields, "expect")?.toLowerCase() === "100-continue";
  }

  get bufferedBytes(): number {
    return this.#queue.byteLength + this.#carrier.bufferedBytes;
  }

  /** Called by the connection, now and then: for how long no byte of either body has moved. */
  idleMs(nowMs: number): number {
    const moved = this.bytesIn + this.bytesOut - this.#queue.byteLength;
    if (moved !== this.#moved) this.#movedMs = nowMs;
    this.#moved = moved;
    return nowMs - this.#movedMs;
  }

  /** Whether the visitor may still send of the body. */
  get isReceiving(): boolean {
    return !this.#inputWhole;
  }

  /**
   * Called by the connection: so many bytes of the body follow, with `padding` more that mean nothing.
   *
   * @throws StreamFault
   */
  expectBody(byteLength: number, padding: number): void {
    if (this.#inputWhole) throw new StreamFault(Reason.STREAM_CLOSED, "a body continues after its end");
    this.#receiveWindow -= byteLength + padding;
    if (this.#receiveWindow < 0) {
      throw new StreamFault(Reason.FLOW_CONTROL_ERROR, "a body exceeds its window");
    }
    this.#unreported += padding;
    if (this.#bodyLeft === undefined) return;
    this.#bodyLeft -= byteLength;
    if (this.#bodyLeft < 0) {
      throw new StreamFault(Reason.PROTOCOL_ERROR, "a body is longer than its Content-Length");
    }
  }

  /** Called by the connection: a piece of the body. */
  receive(piece: Bytes): void {
    const isRead = this.dead || (this.flowing && this.#unread === 0);
    if (!isRead) this.#unread += piece.length;
    this.take(piece);
    if (isRead) this.#read(piece.length);
  }

  /**
   * Called by the connection: the visitor has sent everything.
   *
   * @throws StreamFault
   */
  receiveEnd(): void {
    if (this.#inputWhole) throw new StreamFault(Reason.STREAM_CLOSED, "a request ends twice");
    if (this.#bodyLeft !== undefined && this.#bodyLeft > 0) {
      throw new StreamFault(Reason.PROTOCOL_ERROR, "a body is shorter than its Content-Length");
    }
    this.#inputWhole = true;
    this.#expects = false;
    this.takeEnd();
  }

  /**
   * Called by the connection: the visitor accepts so many bytes more, or fewer.
   *
   * @throws StreamFault
   */
  moveSendWindow(byteLength: number): void {
    this.#sendWindow += byteLength;
    if (this.#sendWindow > WINDOW_MAX_BYTES) {
      throw new StreamFault(Reason.FLOW_CONTROL_ERROR, "a window exceeds 2^31-1");
    }
  }

  /** Called by the connection: it, or a window, may accept bytes again. Returns whether some were sent. */
  goOn(): boolean {
    const before = this.#queue.byteLength;
    if (before > 0) this.#flush();
    if (this.#blocked && this.#queue.byteLength === 0 && this.#carrier.taking) {
      this.#blocked = false;
      this.drained();
    }
    return this.#queue.byteLength < before;
  }

  respond({ status, fields: given }: ResponseHead): void {
    if (this.answered) throw new TypeError("the request has been answered already");
    if (status < 200) throw new TypeError(`${status} isn't a status of HTTP/2`);
    this.answered = true;
    if (this.dead) return;
    const hasNoBody = this.request.method === "HEAD" || status === 204 || status === 304;
    this.#answerLeft = hasNoBody ? 0 : contentLengthOf(given);
    this.#endSent = this.#answerLeft === 0;
    this.#carrier.sendHead(this.#id, [[":status", String(status)], ...endToEnd(given)], this.#endSent);
  }

  write(piece: Bytes): boolean {
    if (this.dead || this.writeEnded || piece.length === 0) return true;
    // What exceeds a body of known length is dropped: the visitor has been told that it is whole.
    if (this.#endSent) return true;
    this.bytesOut += piece.length;
    let part = piece;
    if (this.#answerLeft !== undefined) {
      part = piece.subarray(0, this.#answerLeft);
      this.#answerLeft -= part.length;
    }
    const sent = this.#queue.byteLength > 0 ? 0 : this.#send(part, true);
    this.#queue.push(part.subarray(sent));
    this.#blocked = this.#queue.byteLength > 0 || !this.#carrier.taking;
    return !this.#blocked;
  }

  closeWrite(): void {
    if (this.writeEnded || this.dead) return;
    this.writeEnded = true;
    if (!this.answered || (this.#answerLeft !== undefined && this.#answerLeft > 0)) {
      // The reset shows the visitor that the response is incomplete.
      this.abort(new SallyportError("io_failed", "Cannot answer: the body ends early", { side: "local" }));
      return;
    }
    this.#maybeEndOutput();
  }

  override lost(error: Error | undefined): void {
    this.#forget();
    super.lost(error);
  }

  override release(): void {
    this.#released = true;
    super.release();
    this.#maybeOver();
  }

  protected override readBelow(on: boolean): void {
    if (!on) return;
    if (this.#expects && !this.answered) {
      this.#expects = false;
      this.#carrier.sendHead(this.#id, [[":status", "100"]], false);
    }
    const waited = this.#unread;
    this.#unread = 0;
    this.#read(waited);
  }

  protected override inputDone(): void {
    this.#inputDelivered = true;
    this.#maybeOver();
  }

  protected override destroy(hard: boolean): void {
    this.#forget();
    const reason = hard
      ? this.answered ? Reason.INTERNAL_ERROR : Reason.CANCEL
      // RFC 9113 §8.1: a complete response may end an incomplete request.
      : this.#inputWhole
      ? undefined
      : Reason.NO_ERROR;
    this.#carrier.exchangeOver(this.#id, reason);
  }

  /** Drops what waits; nobody will read it. */
  #forget(): void {
    this.#queue.clear();
    this.#carrier.bodyRead(this.#unread);
    this.#unread = 0;
  }

  /** Bytes of the body have been read: the visitor may send as many again. */
  #read(byteLength: number): void {
    this.#carrier.bodyRead(byteLength);
    this.#unreported += byteLength;
    if (this.#unreported < HTTP2_WINDOW_BYTES / 2 || this.#inputWhole || this.dead) return;
    this.#receiveWindow += this.#unreported;
    this.#carrier.widen(this.#id, this.#unreported);
    this.#unreported = 0;
  }

  /** Sends as much as the windows allow, and returns how much that was; `isLast` if nothing waits behind the piece. */
  #send(piece: Bytes, isLast: boolean): number {
    const room = Math.min(piece.length, this.#sendWindow, this.#carrier.sendWindow);
    if (room <= 0) return 0;
    this.#sendWindow -= room;
    // The last byte of a body of known length ends the stream, which saves a frame.
    this.#endSent = isLast && this.#answerLeft === 0 && room === piece.length;
    this.#carrier.sendBody(this.#id, piece.subarray(0, room), this.#endSent);
    return room;
  }

  #flush(): void {
    for (;;) {
      const piece = this.#queue.peek();
      if (piece.length === 0) break;
      const sent = this.#send(piece, piece.length === this.#queue.byteLength);
      this.#queue.drop(sent);
      if (sent < piece.length) return;
    }
    this.#maybeEndOutput();
  }

  #maybeEndOutput(): void {
    if (!this.writeEnded || this.#outputDone || this.#queue.byteLength > 0) return;
    this.#outputDone = true;
    if (!this.#endSent) this.#carrier.sendBody(this.#id, new Uint8Array(0), true);
    this.#endSent = true;
    this.writingDone();
    this.#maybeOver();
  }

  #maybeOver(): void {
    if (this.#outputDone && (this.#inputDelivered || this.#released) && !this.dead) this.closeInOrder();
  }
}
