/**
 * One QUIC stream of a session: a visitor's, or the control stream. Frames of the credit dialect go in and come out
 * (docs/protocols/quic.md, Frames).
 *
 * @module
 */
import { type Bytes, part } from "../../bytes/bytes.ts";
import { CreditReceiver } from "../../protocol/mux/credit/receiver.ts";
import type { CreditStream } from "../../protocol/mux/credit/stream.ts";
import type { MuxClock } from "../../protocol/mux/host.ts";
import { Intake } from "../../protocol/mux/intake.ts";
import type { ByteStream, ByteStreamHandler } from "../../runtime/port.ts";
import {
  CREDIT_HEADER_BYTES,
  CreditFrame,
  encodeCreditFrame,
  writeCreditHeader,
  writeU32,
} from "../../wire/credit/credit_frame.ts";
import { FRAME_MAX_SEND_BYTES } from "../../protocol/mux/queue_limits.ts";

/** A session's stream, carried by a QUIC stream. */
export type QuicStream = CreditStream<FramedQuicStream>;

/** The session's callbacks for its QUIC streams. */
export interface FramedStreamOwner {
  /** A complete frame other than DATA; `body` is valid during the call. An exception ends the session. */
  frame(framed: FramedQuicStream, type: number, body: Bytes): void;
  /** A DATA frame of `size` bytes begins; returns its stream, undefined to drop it. */
  dataFrame(framed: FramedQuicStream, size: number): QuicStream | undefined;
  /** A piece of a DATA frame. */
  data(stream: QuicStream, piece: Bytes): void;
  /** The QUIC stream accepts bytes again. */
  drained(framed: FramedQuicStream): void;
  /** The QUIC stream ended, cleanly or not. */
  ended(framed: FramedQuicStream, error: Error | undefined): void;
  /** The peer sent invalid data. */
  unreadable(error: unknown): void;
  /** The session's budget for no-op frames is used up for now: further frames have to wait. */
  readonly tired: boolean;
  /** Too much payload was wasted: bytes that arrive have to wait. */
  readonly wasteful: boolean;
  /** Frames wait on this stream, for a later {@link FramedQuicStream.readOn}. */
  rests(framed: FramedQuicStream): void;
}

/** Frames on a QUIC stream; they are queued until the stream is open. */
export class FramedQuicStream implements ByteStreamHandler {
  /** The session's stream it carries; undefined for the control stream, and before OPEN. */
  stream: QuicStream | undefined;
  /** Whether it accepts no more data for now. */
  blocked = true;
  /** Nothing more is sent on it. Incoming data is still read and counted, since the peer has spent credit on it. */
  over = false;
  readonly #owner: FramedStreamOwner;
  readonly #intake: Intake;
  #inner: ByteStream | undefined;
  /** Frames queued until the QUIC stream is open. */
  #early: Bytes[] = [];
  #gone = false;

  constructor(owner: FramedStreamOwner) {
    this.#owner = owner;
    const receiver = new CreditReceiver<QuicStream>({
      frame: (type, _stream, body) => owner.frame(this, type, body),
      dataFrame: (_stream, size) => owner.dataFrame(this, size),
      data: (stream, piece) => owner.data(stream, piece),
      get tired() {
        return owner.tired;
      },
    });
    this.#intake = new Intake({
      read: (chunk) => receiver.receive(chunk),
      get wasteful() {
        return owner.wasteful;
      },
      hold: (hold) => hold ? this.#inner?.pause() : this.#inner?.resume(),
      rest: () => owner.rests(this),
    });
  }

  /** The QUIC stream is open. */
  carriedBy(inner: ByteStream): void {
    this.#inner = inner;
    this.blocked = false;
    for (const frame of this.#early.splice(0)) this.#write(frame);
    inner.attach(this);
    if (this.over) inner.closeWrite();
  }

  /** Bytes of frames not yet accepted by the QUIC stream. */
  get bufferedBytes(): number {
    return this.#inner?.bufferedBytes ?? 0;
  }

  /** Sends a complete frame. */
  send(frame: Bytes): void {
    if (this.over) return;
    if (this.#inner === undefined) this.#early.push(frame);
    else this.#write(frame);
  }

  /** Sends a CREDIT. */
  sendCredit(bytes: number): void {
    const body = new Uint8Array(4);
    writeU32(body, 0, bytes);
    this.send(encodeCreditFrame(CreditFrame.CREDIT, 0, body));
  }

  /** Sends a DATA frame with `chunk`, of at most {@link FRAME_MAX_SEND_BYTES}; only while it isn't blocked. */
  sendData(chunk: Bytes): void {
    this.#header(chunk.length);
    this.#write(chunk);
  }

  /** Sends a DATA frame with the first `size` bytes of the stream's queue. */
  sendQueued(stream: QuicStream, size: number): void {
    this.#header(size);
    for (let left = size; left > 0;) {
      const piece = stream.outgoing.peek();
      const length = Math.min(piece.length, left);
      this.#write(part(piece, 0, length));
      stream.outgoing.drop(length);
      left -= length;
    }
  }

  /** Ends sending: QUIC's FIN follows what was written. */
  finish(): void {
    if (this.over) return;
    this.over = true;
    this.#inner?.closeWrite();
  }

  /** Releases the QUIC stream to a new owner. */
  detach(): ByteStream {
    this.over = this.#gone = true;
    return this.#inner!;
  }

  /** Aborts the QUIC stream; no more events follow. */
  abort(): void {
    this.over = this.#gone = true;
    this.#inner?.abort();
  }

  // From the QUIC stream.

  data(chunk: Bytes): void {
    if (!this.#gone) this.#read(() => this.#intake.take(chunk));
  }

  /** Reads the frames that had to wait, as far as the budget goes. */
  readOn(): void {
    if (!this.#gone) this.#read(() => this.#intake.goOn());
  }

  #read(read: () => void): void {
    try {
      read();
    } catch (error) {
      this.#owner.unreadable(error);
    }
  }

  end(): void {
    this.close();
  }

  drain(): void {
    this.blocked = false;
    if (!this.over) this.#owner.drained(this);
  }

  close(error?: Error): void {
    if (this.#gone) return;
    this.#gone = true;
    this.#owner.ended(this, error);
  }

  #header(size: number): void {
    const header = new Uint8Array(CREDIT_HEADER_BYTES);
    writeCreditHeader(header, 0, CreditFrame.DATA, Math.min(size, FRAME_MAX_SEND_BYTES), 0);
    this.#write(header);
  }

  #write(bytes: Bytes): void {
    if (!this.#inner!.write(bytes)) this.blocked = true;
  }
}

/** Deadlines of QUIC streams: for announcing their purpose, or for ending. */
export class StreamDeadlines {
  readonly #clock: MuxClock;
  readonly #late: (framed: FramedQuicStream) => unknown;
  readonly #until = new Map<FramedQuicStream, number>();

  /** @param late called for a stream that missed its deadline, before it is aborted */
  constructor(clock: MuxClock, late: (framed: FramedQuicStream) => unknown) {
    this.#clock = clock;
    this.#late = late;
  }

  /** Sets the stream's deadline, from now. */
  watch(framed: FramedQuicStream, forMs: number): void {
    const untilMs = this.#clock.nowMs() + forMs;
    this.#until.set(framed, untilMs);
    this.#clock.arm(untilMs);
  }

  /** The stream has met its deadline. */
  forget(framed: FramedQuicStream): void {
    this.#until.delete(framed);
  }

  /** Handles expired deadlines; returns the time of the next call. */
  tick(nowMs: number): number {
    let nextMs = Infinity;
    for (const [framed, untilMs] of this.#until) {
      if (nowMs < untilMs) nextMs = Math.min(nextMs, untilMs);
      else {
        this.#until.delete(framed);
        this.#late(framed);
        framed.abort();
      }
    }
    return nextMs;
  }
}
