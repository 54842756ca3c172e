/**
 * Carries a credit session over QUIC (docs/quic-transport.md, Frames): each stream's frames on their own QUIC stream,
 * the session's on the control stream. Streams send data frames round-robin, as far as the peer's credit and the QUIC
 * streams allow.
 *
 * @module
 */
import { type Bytes, part } from "../../bytes/bytes.ts";
import type { CreditSink, FrameChannel } from "../../protocol/mux/credit/channel.ts";
import { CREDIT_SESSION_FIRST_BYTES } from "../../protocol/mux/credit/windows.ts";
import type { MuxClock } from "../../protocol/mux/host.ts";
import { FRAME_MAX_SEND_BYTES, SESSION_WRITE_STALL_MS } from "../../protocol/mux/queue_limits.ts";
import { Ring } from "../../protocol/mux/ring.ts";
import type { ByteStream } from "../../runtime/port.ts";
import type { QuicConn } from "../../runtime/quic_port.ts";
import { CreditFrame, encodeCreditFrame, invalidFrame } from "../../wire/credit/credit_frame.ts";
import { lostSession } from "../lost.ts";
import {
  FramedQuicStream,
  type FramedStreamOwner,
  type QuicStream,
  StreamDeadlines,
} from "./framed_stream.ts";
import { QuicSupply } from "./supply.ts";

/** QUIC: control frames queued for a peer that doesn't read: several thousand pongs. */
export const QUIC_CONTROL_MAX_BYTES = 256 * 1024;

const NOTHING: Bytes = new Uint8Array(0);

/** The parts of a {@link QuicChannel}. */
interface QuicChannelOptions {
  readonly conn: QuicConn;
  readonly clock: MuxClock;
  /** See {@link QuicSupply}. */
  readonly offerFrom: number | undefined;
  /** A QUIC stream received no OPEN in time. */
  late(): void;
}

/** The channel of one QUIC session. */
export class QuicChannel implements FrameChannel<FramedQuicStream>, FramedStreamOwner {
  readonly #sink: CreditSink<FramedQuicStream>;
  readonly #clock: MuxClock;
  readonly #control = new FramedQuicStream(this);
  readonly #deadlines: StreamDeadlines;
  readonly #supply: QuicSupply;
  readonly #ring = new Ring<QuicStream>();
  /** Streams whose CREDITs are sent at the next turn; undefined is the session. */
  #creditsDue: (QuicStream | undefined)[] = [];
  /** Streams with frames that had to wait, the longest-waiting first. */
  readonly #resting = new Set<FramedQuicStream>();
  /** The peer's remaining credit, over all streams. */
  #credit = CREDIT_SESSION_FIRST_BYTES;

  constructor(options: QuicChannelOptions, sink: CreditSink<FramedQuicStream>) {
    const { conn, clock, offerFrom, late } = options;
    this.#sink = sink;
    this.#clock = clock;
    const deadlines = this.#deadlines = new StreamDeadlines(clock, (framed) => {
      this.#supply.ended(framed);
      if (!framed.over) late();
    });
    const wanted = () => sink.takesStreams;
    this.#supply = new QuicSupply({ conn, owner: this, deadlines, offerFrom, wanted });
  }

  /** The control stream is open. */
  start(control: ByteStream): void {
    this.#control.carriedBy(control);
  }

  /** Handles bytes already read from the control stream. */
  receive(bytes: Bytes): void {
    this.#control.data(bytes);
  }

  /** The peer has opened a QUIC stream. */
  came(inner: ByteStream): void {
    this.#supply.came(inner);
  }

  // Streams and control frames (FrameChannel).

  newLane(): FramedQuicStream {
    return new FramedQuicStream(this);
  }

  opened(stream: QuicStream): void {
    stream.lane.stream = stream;
    if (stream.own) this.#supply.carry(stream.lane);
  }

  control(lane: FramedQuicStream | undefined, type: number, body: Bytes): void {
    (lane ?? this.#control).send(encodeCreditFrame(type, 0, body));
  }

  creditDue(stream: QuicStream | undefined): void {
    this.#creditsDue.push(stream);
  }

  credited(bytes: number): void {
    this.#credit += bytes;
  }

  /** Ends sending on the stream; the peer gets time to do the same. */
  finish(lane: FramedQuicStream): void {
    if (lane.over) return;
    lane.finish();
    if (!this.#supply.withdraw(lane)) this.#deadlines.watch(lane, SESSION_WRITE_STALL_MS);
  }

  abort(lane: FramedQuicStream): void {
    lane.abort();
  }

  closed(): void {}

  // Data (FrameChannel).

  get held(): boolean {
    return this.#credit === 0;
  }

  get congested(): boolean {
    return this.#control.bufferedBytes > QUIC_CONTROL_MAX_BYTES;
  }

  /** QUIC itself limits bytes in flight. */
  get patienceEndsMs(): number {
    return Infinity;
  }

  get windowBytes(): number {
    return Infinity;
  }

  get roomBytes(): number {
    return Infinity;
  }

  passes(): boolean {
    return this.#credit > 0;
  }

  /** The stream may have data to send, subject to its credit and its QUIC stream. */
  ready(stream: QuicStream): void {
    if (stream.ready || stream.dead || stream.outgoing.byteLength === 0 || stream.sendCredit === 0) return;
    if (stream.lane.blocked) return;
    stream.ready = true;
    this.#ring.push(stream);
  }

  direct(stream: QuicStream, chunk: Bytes): number {
    if (stream.outgoing.byteLength > 0) return 0;
    let from = 0;
    while (from < chunk.length && !stream.lane.blocked) {
      const size = this.#allowed(stream, chunk.length - from);
      if (size === 0) break;
      stream.lane.sendData(part(chunk, from, from + size));
      from += size;
      this.#spend(stream, size);
    }
    return from;
  }

  flush(): void {
    if (this.#creditsDue.length > 0) this.#sendCredits();
    while (this.#credit > 0) {
      const stream = this.#ring.shift();
      if (stream === undefined) return;
      stream.ready = false;
      const size = this.#allowed(stream, stream.outgoing.byteLength);
      if (stream.dead || size === 0 || stream.lane.blocked) continue;
      stream.lane.sendQueued(stream, size);
      this.#spend(stream, size);
      this.#sink.sent(stream, size);
      if (stream.finPending && stream.outgoing.byteLength === 0) {
        this.control(stream.lane, CreditFrame.FIN, NOTHING);
        this.#sink.finSent(stream);
      }
      this.ready(stream);
    }
  }

  tick(nowMs: number): number {
    return Math.min(this.#readOn(nowMs), this.#deadlines.tick(nowMs));
  }

  /** Reads the frames that had to wait. Returns the time of the next call. */
  #readOn(nowMs: number): number {
    if (this.#resting.size === 0) return Infinity;
    if (nowMs < this.#sink.restEndsMs) return this.#sink.restEndsMs;
    const resting = [...this.#resting];
    this.#resting.clear();
    for (const framed of resting) framed.readOn();
    return this.#resting.size > 0 ? this.#sink.restEndsMs : Infinity;
  }

  #sendCredits(): void {
    const due = this.#creditsDue;
    this.#creditsDue = [];
    for (const stream of due) {
      const more = this.#sink.takeGrant(stream);
      if (more > 0) (stream?.lane ?? this.#control).sendCredit(more);
    }
  }

  #allowed(stream: QuicStream, bytes: number): number {
    return Math.min(bytes, FRAME_MAX_SEND_BYTES, stream.sendCredit, this.#credit);
  }

  #spend(stream: QuicStream, size: number): void {
    stream.sendCredit -= size;
    this.#credit -= size;
  }

  // From the QUIC streams (FramedStreamOwner).

  frame(framed: FramedQuicStream, type: number, body: Bytes): void {
    this.#sink.alive();
    if (framed === this.#control) {
      if (this.#sink.sessionFrame(type, body)) return;
      throw invalidFrame(`the control stream has a frame of type ${type}`);
    }
    if (framed.over) return;
    if (framed.stream !== undefined) {
      if (this.#sink.streamFrame(framed.stream, type, body)) return;
      throw invalidFrame(`a stream has a frame of type ${type}`);
    }
    if (type === CreditFrame.OFFER) return this.#supply.offered(framed);
    if (type !== CreditFrame.OPEN) throw invalidFrame("a stream doesn't begin with OPEN");
    this.#supply.opened(framed);
    this.#sink.accept(framed, body);
  }

  dataFrame(framed: FramedQuicStream, size: number): QuicStream | undefined {
    this.#sink.alive();
    if (framed.stream === undefined && !framed.over) {
      throw invalidFrame("DATA comes before OPEN, or on the control stream");
    }
    return this.#sink.dataFrame(framed.stream, size);
  }

  data(stream: QuicStream, piece: Bytes): void {
    this.#sink.data(stream, piece);
  }

  drained(framed: FramedQuicStream): void {
    this.#sink.alive();
    if (framed.stream === undefined) return;
    this.ready(framed.stream);
    this.#sink.wake();
  }

  ended(framed: FramedQuicStream, error: unknown): void {
    if (framed === this.#control) return this.#sink.end(lostSession(error ?? "the peer closed it"));
    this.#supply.ended(framed);
    const expected = framed.over;
    framed.finish();
    if (!expected && framed.stream !== undefined) this.#sink.lost(framed.stream, error);
  }

  unreadable(error: unknown): void {
    this.#sink.unreadable(error);
  }

  get tired(): boolean {
    return this.#sink.tired;
  }

  get wasteful(): boolean {
    return this.#sink.wasteful;
  }

  rests(framed: FramedQuicStream): void {
    this.#resting.add(framed);
    this.#clock.arm(this.#sink.restEndsMs);
  }
}
