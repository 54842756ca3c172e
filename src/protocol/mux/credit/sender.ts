/**
 * The send side of a credit session: control frames first, then the streams in turn, one frame each, as far as the
 * peer's credit allows. Frames that are queued together are written together.
 *
 * @module
 */
import { BlockPool } from "../../../bytes/block_pool.ts";
import { type Bytes, part } from "../../../bytes/bytes.ts";
import type { MemoryBudget } from "../../../bytes/memory_budget.ts";
import type { Filler } from "../../../wire/snitun/snitun_frame.ts";
import {
  CREDIT_HEADER_BYTES,
  CreditFrame,
  encodeCreditFrame,
  PING_BYTES,
  writeCreditHeader,
  writeU32,
} from "../../../wire/credit/credit_frame.ts";
import { Flight } from "../snitun/flight.ts";
import { WasteTurns } from "../frame_budget.ts";
import { Ring, SMALL_BYTES } from "../ring.ts";
import type { CreditSink, FrameChannel } from "./channel.ts";
import type { NumberedStream } from "./session.ts";
import type { CreditTable } from "./table.ts";
import { CREDIT_SESSION_FIRST_BYTES } from "./windows.ts";
import { CONTROL_FRAMES_QUEUED_MAX } from "../session_core.ts";
import { SallyportError } from "../../../errors.ts";
import { FRAME_MAX_SEND_BYTES } from "../queue_limits.ts";

/**
 * Credit dialect: minimum in-flight window of a session. Larger than SniTun's, since the transport below may hold a
 * whole unread record at either end.
 */
export const CREDIT_FLIGHT_MIN_BYTES = 256 * 1024;

/** A CREDIT frame; its amount is determined when it is sent. */
const CREDIT_FRAME_BYTES = CREDIT_HEADER_BYTES + 4;
/** The smallest piece of a stream that is worth a frame while other data precedes it in the buffer. */
const PIECE_MIN_BYTES = 4096;

/** Scratch memory for writing frames. Sessions hold none of it between turns, so many can share one. */
export class CreditScratch {
  /** Output buffer: room for one full frame with control frames before and after it. */
  readonly wire: Bytes = new Uint8Array(CREDIT_HEADER_BYTES + FRAME_MAX_SEND_BYTES + 1024);
  /** Blocks for the streams' queues. */
  readonly blocks: BlockPool;
  readonly wasteTurns: WasteTurns = new WasteTurns();

  /** @param memory counts the bytes in the streams' queues. Defaults to no accounting. */
  constructor(memory?: MemoryBudget) {
    this.blocks = new BlockPool(memory);
  }
}

/** A queued control frame: a complete frame, or the stream (or session) that is due a CREDIT. */
type Control = Bytes | NumberedStream | "session";

/** Shared by all senders without a control frame; never written to. */
const NO_CONTROL: Control[] = [];

/** Queues frames and writes them as fast as the peer accepts them. */
export class CreditSender implements FrameChannel<number> {
  readonly #wire: Bytes;
  readonly #random: Filler;
  readonly #table: CreditTable;
  readonly #sink: CreditSink<number>;
  readonly #writeBytes: (bytes: Bytes) => boolean;
  #control: Control[] = NO_CONTROL;
  readonly #small = new Ring<NumberedStream>();
  readonly #bulk = new Ring<NumberedStream>();
  #at = 0;
  /** The peer's remaining credit over all streams. */
  #credit = CREDIT_SESSION_FIRST_BYTES;

  /** Bytes in flight to the peer. */
  readonly flight = new Flight(CREDIT_FLIGHT_MIN_BYTES);
  /** The connection accepts no more bytes for now. */
  blocked = false;

  /** @param write sends bytes; false means to write no more until {@link blocked} is false again. */
  constructor(
    options: { readonly scratch: CreditScratch; readonly random: Filler },
    table: CreditTable,
    sink: CreditSink<number>,
    write: (bytes: Bytes) => boolean,
  ) {
    this.#wire = options.scratch.wire;
    this.#random = options.random;
    this.#table = table;
    this.#sink = sink;
    this.#writeBytes = write;
  }

  // Streams and control frames.

  newLane(): number {
    return this.#table.takeOwn();
  }

  opened(stream: NumberedStream): void {
    this.#table.add(stream);
    this.flight.staySmall();
    if (!stream.own || !this.#table.usedUp) return;
    const why = "Cannot open stream: the session has used up its stream numbers";
    this.#sink.goAway(new SallyportError("limit_exceeded", why, { side: "local", retryable: true }));
  }

  control(lane: number | undefined, type: number, body: Bytes): void {
    this.#queue(encodeCreditFrame(type, lane ?? 0, body));
  }

  creditDue(stream: NumberedStream | undefined): void {
    this.#queue(stream ?? "session");
  }

  credited(bytes: number): void {
    this.#credit += bytes;
  }

  strayPong(id: Bytes): void {
    if (this.flight.pong(id, this.#sink.nowMs())) this.#sink.wake();
  }

  finish(): void {}

  abort(): void {}

  closed(stream: NumberedStream): void {
    this.#table.remove(stream);
  }

  /** More control frames are queued than a peer that is reading could have caused. */
  get congested(): boolean {
    return this.#control.length > CONTROL_FRAMES_QUEUED_MAX;
  }

  /** Deadline for the peer to unblock waiting data; Infinity if none is waiting. */
  get patienceEndsMs(): number {
    return this.flight.full ? this.flight.patienceEndsMs : Infinity;
  }

  /** Stops waiting for a peer that doesn't answer marks. */
  tick(nowMs: number): number {
    if (this.flight.tick(nowMs)) this.#sink.wake();
    return Infinity;
  }

  /** Queues a frame ahead of all data. */
  #queue(frame: Control): void {
    if (this.#control === NO_CONTROL) this.#control = [];
    this.#control.push(frame);
  }

  // Data.

  /** Whether data has to wait: for the connection, for the peer to read, or for credit. */
  get held(): boolean {
    return this.blocked || this.#credit === 0 || this.flight.full;
  }

  get windowBytes(): number {
    return this.flight.windowBytes;
  }

  get roomBytes(): number {
    return this.flight.roomBytes;
  }

  /** Whether a stream with this much to send needn't wait: small frames may exceed a full window. */
  passes(queuedBytes: number): boolean {
    return !this.blocked && this.#credit > 0 && (queuedBytes <= SMALL_BYTES || !this.flight.full);
  }

  /** Appends a stream to the ring if it has something to send, may send it, and isn't queued yet. */
  ready(stream: NumberedStream): void {
    if (stream.ready || stream.dead) return;
    if (stream.outgoing.byteLength === 0 || stream.sendCredit === 0) return;
    stream.ready = true;
    (stream.outgoing.byteLength <= SMALL_BYTES ? this.#small : this.#bulk).push(stream);
  }

  /** Writes as much of `chunk` as possible at once, without queueing. Returns the number of bytes written. */
  direct(stream: NumberedStream, chunk: Bytes): number {
    if (this.#control.length > 0 || this.#small.head !== undefined || this.#bulk.head !== undefined) return 0;
    if (stream.outgoing.byteLength > 0) return 0;
    let from = 0;
    while (from < chunk.length && !this.held && stream.sendCredit > 0) {
      const size = Math.min(chunk.length - from, FRAME_MAX_SEND_BYTES, stream.sendCredit, this.#credit);
      this.#header(CreditFrame.DATA, size, stream);
      this.#wire.set(part(chunk, from, from + size), this.#at);
      this.#at += size;
      from += size;
      this.#count(stream, size);
      this.#write();
    }
    return from;
  }

  /** Writes queued frames until the peer accepts no more or the queues are empty. */
  flush(): void {
    while (!this.blocked && this.#canSend()) {
      this.#fillControl();
      this.#fillSmall();
      this.#fillBulk();
      this.#write();
    }
    if (this.blocked) return;
    this.#markIfDue();
    this.#write();
  }

  #fillControl(): void {
    let taken = 0;
    while (taken < this.#control.length) {
      const frame = this.#control[taken]!;
      const room = this.#wire.length - this.#at;
      if (frame instanceof Uint8Array) {
        if (frame.length > room) break;
        this.#wire.set(frame, this.#at);
        this.#at += frame.length;
      } else {
        if (CREDIT_FRAME_BYTES > room) break;
        this.#creditFrame(frame === "session" ? undefined : frame);
      }
      taken++;
    }
    if (taken === this.#control.length) this.#control = NO_CONTROL;
    else this.#control.splice(0, taken);
  }

  #creditFrame(stream: NumberedStream | undefined): void {
    const bytes = this.#sink.takeGrant(stream);
    if (bytes === 0) return;
    writeCreditHeader(this.#wire, this.#at, CreditFrame.CREDIT, 4, stream?.lane ?? 0);
    writeU32(this.#wire, this.#at + CREDIT_HEADER_BYTES, bytes);
    this.#at += CREDIT_FRAME_BYTES;
  }

  #canSend(): boolean {
    if (this.#control.length > 0) return true;
    if (this.#credit === 0) return false;
    if (this.#small.head !== undefined && !this.flight.overfull) return true;
    return this.#bulk.head !== undefined && !this.flight.full;
  }

  /** The largest payload that fits now, with room reserved for a mark and a FIN after it. */
  get #room(): number {
    return this.#wire.length - this.#at - 3 * CREDIT_HEADER_BYTES - PING_BYTES;
  }

  #fillSmall(): void {
    while (this.#small.head !== undefined && this.#credit > 0 && !this.flight.overfull) {
      if (this.#room < SMALL_BYTES) return;
      const stream = this.#small.shift()!;
      stream.ready = false;
      if (stream.outgoing.byteLength > SMALL_BYTES) {
        this.ready(stream); // it has become bulk while it waited
        continue;
      }
      this.#frame(stream, SMALL_BYTES);
    }
  }

  /** Writes one frame per stream in turn. */
  #fillBulk(): void {
    while (this.#bulk.head !== undefined && !this.held) {
      const room = this.#room;
      // If flushing the buffer first makes room, a frame isn't cut down to the space left.
      if (room < Math.min(this.#bulk.head.outgoing.byteLength, PIECE_MIN_BYTES)) return;
      const stream = this.#bulk.shift()!;
      stream.ready = false;
      this.#frame(stream, Math.min(room, FRAME_MAX_SEND_BYTES));
    }
  }

  /** Writes the stream's next frame of at most `maxBytes`, and its FIN if one follows the data. */
  #frame(stream: NumberedStream, maxBytes: number): void {
    const size = Math.min(stream.outgoing.byteLength, stream.sendCredit, this.#credit, maxBytes);
    if (stream.dead || size === 0) return;
    this.#header(CreditFrame.DATA, size, stream);
    stream.outgoing.moveTo(this.#wire, this.#at, size);
    this.#at += size;
    this.#count(stream, size);
    this.#sink.sent(stream, size);
    if (stream.finPending && stream.outgoing.byteLength === 0) {
      this.#header(CreditFrame.FIN, 0, stream);
      this.#sink.finSent(stream);
    }
    this.ready(stream);
  }

  #header(type: number, size: number, stream: NumberedStream): void {
    writeCreditHeader(this.#wire, this.#at, type, size, stream.lane);
    this.#at += CREDIT_HEADER_BYTES;
  }

  /** Counts payload as in flight, and adds a mark if one is due. */
  #count(stream: NumberedStream, size: number): void {
    stream.sendCredit -= size;
    this.#credit -= size;
    if (stream.countFrame(size)) this.flight.staySmall();
    this.flight.sent(size);
    this.#markIfDue();
  }

  #markIfDue(): void {
    if (!this.flight.markDue) return;
    const id = this.flight.mark(this.#sink.nowMs(), this.#random);
    const mark = encodeCreditFrame(CreditFrame.PING, 0, id);
    this.#wire.set(mark, this.#at);
    this.#at += mark.length;
  }

  #write(): void {
    if (this.#at === 0) return;
    const bytes = this.#wire.subarray(0, this.#at);
    this.#at = 0;
    if (this.#writeBytes(bytes)) return;
    this.blocked = true;
    this.flight.connectionFull();
  }
}
