/**
 * One QUIC stream of a session: a visitor's, or the control stream. Frames of the credit dialect go in and come out
 * (docs/protocols/quic.md, Frames).
 *
 * @module
 */
import type { Bytes } from "../../bytes/bytes.ts";
import { CreditReceiver } from "../../protocol/mux/credit/receiver.ts";
import type { CreditStream } from "../../protocol/mux/credit/stream.ts";
import type { MuxClock } from "../../protocol/mux/host.ts";
import type { ByteStream, ByteStreamHandler } from "../../runtime/port.ts";
import {
  CREDIT_HEADER_BYTES,
  CreditFrame,
  encodeCreditFrame,
  writeCreditHeader,
  writeU32,
} from "../../wire/credit/credit_frame.ts";
import { FRAME_MAX_SEND_BYTES } from "../../protocol/mux/queue_limits.ts";

/** A stream of a session that a QUIC stream carries. */
export type QuicStream = CreditStream<FramedQuicStream>;

/** What a session does with its QUIC streams. */
export interface FramedStreamOwner {
  /** A whole frame that isn't DATA; `body` is valid during the call. What it throws ends the session. */
  frame(framed: FramedQuicStream, type: number, body: Bytes): void;
  /** A DATA frame of `size` bytes begins; says whose it is, undefined to drop it. */
  dataFrame(framed: FramedQuicStream, size: number): QuicStream | undefined;
  /** A piece of it. */
  data(stream: QuicStream, piece: Bytes): void;
  /** It takes bytes again. */
  drained(framed: FramedQuicStream): void;
  /** The QUIC stream came to its end, in order or not. */
  ended(framed: FramedQuicStream, error: Error | undefined): void;
  /** What the peer sent can't be read. */
  unreadable(error: unknown): void;
}

/** A QUIC stream with frames on it; until the stream is there they wait. */
export class FramedQuicStream implements ByteStreamHandler {
  /** What it carries; undefined for the control stream, and before OPEN has come. */
  stream: QuicStream | undefined;
  /** It takes no more data for now. */
  blocked = true;
  /** Nothing is said on it any more; what still comes is read and counted, since the peer has spent credit on it. */
  over = false;
  readonly #owner: FramedStreamOwner;
  readonly #receiver: CreditReceiver<QuicStream>;
  #inner: ByteStream | undefined;
  /** Frames that wait for the QUIC stream. */
  #early: Bytes[] = [];
  #gone = false;

  constructor(owner: FramedStreamOwner) {
    this.#owner = owner;
    this.#receiver = new CreditReceiver({
      frame: (type, _stream, body) => owner.frame(this, type, body),
      dataFrame: (_stream, size) => owner.dataFrame(this, size),
      data: (stream, piece) => owner.data(stream, piece),
    });
  }

  /** The QUIC stream is there. */
  carriedBy(inner: ByteStream): void {
    this.#inner = inner;
    this.blocked = false;
    for (const frame of this.#early.splice(0)) this.#write(frame);
    inner.attach(this);
    if (this.over) inner.closeWrite();
  }

  /** Bytes of frames that the QUIC stream hasn't taken. */
  get bufferedBytes(): number {
    return this.#inner?.bufferedBytes ?? 0;
  }

  /** Sends a whole frame. */
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

  /** Sends a DATA frame with the first `size` bytes that wait in the stream's queue. */
  sendQueued(stream: QuicStream, size: number): void {
    this.#header(size);
    for (let left = size; left > 0;) {
      const piece = stream.outgoing.peek();
      const length = Math.min(piece.length, left);
      this.#write(length === piece.length ? piece : piece.subarray(0, length));
      stream.outgoing.drop(length);
      left -= length;
    }
  }

  /** Nothing more is said: QUIC's own end follows what was written. */
  finish(): void {
    if (this.over) return;
    this.over = true;
    this.#inner?.closeWrite();
  }

  /** Gives the QUIC stream away; what comes on it is its new owner's. */
  detach(): ByteStream {
    this.over = this.#gone = true;
    return this.#inner!;
  }

  /** Ends it at once; nothing is heard of it any more. */
  abort(): void {
    this.over = this.#gone = true;
    this.#inner?.abort();
  }

  // From the QUIC stream.

  data(chunk: Bytes): void {
    if (this.#gone) return;
    try {
      this.#receiver.receive(chunk);
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

/** QUIC streams that have to do something by a time: say what they are for, or end. */
export class StreamDeadlines {
  readonly #clock: MuxClock;
  readonly #late: (framed: FramedQuicStream) => unknown;
  readonly #until = new Map<FramedQuicStream, number>();

  /** @param late called for a stream whose time is up, before it is aborted */
  constructor(clock: MuxClock, late: (framed: FramedQuicStream) => unknown) {
    this.#clock = clock;
    this.#late = late;
  }

  /** The stream has so long, from now. */
  watch(framed: FramedQuicStream, forMs: number): void {
    const untilMs = this.#clock.nowMs() + forMs;
    this.#until.set(framed, untilMs);
    this.#clock.arm(untilMs);
  }

  /** It has done so. */
  forget(framed: FramedQuicStream): void {
    this.#until.delete(framed);
  }

  /** Does what is due, and returns the time of the next call. */
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
