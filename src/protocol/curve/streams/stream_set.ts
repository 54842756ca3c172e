/**
 * The streams of a connection: their maximum number, send scheduling, and shared credit.
 *
 * @module
 */
import type { Bytes } from "../../../bytes/bytes.ts";
import { type InternalError, SallyportError } from "../../../errors.ts";
import {
  CONTROL_MAX_BYTES,
  FrameType,
  type FrameWriter,
  streamHeadBytes,
  writeControl,
  writeStreamHead,
} from "../../../wire/curve/curve_frame.ts";
import { WindowPool } from "../../mux/window_pool.ts";
import type { SentOther, SentPacket } from "../recovery/recovery.ts";
import { brokenFrame, CurveStream, type StreamHost, type StreamLimits } from "./stream.ts";

/** Maximum bytes on stream 0 in each direction. */
export const CONTROL_STREAM_BYTES = 16_384 + 64;
/** A STREAM frame with less data than this isn't worth its header. */
const PIECE_MIN_BYTES = 24;

/** Limits of a connection's streams. */
export interface StreamSetLimits extends StreamLimits {
  /** Receive credit over all streams. */
  readonly connectionWindowBytes: number;
  /** Streams that the peer may have open at once. */
  readonly streamsMax: number;
}

/** The connection as seen by the set. */
interface StreamSetHost {
  /** The time of the current turn. */
  nowMs(): number;
  /** There may be data to send or events to deliver. */
  wake(): void;
  /** The peer has opened a stream. */
  opened(stream: CurveStream): void;
  /** A stream is over. */
  closed(stream: CurveStream): void;
  /** Duplicate bytes were received. */
  duplicate(): void;
  /** A stream's handler has thrown. */
  fault(error: InternalError): void;
}

/** All streams of one connection. */
export class StreamSet implements StreamHost {
  readonly control: CurveStream;
  readonly #host: StreamSetHost;
  readonly #limits: StreamSetLimits;
  readonly #streams = new Map<number, CurveStream>();
  /** Our next id, and the peer's lowest unopened id. */
  #nextOwn: number;
  #nextPeer: number;
  #ownMax = 0;
  #peerMax: number;
  #peerOpened = 0;
  #ownOpened = 0;

  // Credit over all streams: ours to send, and the peer's.
  #sendMax = 0;
  #sent = 0;
  #firstStreamMax = 0;
  #receiveMax: number;
  #received = 0;
  #consumed = 0;
  readonly #pool: WindowPool<CurveStream>;
  #stallDueMs = Infinity;
  #owesMaxData = false;
  #owesMaxStreams = false;

  /** Streams with something to send; taken from the front, put back at the end. */
  #ready: CurveStream[] = [];
  #readyAt = 0;
  /** Streams waiting for the connection's credit. */
  #blocked: CurveStream[] = [];
  #credits: CurveStream[] = [];
  #resets: CurveStream[] = [];
  #turns: CurveStream[] = [];
  /** Released streams waiting for the peer's end, with the time to give up. */
  readonly #lingering = new Map<CurveStream, number>();
  bytesResent = 0;

  constructor(host: StreamSetHost, limits: StreamSetLimits, firstOwnId: 1 | 2) {
    this.#host = host;
    this.#limits = limits;
    this.#nextOwn = firstOwnId;
    this.#nextPeer = firstOwnId === 1 ? 2 : 1;
    this.#peerMax = limits.streamsMax;
    this.#receiveMax = limits.connectionWindowBytes;
    const drop = (stream: CurveStream, why: string) =>
      stream.abort(new SallyportError("stream_overflow", why, { side: "peer" }));
    const arm = (atMs: number) => {
      this.#stallDueMs = atMs;
      host.wake();
    };
    this.#pool = new WindowPool(
      { nowMs: () => this.nowMs, arm },
      this.#visitors,
      drop,
      limits.firstWindowBytes,
      limits.windowBytes,
    );
    const control = {
      ...limits,
      firstWindowBytes: CONTROL_STREAM_BYTES,
      windowBytes: CONTROL_STREAM_BYTES,
      sendMaxBytes: CONTROL_STREAM_BYTES,
    };
    this.control = new CurveStream(0, this, control, CONTROL_STREAM_BYTES, false);
    this.#streams.set(0, this.control);
  }

  /** Streams open now, excluding stream 0. */
  get open(): number {
    return this.#streams.size - (this.#streams.has(0) ? 1 : 0);
  }

  /** Opens a stream. Throws `limit_exceeded`. */
  create(): CurveStream {
    if (this.#ownOpened >= this.#ownMax) {
      throw new SallyportError("limit_exceeded", "Cannot open stream: the peer allows no more", {
        side: "peer",
        retryable: true,
      });
    }
    const stream = new CurveStream(this.#nextOwn, this, this.#limits, this.#firstStreamMax);
    this.#nextOwn += 2;
    this.#ownOpened++;
    this.#streams.set(stream.id, stream);
    return stream;
  }

  /** Ends all streams. */
  end(error: SallyportError): void {
    const streams = [...this.#streams.values()];
    this.#streams.clear();
    this.#ready = [];
    this.#blocked = [];
    this.#credits = [];
    this.#resets = [];
    this.#lingering.clear();
    for (const stream of streams) {
      stream.end(error);
      if (stream.id !== 0) this.#host.closed(stream);
    }
  }

  // Frames of the peer.

  /** Handles the peer's PARAMS: credit and stream limits. */
  params(maxData: number, maxStreamData: number, maxStreams: number): void {
    this.#firstStreamMax = Math.max(this.#firstStreamMax, maxStreamData);
    this.maxStreams(maxStreams);
    this.maxData(maxData);
  }

  maxData(limit: number): void {
    if (limit <= this.#sendMax) return;
    this.#sendMax = limit;
    const blocked = this.#blocked;
    this.#blocked = [];
    for (const stream of blocked) {
      stream.queued = false;
      this.wantsToSend(stream);
    }
  }

  maxStreams(limit: number): void {
    this.#ownMax = Math.max(this.#ownMax, limit);
  }

  maxStreamData(id: number, limit: number): void {
    this.#find(id)?.raiseSendLimit(limit);
  }

  data(id: number, offset: number, bytes: Bytes, fin: boolean): void {
    this.#find(id)?.frameReceived(offset, bytes, fin);
  }

  reset(id: number, code: number, finalOffset: number): void {
    this.#find(id)?.resetReceived(code, finalOffset);
  }

  /** Returns the stream with this id; undefined if it is over. */
  #find(id: number): CurveStream | undefined {
    const known = this.#streams.get(id);
    if (known !== undefined || id === 0) return known;
    if (id % 2 === this.#nextOwn % 2) {
      if (id >= this.#nextOwn) throw brokenFrame("it names a stream that isn't open");
      return undefined;
    }
    while (this.#nextPeer <= id) {
      if (this.#peerOpened >= this.#peerMax) throw brokenFrame("it opens more streams than are allowed");
      const stream = new CurveStream(this.#nextPeer, this, this.#limits, this.#firstStreamMax);
      this.#nextPeer += 2;
      this.#peerOpened++;
      this.#streams.set(stream.id, stream);
      this.#host.opened(stream);
    }
    return this.#streams.get(id);
  }

  // StreamHost.

  wantsToSend(stream: CurveStream): void {
    if (!stream.queued) {
      stream.queued = true;
      this.#ready.push(stream);
    }
    this.#host.wake();
  }

  wantsTurn(stream: CurveStream): void {
    if (!stream.turnQueued) {
      stream.turnQueued = true;
      this.#turns.push(stream);
    }
    this.#host.wake();
  }

  received(bytes: number): void {
    this.#received += bytes;
    if (this.#received > this.#receiveMax) throw brokenFrame("it exceeds the connection's credit");
    this.#pool.check(this.#window, this.#unread);
    this.#offer();
  }

  consumed(bytes: number): void {
    this.#consumed += bytes;
    this.#pool.check(this.#window, this.#unread);
    this.#offer();
  }

  /** Raises the peer's credit once that is worth a frame. */
  #offer(): void {
    const window = this.#window;
    // Of what unread bytes leave, lest the others wait for an offer that never gets large enough.
    const more = Math.floor(this.#consumed + window - this.#receiveMax);
    if (more < Math.max(1, (window - this.#unread) / 2)) return;
    this.#receiveMax += more;
    this.#owesMaxData = true;
    this.#host.wake();
  }

  /** The peer's credit over all streams; shrinks as the process runs out of memory. */
  get #window(): number {
    const { connectionWindowBytes, memory } = this.#limits;
    return memory?.share(connectionWindowBytes) ?? connectionWindowBytes;
  }

  /** Bytes that were received and have not been read, including gaps. */
  get #unread(): number {
    return this.#received - this.#consumed;
  }

  /** The streams but stream 0. */
  readonly #visitors: Iterable<CurveStream> = {
    [Symbol.iterator]: () => this.#streams.values().filter(({ id }) => id !== 0),
  };

  windowOf(stream: CurveStream, consumedBytes: number): number {
    return this.#pool.windowOf(stream, consumedBytes, this.#window, this.#unread);
  }

  granted(stream: CurveStream, outstandingBytes: number): void {
    this.#pool.granted(stream, outstandingBytes);
  }

  get nowMs(): number {
    return this.#host.nowMs();
  }

  owesCredit(stream: CurveStream): void {
    if (stream.creditOwed) return;
    stream.creditOwed = true;
    this.#credits.push(stream);
    this.#host.wake();
  }

  owesReset(stream: CurveStream): void {
    if (stream.resetOwed) return;
    stream.resetOwed = true;
    this.#resets.push(stream);
    this.#host.wake();
  }

  finished(stream: CurveStream): void {
    if (!this.#streams.delete(stream.id) || stream.id === 0) return;
    this.#pool.granted(stream, 0);
    this.#lingering.delete(stream);
    if (stream.id % 2 !== this.#nextOwn % 2) {
      this.#peerMax++;
      this.#owesMaxStreams = true;
      this.#host.wake();
    }
    this.#host.closed(stream);
  }

  duplicate(): void {
    this.#host.duplicate();
  }

  fault(error: InternalError): void {
    this.#host.fault(error);
  }

  // Turns and time.

  /** Delivers pending events to handlers. */
  turn(nowMs: number, lingerMs: number): void {
    const turns = this.#turns;
    if (turns.length === 0) return;
    this.#turns = [];
    for (const stream of turns) {
      stream.turnQueued = false;
      stream.turn();
      if (stream.waitsForEnd && !this.#lingering.has(stream)) this.#lingering.set(stream, nowMs + lingerMs);
    }
  }

  /** When {@link tick} is due. */
  get deadlineMs(): number {
    // Insertion order is chronological.
    for (const atMs of this.#lingering.values()) return Math.min(atMs, this.#stallDueMs);
    return this.#stallDueMs;
  }

  /** Gives up released streams whose peer doesn't end them, and stalled ones. */
  tick(nowMs: number): void {
    this.#stallDueMs = this.#pool.tick(nowMs);
    for (const [stream, atMs] of this.#lingering) {
      if (atMs > nowMs) return;
      this.#lingering.delete(stream);
      stream.abort();
    }
  }

  // Packing.

  /** Whether anything is waiting to be sent. */
  get sendable(): boolean {
    if (this.#owesMaxData || this.#owesMaxStreams || this.#credits.length > 0 || this.#resets.length > 0) {
      return true;
    }
    this.#settleFront();
    return this.#readyAt < this.#ready.length;
  }

  /** Values for PARAMS: MAX_DATA, initial MAX_STREAM_DATA, MAX_STREAMS. */
  get announced(): [maxData: number, maxStreamData: number, maxStreams: number] {
    return [this.#receiveMax, this.#limits.firstWindowBytes, this.#peerMax];
  }

  /** Fills a packet: control frames first, then streams in turn. True if it wrote anything. */
  fill(writer: FrameWriter, packet: SentPacket<CurveStream>): boolean {
    const from = writer.at;
    this.#fillControl(writer, packet);
    for (;;) {
      this.#settleFront();
      const stream = this.#ready[this.#readyAt];
      if (stream === undefined) break;
      const credit = this.#sendMax - this.#sent;
      const offset = stream.sendOffset;
      const head = streamHeadBytes(stream.id, offset, writer.room);
      const wanted = stream.sendLength(credit);
      const length = Math.min(wanted, writer.room - head);
      if (length < 0 || (length < wanted && length < PIECE_MIN_BYTES)) break;
      const fin = stream.finAt(offset + length);
      writeStreamHead(writer, stream.id, offset, length, fin);
      const fresh = stream.takeInto(writer.take(length), offset, fin);
      this.#sent += fresh;
      this.bytesResent += length - fresh;
      if (packet.part === undefined) {
        packet.part = stream;
        packet.offset = offset;
        packet.length = length;
        packet.fin = fin;
      } else note(packet, { kind: 0, part: stream, offset, length, fin });
      this.#readyAt++;
      // Other streams come first now; whether this one has more is checked when it reaches the front again.
      this.#ready.push(stream);
    }
    return writer.at > from;
  }

  /** Advances the front to a stream that can send; those that can't are removed from the queue. */
  #settleFront(): void {
    const credit = this.#sendMax - this.#sent;
    while (this.#readyAt < this.#ready.length) {
      const stream = this.#ready[this.#readyAt]!;
      if (stream.sendable(credit)) break;
      this.#readyAt++;
      if (stream.waitsForConnection) this.#blocked.push(stream);
      else stream.queued = false;
    }
    if (this.#readyAt > 256 || this.#readyAt === this.#ready.length) {
      this.#ready.splice(0, this.#readyAt);
      this.#readyAt = 0;
    }
  }

  #fillControl(writer: FrameWriter, packet: SentPacket<CurveStream>): void {
    if (this.#owesMaxData && writer.room >= CONTROL_MAX_BYTES) {
      this.#owesMaxData = false;
      writeControl(writer, FrameType.maxData, this.#receiveMax);
      note(packet, { kind: FrameType.maxData, part: undefined, offset: 0, length: 0, fin: false });
    }
    if (this.#owesMaxStreams && writer.room >= CONTROL_MAX_BYTES) {
      this.#owesMaxStreams = false;
      writeControl(writer, FrameType.maxStreams, this.#peerMax);
      note(packet, { kind: FrameType.maxStreams, part: undefined, offset: 0, length: 0, fin: false });
    }
    while (this.#resets.length > 0 && writer.room >= CONTROL_MAX_BYTES) {
      const stream = this.#resets.pop()!;
      stream.resetOwed = false;
      writeControl(writer, FrameType.reset, stream.id, stream.resetCode, stream.resetOffset);
      note(packet, { kind: FrameType.reset, part: stream, offset: 0, length: 0, fin: false });
    }
    while (this.#credits.length > 0 && writer.room >= CONTROL_MAX_BYTES) {
      const stream = this.#credits.pop()!;
      stream.creditOwed = false;
      if (!stream.receiving) continue;
      writeControl(writer, FrameType.maxStreamData, stream.id, stream.receiveLimit);
      note(packet, { kind: FrameType.maxStreamData, part: stream, offset: 0, length: 0, fin: false });
    }
  }

  // Fates of packets.

  /** The packet's contents have arrived. */
  acked(packet: SentPacket<CurveStream>): void {
    packet.part?.framesAcked(packet.offset, packet.length, packet.fin);
    if (packet.others === undefined) return;
    for (const other of packet.others) {
      if (other.kind === 0) other.part!.framesAcked(other.offset, other.length, other.fin);
      else if (other.kind === FrameType.reset) other.part!.resetWasAcked();
    }
  }

  /** The packet's contents must be sent again. */
  lost(packet: SentPacket<CurveStream>): void {
    packet.part?.framesLost(packet.offset, packet.length, packet.fin);
    if (packet.others === undefined) return;
    for (const { kind, part, offset, length, fin } of packet.others) {
      if (kind === 0) part!.framesLost(offset, length, fin);
      else if (kind === FrameType.reset) this.owesReset(part!);
      else if (kind === FrameType.maxStreamData) this.owesCredit(part!);
      else if (kind === FrameType.maxData) this.#owesMaxData = true;
      else if (kind === FrameType.maxStreams) this.#owesMaxStreams = true;
    }
    this.#host.wake();
  }
}

function note(packet: SentPacket<CurveStream>, other: SentOther<CurveStream>): void {
  (packet.others ??= []).push(other);
}
