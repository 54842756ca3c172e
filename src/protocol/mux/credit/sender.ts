/**
 * The outgoing half of a credit session: control frames first, then the streams in turn, a frame each, as far as the
 * peer's credit goes. Frames that wait together go out together.
 *
 * @module
 */
import { BlockPool } from "../../../bytes/block_pool.ts";
import type { Bytes } from "../../../bytes/bytes.ts";
import { type Filler, newChannelId } from "../../../wire/snitun/snitun_frame.ts";
import {
  CREDIT_HEADER_BYTES,
  CreditFrame,
  encodeCreditFrame,
  PING_BYTES,
  writeCreditHeader,
  writeU32,
} from "../../../wire/credit/credit_frame.ts";
import { Flight } from "../snitun/flight.ts";
import { Ring, SMALL_BYTES } from "../ring.ts";
import type { CreditStream } from "./stream.ts";
import { FRAME_MAX_SEND_BYTES } from "../queue_limits.ts";

/**
 * Credit dialect: a session's least window of bytes on their way. Larger than SniTun's, since the transport below may
 * hold a whole record at either end, of which nothing has been read yet.
 */
export const CREDIT_FLIGHT_MIN_BYTES = 256 * 1024;

/** A CREDIT: how much it grants is asked when it goes out. */
const CREDIT_FRAME_BYTES = CREDIT_HEADER_BYTES + 4;
/** The smallest piece of a stream that is worth a frame while something waits in front of it in the buffer. */
const PIECE_MIN_BYTES = 4096;

/** Working memory for writing frames. A session holds none of it between two turns, so many share one. */
export class CreditScratch {
  /** Frames as they go out: a full one, and control frames before and behind it. */
  readonly wire: Bytes = new Uint8Array(CREDIT_HEADER_BYTES + FRAME_MAX_SEND_BYTES + 1024);
  /** What the streams' queues are made of. */
  readonly blocks: BlockPool = new BlockPool();
}

/** Who hears of what was sent. */
export interface CreditSenderEvents {
  /** Sends bytes; false means: no more until `writable` is called. */
  write(bytes: Bytes): boolean;
  /** Monotonic milliseconds. */
  nowMs(): number;
  /** `byteLength` bytes of payload have left `stream`'s queue. */
  sent(stream: CreditStream, byteLength: number): void;
  /** The FIN that stood behind `stream`'s data is out. */
  finSent(stream: CreditStream): void;
  /** How much a CREDIT that goes out now grants a stream, or the session; 0 for none. */
  takeGrant(stream: CreditStream | undefined): number;
}

/** What waits in front of all data: a whole frame, or for whom a CREDIT is due. */
type Control = Bytes | CreditStream | "session";

/** Shared by all senders without a control frame; never written to. */
const NO_CONTROL: Control[] = [];

/** Collects what is to be sent and writes it, as far as the peer takes it. */
export class CreditSender {
  readonly #wire: Bytes;
  readonly #random: Filler;
  readonly #events: CreditSenderEvents;
  #control: Control[] = NO_CONTROL;
  readonly #small = new Ring<CreditStream>();
  readonly #bulk = new Ring<CreditStream>();
  #at = 0;

  /** What is on its way to the peer. */
  readonly flight = new Flight(CREDIT_FLIGHT_MIN_BYTES);
  /** The connection doesn't take more for now. */
  blocked = false;
  /** What the peer still takes, over all streams. */
  credit: number;

  constructor(scratch: CreditScratch, random: Filler, creditBytes: number, events: CreditSenderEvents) {
    this.#wire = scratch.wire;
    this.#random = random;
    this.#events = events;
    this.credit = creditBytes;
  }

  /** Whether data has to wait: for the connection, for the peer to have read, or for its credit. */
  get held(): boolean {
    return this.blocked || this.credit === 0 || this.flight.full;
  }

  /** Whether a stream that has this much to send doesn't have to wait: small frames pass a full window. */
  passes(queuedBytes: number): boolean {
    return !this.blocked && this.credit > 0 && (queuedBytes <= SMALL_BYTES || !this.flight.full);
  }

  /** Frames that wait before all data. */
  get controlFrames(): number {
    return this.#control.length;
  }

  /** Queues a whole frame, or a CREDIT, in front of all data. */
  control(frame: Control): void {
    if (this.#control === NO_CONTROL) this.#control = [];
    this.#control.push(frame);
  }

  /** Puts a stream at the end of the ring, if it has something to send, may send it, and isn't there yet. */
  ready(stream: CreditStream): void {
    if (stream.ready || stream.dead) return;
    if (stream.outgoing.byteLength === 0 || stream.sendCredit === 0) return;
    stream.ready = true;
    (stream.outgoing.byteLength <= SMALL_BYTES ? this.#small : this.#bulk).push(stream);
  }

  /** Writes `chunk` of `stream` at once, without queueing, as far as that can be; says how much it was. */
  direct(stream: CreditStream, chunk: Bytes): number {
    if (this.#control.length > 0 || this.#small.head !== undefined || this.#bulk.head !== undefined) return 0;
    if (stream.outgoing.byteLength > 0) return 0;
    let from = 0;
    while (from < chunk.length && !this.held && stream.sendCredit > 0) {
      const size = Math.min(chunk.length - from, FRAME_MAX_SEND_BYTES, stream.sendCredit, this.credit);
      this.#header(CreditFrame.DATA, size, stream);
      this.#wire.set(chunk.subarray(from, from + size), this.#at);
      this.#at += size;
      from += size;
      this.#count(stream, size);
      this.#write();
    }
    return from;
  }

  /** Writes what waits until the peer takes no more or nothing is left. */
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
        this.#credit(frame === "session" ? undefined : frame);
      }
      taken++;
    }
    if (taken === this.#control.length) this.#control = NO_CONTROL;
    else this.#control.splice(0, taken);
  }

  #credit(stream: CreditStream | undefined): void {
    const bytes = this.#events.takeGrant(stream);
    if (bytes === 0) return;
    writeCreditHeader(this.#wire, this.#at, CreditFrame.CREDIT, 4, stream?.id ?? 0);
    writeU32(this.#wire, this.#at + CREDIT_HEADER_BYTES, bytes);
    this.#at += CREDIT_FRAME_BYTES;
  }

  #canSend(): boolean {
    if (this.#control.length > 0) return true;
    if (this.credit === 0) return false;
    if (this.#small.head !== undefined && !this.flight.overfull) return true;
    return this.#bulk.head !== undefined && !this.flight.full;
  }

  /** What a frame may have in it now: room for a mark and for FIN is kept behind every payload. */
  get #room(): number {
    return this.#wire.length - this.#at - 3 * CREDIT_HEADER_BYTES - PING_BYTES;
  }

  #fillSmall(): void {
    while (this.#small.head !== undefined && this.credit > 0 && !this.flight.overfull) {
      if (this.#room < SMALL_BYTES) return;
      const stream = this.#small.shift()!;
      stream.ready = false;
      if (stream.outgoing.byteLength > SMALL_BYTES) {
        this.ready(stream); // it has become bulk while it waited
        continue;
      }
      this.flight.beSmall();
      this.#frame(stream, SMALL_BYTES);
    }
  }

  /** A frame of each stream in turn. */
  #fillBulk(): void {
    while (this.#bulk.head !== undefined && !this.held) {
      const room = this.#room;
      // A frame isn't cut down to what the buffer has left, where writing that first makes room.
      if (room < Math.min(this.#bulk.head.outgoing.byteLength, PIECE_MIN_BYTES)) return;
      const stream = this.#bulk.shift()!;
      stream.ready = false;
      this.#frame(stream, Math.min(room, FRAME_MAX_SEND_BYTES));
    }
  }

  /** The stream's next frame of at most so many bytes, and FIN where that stood behind it. */
  #frame(stream: CreditStream, maxBytes: number): void {
    const size = Math.min(stream.outgoing.byteLength, stream.sendCredit, this.credit, maxBytes);
    if (stream.dead || size === 0) return;
    this.#header(CreditFrame.DATA, size, stream);
    this.#takePayload(stream, size);
    this.#count(stream, size);
    this.#events.sent(stream, size);
    if (stream.finPending && stream.outgoing.byteLength === 0) {
      this.#header(CreditFrame.FIN, 0, stream);
      this.#events.finSent(stream);
    }
    this.ready(stream);
  }

  #header(type: number, size: number, stream: CreditStream): void {
    writeCreditHeader(this.#wire, this.#at, type, size, stream.id);
    this.#at += CREDIT_HEADER_BYTES;
  }

  /** Counts what is on its way, and sends a mark along where one is due. */
  #count(stream: CreditStream, size: number): void {
    stream.sendCredit -= size;
    this.credit -= size;
    this.flight.sent(size);
    this.#markIfDue();
  }

  #markIfDue(): void {
    if (!this.flight.markDue) return;
    const id = this.flight.mark(this.#events.nowMs(), () => newChannelId(this.#random));
    const mark = encodeCreditFrame(CreditFrame.PING, 0, id);
    this.#wire.set(mark, this.#at);
    this.#at += mark.length;
  }

  #takePayload(stream: CreditStream, size: number): void {
    let left = size;
    while (left > 0) {
      const piece = stream.outgoing.peek();
      const length = Math.min(piece.length, left);
      this.#wire.set(length === piece.length ? piece : piece.subarray(0, length), this.#at);
      stream.outgoing.drop(length);
      this.#at += length;
      left -= length;
    }
  }

  #write(): void {
    if (this.#at === 0) return;
    const bytes = this.#wire.subarray(0, this.#at);
    this.#at = 0;
    if (!this.#events.write(bytes)) this.blocked = true;
  }
}
