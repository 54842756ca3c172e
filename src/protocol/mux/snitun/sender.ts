/**
 * The send side of a SniTun session: control frames first, then the streams in turn, one frame each, at most 64 KiB.
 * Headers that are queued together are encrypted together, and a header is sent with its payload in one write.
 *
 * @module
 */
import { BlockPool } from "../../../bytes/block_pool.ts";
import { type Bytes, part } from "../../../bytes/bytes.ts";
import { Slab } from "../../../bytes/slab.ts";
import type { MemoryBudget } from "../../../bytes/memory_budget.ts";
import type { Sealer } from "../../../crypto/header_cipher.ts";
import { RandomPool } from "../../../crypto/random.ts";
import {
  encodePing,
  EXTRA_BYTES,
  FrameType,
  HEADER_BYTES,
  NEW_MAX_PAYLOAD_BYTES,
  writeHeader,
} from "../../../wire/snitun/snitun_frame.ts";
import { Flight } from "./flight.ts";
import type { MuxHost } from "../host.ts";
import { WasteTurns } from "../frame_budget.ts";
import { Ring, SMALL_BYTES } from "../ring.ts";
import type { MuxStream } from "./stream.ts";
import { FRAME_MAX_SEND_BYTES } from "../queue_limits.ts";
import { CONTROL_FRAMES_QUEUED_MAX } from "../session_core.ts";

/** Headers encrypted in one go, each perhaps with a NEW payload. */
const BATCH = 16;
/** Everything encrypted is a multiple of this. */
const BLOCK_BYTES = 16;
const MAX_OVERHEAD_BYTES = 28;
/** Shared by all senders without a control frame; never written to. */
const NOTHING: ControlFrame[] = [];

/**
 * Scratch memory for writing frames. A session holds none of it between turns, so all sessions of a transport share
 * one.
 */
export class SendScratch {
  /** Output buffer with room for two full frames, so that a write is worth its system call. */
  readonly wire: Bytes = new Uint8Array(2 * (FRAME_MAX_SEND_BYTES + HEADER_BYTES + MAX_OVERHEAD_BYTES));
  /** What is to be encrypted together, one after another. */
  readonly plain: Bytes = new Uint8Array(BATCH * (HEADER_BYTES + NEW_MAX_PAYLOAD_BYTES));
  /** Views of its first 0, 1, 2, … blocks. */
  readonly plainBlocks: readonly Bytes[] = Array.from(
    { length: this.plain.length / BLOCK_BYTES + 1 },
    (_, count) => this.plain.subarray(0, count * BLOCK_BYTES),
  );
  /** Where each header goes in `wire`, and how long it is once encrypted, with a payload that goes with it. */
  readonly places = new Int32Array(BATCH);
  readonly lengths = new Int32Array(BATCH);
  /** Blocks for the streams' queues. */
  readonly blocks: BlockPool;
  /** Random bytes for ids and for the unused bytes of headers. */
  readonly random = new RandomPool(4096);
  /** Ids of streams. */
  readonly slab = new Slab();
  readonly wasteTurns: WasteTurns = new WasteTurns();
  readonly #extra: Bytes = new Uint8Array(EXTRA_BYTES);

  /** @param memory counts the bytes in the streams' queues. Defaults to no accounting. */
  constructor(memory?: MemoryBudget) {
    this.blocks = new BlockPool(memory);
  }

  /** Random bytes for one header; valid until the next call. */
  randomExtra(): Bytes {
    this.random.fill(this.#extra);
    return this.#extra;
  }
}

/** A frame without payload, or NEW with the caller's address. */
export interface ControlFrame {
  readonly type: number;
  readonly id: Bytes;
  /** Bytes for the header's `extra`. Defaults to random. */
  readonly extra?: Bytes | undefined;
  /** Version 2 NEW: the caller's address, sealed as a separate unit. */
  readonly payload?: Bytes | undefined;
  /** PAUSE and RESUME are decided when they are written: one that has been revoked by then isn't sent. */
  readonly stream?: MuxStream;
}

/** Output and events of a {@link FrameSender}. */
interface SenderEvents {
  /** Sends bytes; false means to write no more until `writable` is called. */
  write(bytes: Bytes): boolean;
  /** Data is waiting to be flushed. */
  wake(): void;
  /** `byteLength` bytes of payload have left `stream`'s queue. */
  sent(stream: MuxStream, byteLength: number): void;
  /** The CLOSE queued behind `stream`'s data has been sent. */
  closeSent(stream: MuxStream): void;
  /** PAUSE or RESUME has been sent. */
  flowSent(stream: MuxStream): void;
}

/** Queues frames and writes them as fast as the peer accepts them. */
export class FrameSender {
  readonly #sealer: Sealer;
  readonly #scratch: SendScratch;
  readonly #host: MuxHost;
  readonly #events: SenderEvents;
  readonly #headerBytes: number;
  /** What is encrypted by itself: a header, or with aes-cbc, which is one chain, each block. */
  readonly #unitBytes: number;
  #control: ControlFrame[] = NOTHING;
  readonly #small = new Ring<MuxStream>();
  readonly #bulk = new Ring<MuxStream>();
  /** End of the data in the scratch buffer, how many of its headers are still unencrypted, and their bytes. */
  #at = 0;
  #batched = 0;
  #plainBytes = 0;

  /** Bytes in flight to the peer. */
  readonly flight = new Flight();
  /** The connection accepts no more bytes for now. */
  blocked = false;

  constructor(sealer: Sealer, scratch: SendScratch, host: MuxHost, events: SenderEvents) {
    this.#host = host;
    this.#sealer = sealer;
    this.#scratch = scratch;
    this.#events = events;
    this.#headerBytes = HEADER_BYTES + sealer.overheadBytes;
    this.#unitBytes = sealer.overheadBytes === 0 ? BLOCK_BYTES : HEADER_BYTES;
  }

  /** Whether data has to wait: for the connection, or for the peer to read the bytes in flight. */
  get held(): boolean {
    return this.blocked || this.flight.full;
  }

  get windowBytes(): number {
    return this.flight.windowBytes;
  }

  get roomBytes(): number {
    return this.flight.roomBytes;
  }

  /** Whether a stream with this much to send needn't wait: small frames may exceed a full window. */
  passes(queuedBytes: number): boolean {
    return !this.blocked && (queuedBytes <= SMALL_BYTES || !this.flight.full);
  }

  /** Whether anything is waiting to be sent. */
  get pending(): boolean {
    return this.#control.length > 0 || this.#small.head !== undefined || this.#bulk.head !== undefined;
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
    if (this.flight.tick(nowMs)) this.#events.wake();
    return Infinity;
  }

  /** Queues a control frame ahead of all data. */
  control(frame: ControlFrame): void {
    if (this.#control === NOTHING) this.#control = [];
    this.#control.push(frame);
  }

  /** Appends a stream to the ring if it has something to send, may send it, and isn't queued yet. */
  ready(stream: MuxStream): void {
    if (stream.ready || stream.dead) return;
    if (stream.outgoing.byteLength === 0 ? !stream.closePending : stream.peerPaused) return;
    stream.ready = true;
    (stream.outgoing.byteLength <= SMALL_BYTES ? this.#small : this.#bulk).push(stream);
  }

  /**
   * Writes `chunk` as frames of `stream` at once, without queueing, as far as the window allows. Returns the bytes
   * written. Only if nothing else is waiting. If the connection fills up meanwhile, the rest of the chunk is written too,
   * since it would otherwise be copied once more.
   */
  direct(stream: MuxStream, chunk: Bytes): number {
    const wire = this.#scratch.wire;
    let from = 0;
    while (from < chunk.length && !this.flight.full) {
      const size = Math.min(chunk.length - from, FRAME_MAX_SEND_BYTES);
      if (!this.#roomFor(size)) {
        this.#write();
        continue;
      }
      this.#header(stream.id, FrameType.DATA, size, undefined);
      wire.set(part(chunk, from, from + size), this.#at);
      this.#at += size;
      from += size;
      this.#count(stream, size);
    }
    this.#write();
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

  #canSend(): boolean {
    if (this.#control.length > 0) return true;
    if (this.#small.head !== undefined && !this.flight.overfull) return true;
    return this.#bulk.head !== undefined && !this.flight.full;
  }

  #fillControl(): void {
    let taken = 0;
    while (taken < this.#control.length && this.#roomFor(2 * (HEADER_BYTES + MAX_OVERHEAD_BYTES))) {
      const frame = this.#control[taken++];
      const stream = frame.stream;
      if (stream !== undefined) {
        // PAUSE or RESUME: only the latest state is sent, and nothing is sent for a closed stream.
        stream.flowQueued = false;
        if (stream.dead || stream.remoteClosed || stream.wantsPause === stream.pauseSent) continue;
        stream.pauseSent = stream.wantsPause;
        this.#events.flowSent(stream);
        this.#header(frame.id, stream.wantsPause ? FrameType.PAUSE : FrameType.RESUME, 0, undefined);
        if (stream.wantsPause) this.#askWhetherSeen(stream);
      } else {
        this.#header(frame.id, frame.type, frame.payload?.length ?? 0, frame.extra);
        if (frame.payload !== undefined) this.#sealedPayload(frame.payload);
      }
    }
    if (taken === this.#control.length) this.#control = NOTHING;
    else this.#control.splice(0, taken);
  }

  /** Sends a ping with the stream's id after a PAUSE: data received after its pong ignores the PAUSE. */
  #askWhetherSeen(stream: MuxStream): void {
    stream.pausesUnseen++;
    this.#header(stream.id, FrameType.PING, 0, encodePing("ping", this.#scratch.random));
  }

  #fillSmall(): void {
    while (this.#small.head !== undefined && !this.flight.overfull && this.#roomFor(SMALL_BYTES)) {
      const stream = this.#small.shift()!;
      stream.ready = false;
      if (stream.outgoing.byteLength > SMALL_BYTES) {
        this.ready(stream); // it has become bulk while it waited
        continue;
      }
      this.#frame(stream, stream.outgoing.byteLength);
    }
  }

  /** Writes one frame per stream in turn. */
  #fillBulk(): void {
    while (this.#bulk.head !== undefined && !this.flight.full) {
      const size = Math.min(this.#bulk.head.outgoing.byteLength, FRAME_MAX_SEND_BYTES);
      if (!this.#roomFor(size)) return;
      const stream = this.#bulk.shift()!;
      stream.ready = false;
      this.#frame(stream, size);
    }
  }

  /** Writes the stream's next frame: payload, or the CLOSE after it. */
  #frame(stream: MuxStream, size: number): void {
    if (stream.dead || (size > 0 && stream.peerPaused)) return;
    if (size > 0) {
      this.#header(stream.id, FrameType.DATA, size, undefined);
      stream.outgoing.moveTo(this.#scratch.wire, this.#at, size);
      this.#at += size;
      this.#events.sent(stream, size);
      this.#count(stream, size);
    } else if (stream.closePending) {
      this.#header(stream.id, FrameType.CLOSE, 0, undefined);
      this.#events.closeSent(stream);
    }
    this.ready(stream);
  }

  /** Counts payload as in flight, and adds a mark if one is due. */
  #count(stream: MuxStream, size: number): void {
    if (stream.countFrame(size)) this.flight.staySmall();
    this.flight.sent(size);
    this.#markIfDue();
  }

  #markIfDue(): void {
    if (!this.flight.markDue) return;
    const { random } = this.#scratch;
    if (!this.#roomFor(0)) this.#write();
    const id = this.flight.mark(this.#host.nowMs(), random);
    this.#header(id, FrameType.PING, 0, encodePing("ping", random));
  }

  /** Whether a frame with `size` bytes of payload fits. */
  #roomFor(size: number): boolean {
    return this.#at + this.#headerBytes + size <= this.#scratch.wire.length;
  }

  /** Reserves space for the header, which is encrypted with the others of its batch. */
  #header(id: Bytes, type: number, size: number, extra: Bytes | undefined): void {
    if (this.#batched === BATCH) this.#sealBatch();
    const { plain, places, lengths } = this.#scratch;
    writeHeader(plain, this.#plainBytes, id, type, size, extra ?? this.#scratch.randomExtra());
    this.#plainBytes += HEADER_BYTES;
    places[this.#batched] = this.#at;
    lengths[this.#batched++] = this.#headerBytes;
    this.#at += this.#headerBytes;
  }

  /** A separate unit, right behind its header. */
  #sealedPayload(payload: Bytes): void {
    const { plain, wire, lengths } = this.#scratch;
    if (this.#unitBytes === BLOCK_BYTES) {
      plain.set(payload, this.#plainBytes);
      this.#plainBytes += payload.length;
      lengths[this.#batched - 1]! += payload.length;
      this.#at += payload.length;
      return;
    }
    this.#sealBatch();
    const sealed = this.#sealer.seal(payload, payload.length);
    wire.set(sealed, this.#at);
    this.#at += sealed.length;
  }

  #sealBatch(): void {
    const count = this.#batched;
    if (count === 0) return;
    const { wire, plainBlocks, places, lengths } = this.#scratch;
    const sealed = this.#sealer.seal(plainBlocks[this.#plainBytes / BLOCK_BYTES]!, this.#unitBytes);
    this.#batched = this.#plainBytes = 0;
    if (count === 1) return wire.set(sealed, places[0]);
    let from = 0;
    for (let i = 0; i < count; i++) {
      // They are short, so a loop costs less than a view of each.
      for (let to = places[i]!, end = to + lengths[i]!; to < end; to++) wire[to] = sealed[from++]!;
    }
  }

  #write(): void {
    this.#sealBatch();
    if (this.#at === 0) return;
    const bytes = this.#scratch.wire.subarray(0, this.#at);
    this.#at = 0;
    if (this.#events.write(bytes)) return;
    this.blocked = true;
    this.flight.connectionFull();
  }
}
