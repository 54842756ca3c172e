/**
 * A SniTun session in either role, after the handshake: streams, flow control, pings and time-outs
 * (docs/protocols/snitun.md, Frames and Behaviour). It does no IO: see {@link MuxHost}.
 *
 * @module
 */
import type { Opener, Role, Sealer } from "../../../crypto/header_cipher.ts";
import type { Caller, Multiplexer, MuxHost } from "../host.ts";
import { type ControlFrame, FrameSender, type SendScratch } from "./sender.ts";
import { DEFAULT_QUEUE_LIMITS, type QueueLimits, STREAMS_PER_SESSION_MAX } from "../queue_limits.ts";
import type { BlockPool } from "../../../bytes/block_pool.ts";
import { type Bytes, part } from "../../../bytes/bytes.ts";
import { type ErrorCode, SallyportError } from "../../../errors.ts";
import {
  channelIdOf,
  decodeCaller,
  encodeCaller,
  encodePing,
  FrameType,
  isPing,
  isPong,
  newChannelId,
} from "../../../wire/snitun/snitun_frame.ts";
import { FrameReceiver } from "./receiver.ts";
import { ReceiveBudget } from "./receive_budget.ts";
import { SendBudget } from "../send_budget.ts";
import { DIRECT_MIN_BYTES, SessionCore } from "../session_core.ts";
import { MuxStream } from "./stream.ts";
import { StreamTable } from "./stream_table.ts";
import { IDLE_TICK_MS } from "../heartbeat.ts";
import { HALF_CLOSE_ANSWERED_MS, HALF_CLOSE_GRACE_MS } from "../endings.ts";

/** Options of a SniTun session. */
export interface MuxOptions {
  readonly role: Role;
  readonly protocolVersion: 0 | 1 | 2;
  readonly sealer: Sealer;
  readonly opener: Opener;
  readonly host: MuxHost;
  readonly scratch: SendScratch;
  readonly queueLimits?: QueueLimits;
  /** Received bytes that the session may hold. Defaults to {@link SESSION_RECEIVE_BUDGET_BYTES}. */
  readonly receiveBudgetBytes?: number;
  /** Large frames that the peer may send per second; 0 or absent for no limit. */
  readonly largeFramesPerSecond?: number;
}

/** One session. Feed it with `receive`, `writable`, `turn` and `tick`. */
export class MuxSession extends SessionCore<MuxStream> implements Multiplexer {
  readonly protocolVersion: number;
  readonly #scratch: SendScratch;
  readonly #queues: QueueLimits;
  readonly #sealer: Sealer;
  readonly #opener: Opener;
  readonly #muxHost: MuxHost;
  protected readonly sender: FrameSender;
  protected readonly sending: SendBudget<MuxStream>;
  readonly #receiver: FrameReceiver;
  readonly #budget: ReceiveBudget;
  readonly #table = new StreamTable();
  #moveSaid = false;
  /** Whether the receive budget or the intake currently stops reading. */
  #budgetHolds = false;
  #intakeHolds = false;
  /** Whether there was recent stream activity, so the ciphers are kept. */
  #warm = false;
  /** When to check whether payload moves, and how much had moved at the last check. */
  #restAtMs = 0;
  #moved = 0;

  constructor(options: MuxOptions) {
    const { role, host, scratch, queueLimits } = options;
    super(role, host, scratch.random, queueLimits, scratch.wasteTurns);
    this.protocolVersion = options.protocolVersion;
    this.#muxHost = host;
    this.#scratch = scratch;
    this.#queues = queueLimits ?? DEFAULT_QUEUE_LIMITS;
    this.#sealer = options.sealer;
    this.#opener = options.opener;
    this.sender = new FrameSender(options.sealer, scratch, host, this);
    this.sending = new SendBudget(this.#queues, this.sender, scratch.blocks.memory);
    this.#receiver = new FrameReceiver(options.opener, options.protocolVersion, this);
    this.#budget = new ReceiveBudget(options, this.#queues, this);
  }

  /** Streams that are open or still deliver data received before their end. */
  get streams(): number {
    return this.#table.all.size;
  }

  /** The streams themselves. */
  get all(): Iterable<MuxStream> {
    return this.#table.all;
  }

  /**
   * Opens a stream to the peer. Throws `limit_exceeded` at {@link STREAMS_PER_SESSION_MAX} streams, or the reason why the
   * session ended.
   */
  open(caller: Caller): MuxStream {
    if (this.ended !== undefined) throw this.ended;
    if (this.leaving !== undefined) throw this.leaving;
    if (this.#table.all.size >= STREAMS_PER_SESSION_MAX) {
      throw new SallyportError(
        "limit_exceeded",
        `Cannot open stream: the session already has ${this.streams}`,
        { side: "local" },
      );
    }
    const { random, slab } = this.#scratch;
    const { extra, payload } = encodeCaller(this.protocolVersion, caller.address, random, slab);
    const stream = new MuxStream(this, newChannelId(random, slab), caller, true);
    this.#add(stream);
    this.control({ type: FrameType.NEW, id: stream.id, extra, payload });
    return stream;
  }

  /** Accepts bytes from the peer in chunks of any size. An invalid frame ends the session. */
  receive(chunk: Bytes): void {
    this.takeIn(chunk);
  }

  override read(chunk: Bytes): number {
    return this.#receiver.receive(chunk);
  }

  override hold(hold: boolean): void {
    this.#intakeHolds = hold;
    this.#updateReading();
  }

  /** The host accepts bytes again after `write` returned false. */
  writable(): void {
    this.sender.blocked = false;
    this.unblocked();
  }

  /** Opens no streams from now on. SniTun can't tell the peer. */
  goAway(reason: SallyportError): void {
    this.leaving ??= reason;
  }

  askToMove(): void {
    if (this.role !== "edge" || this.#moveSaid || this.ended !== undefined) return;
    this.#moveSaid = true;
    this.control({ type: FrameType.MOVE, id: newChannelId(this.#scratch.random) });
  }

  override turn(): void {
    super.turn();
    if (!this.#warm) this.#park();
  }

  override tick(): void {
    super.tick();
    const nowMs = this.host.nowMs();
    if (nowMs < this.#restAtMs) return;
    this.#restAtMs = nowMs + IDLE_TICK_MS;
    const moved = this.bytesSent + this.bytesReceived;
    if (moved === this.#moved) {
      if (this.streams === 0) this.#warm = false;
      this.#park();
    }
    this.#moved = moved;
  }

  protected override tickFlow(nowMs: number): number {
    return this.#budget.tick(nowMs);
  }

  /** Ends the session and all its streams; streams that received a CLOSE still deliver the data before it. */
  end(error: SallyportError): void {
    if (this.ended !== undefined) return;
    this.ended = error;
    for (const stream of this.#table.all) {
      if (stream.remoteClosed) continue;
      stream.dead = true;
      stream.error ??= error;
      this.schedule(stream);
    }
    this.#park();
    this.host.ended(error);
  }

  /** Releases the ciphers' native memory until the next frame. */
  #park(): void {
    this.#sealer.park();
    this.#opener.park();
  }

  // Called by the streams (StreamOwner). Outside `protocol/mux` a session is a `Multiplexer`, without these parts.

  get blocks(): BlockPool {
    return this.#scratch.blocks;
  }

  send(stream: MuxStream, chunk: Bytes): boolean {
    if (chunk.length === 0) return true;
    stream.answered = false;
    const sender = this.sender;
    let sent = 0;
    if (chunk.length >= DIRECT_MIN_BYTES && !sender.held && !sender.pending && !stream.peerPaused) {
      sent = sender.direct(stream, chunk);
      this.bytesSent += sent;
    }
    if (sent < chunk.length) {
      if (!this.sending.queue(stream, part(chunk, sent))) {
        this.drop(
          stream,
          "stream_overflow",
          "Cannot send: the peer reads more slowly than the stream is written",
        );
        return true;
      }
      this.wake();
    }
    if (this.sending.mayGoOn(stream, chunk.length)) return true;
    this.wake();
    return false;
  }

  finish(stream: MuxStream): void {
    if (!stream.own) {
      this.closeBehindData(stream);
      return;
    }
    // The protocol has no half-close: a CLOSE now would lose the peer's answer.
    const graceMs = stream.answered ? HALF_CLOSE_ANSWERED_MS : HALF_CLOSE_GRACE_MS;
    this.host.arm(this.endings.watch(stream, this.host.nowMs(), graceMs));
  }

  release(stream: MuxStream): void {
    this.#budget.forget(stream);
    if (stream.remoteClosed || this.ended !== undefined) {
      this.schedule(stream);
      return;
    }
    this.closeBehindData(stream);
    this.host.arm(this.endings.watch(stream, this.host.nowMs()));
  }

  reset(stream: MuxStream, error: Error | undefined): void {
    if (stream.dead) return;
    stream.dead = true;
    stream.error = error;
    this.sending.forget(stream);
    this.#budget.forget(stream);
    this.endings.forget(stream);
    if (!stream.remoteClosed && this.ended === undefined) {
      this.#table.unname(stream);
      this.control({ type: FrameType.CLOSE, id: stream.id });
    }
    this.schedule(stream);
  }

  consumed(stream: MuxStream, byteLength: number): void {
    this.idleFrames.earn(byteLength);
    this.#budget.release(stream, byteLength);
  }

  // Called by the receiver (FrameSink).

  frame(type: number, header: Bytes, payload: Bytes | undefined): void {
    switch (type) {
      case FrameType.NEW:
        this.spendOpen();
        return this.#accept(header, payload);
      case FrameType.CLOSE: {
        const stream = this.#table.find(header);
        if (stream === undefined) this.idleFrames.spend();
        return this.#remoteClose(stream);
      }
      case FrameType.MOVE:
        this.idleFrames.spend();
        // Edges are never asked to go away, and one request is enough.
        if (this.role !== "agent" || this.peerLeaving !== undefined) return;
        this.peerLeaving = new SallyportError("shutdown", "Cannot open stream: the edge is going away", {
          side: "peer",
        });
        return this.host.goingAway?.("shutdown");
      case FrameType.PING:
        this.idleFrames.spend();
        return this.#pinged(header);
      case FrameType.PAUSE:
      case FrameType.RESUME: {
        this.idleFrames.spend();
        const stream = this.#table.find(header);
        if (stream === undefined || this.protocolVersion === 0) return;
        stream.peerPaused = type === FrameType.PAUSE;
        this.sender.ready(stream);
        if (!stream.peerPaused) this.wake();
        return;
      }
      default:
        this.idleFrames.spend();
    }
  }

  dataFrame(header: Bytes, size: number): MuxStream | undefined {
    this.#budget.throttle(size);
    const stream = this.#table.find(header);
    if (stream === undefined) {
      this.idleFrames.spend();
      this.idleFrames.waste(size);
    }
    return stream;
  }

  data(stream: MuxStream, piece: Bytes): void {
    if (stream.dead || stream.remoteClosed) return;
    this.bytesReceived += piece.length;
    stream.answered = true;
    if (stream.deliver(piece)) return this.idleFrames.earn(piece.length);
    if (stream.pauseSent) this.idleFrames.waste(piece.length);
    this.#budget.hold(stream, piece);
  }

  // Called by the sender (SenderEvents).

  holdReading(hold: boolean): void {
    this.#budgetHolds = hold;
    this.#updateReading();
  }

  #updateReading(): void {
    const hold = this.#budgetHolds || this.#intakeHolds;
    this.heartbeat.hold(hold);
    this.#muxHost.holdReading(hold);
  }

  write(bytes: Bytes): boolean {
    return this.wrote(this.#muxHost.write(bytes));
  }

  flowSent(stream: MuxStream): void {
    this.#budget.forgive(stream);
  }

  /** Our CLOSE has been sent, so the stream is closed in both directions; data received before is still delivered. */
  closeSent(stream: MuxStream): void {
    stream.closePending = false;
    this.#table.unname(stream);
    this.endings.forget(stream);
    stream.remoteClosed = true;
    this.schedule(stream);
  }

  // Streams.

  #accept(header: Bytes, payload: Bytes | undefined): void {
    const id = channelIdOf(header, this.#scratch.slab);
    const inUse = this.#table.find(header);
    if (inUse !== undefined) {
      // Two visitors' bytes must never mix in one stream.
      this.drop(inUse, "frame_invalid", "Cannot open stream: its id is in use");
      return;
    }
    const caller = decodeCaller(header, payload);
    const code: ErrorCode | undefined = caller === undefined
      ? "frame_invalid"
      : this.#table.all.size >= STREAMS_PER_SESSION_MAX
      ? "limit_exceeded"
      : undefined;
    if (code !== undefined || caller === undefined) {
      this.host.refused(code ?? "frame_invalid");
      this.control({ type: FrameType.CLOSE, id });
      return;
    }
    const stream = new MuxStream(this, id, { address: caller }, false);
    this.#add(stream);
    this.announce(stream);
  }

  #remoteClose(stream: MuxStream | undefined): void {
    if (stream === undefined) return;
    this.#table.unname(stream);
    this.endings.forget(stream);
    stream.remoteClosed = true;
    stream.closePending = false;
    this.sending.forget(stream);
    this.schedule(stream);
  }

  #pinged(header: Bytes): void {
    const kind = isPing(header) ? "ping" : isPong(header) ? "pong" : undefined;
    if (this.heartbeat.received(kind, channelIdOf(header))) return;
    if (this.sender.flight.pong(channelIdOf(header), this.host.nowMs())) this.wake();
    else this.#pauseSeen(this.#table.find(header));
  }

  /** Handles the pong to the ping after a PAUSE; see {@link FrameSender}. */
  #pauseSeen(stream: MuxStream | undefined): void {
    if (stream === undefined || stream.pausesUnseen === 0) return;
    if (--stream.pausesUnseen === 0) this.#budget.forgive(stream);
  }

  protected override settle(stream: MuxStream): void {
    stream.flushIncoming();
    if (!stream.dead && !(stream.remoteClosed && stream.drained)) return;
    stream.dead = true;
    stream.finish();
    if (!stream.closed || !this.#table.remove(stream)) return;
    this.host.closed(stream);
  }

  #add(stream: MuxStream): void {
    this.#table.add(stream);
    this.#warm = true;
    this.sender.flight.staySmall();
  }

  closeBehindData(stream: MuxStream): void {
    stream.closePending = true;
    this.sender.ready(stream);
    this.wake();
  }

  drop(stream: MuxStream, code: ErrorCode, why: string): void {
    this.host.refused(code);
    this.reset(stream, new SallyportError(code, why, { side: "peer" }));
  }

  sendPing(which: "ping" | "pong", id: Bytes): void {
    this.control({ type: FrameType.PING, id, extra: encodePing(which, this.#scratch.random) });
  }

  control(frame: ControlFrame): void {
    this.sender.control(frame);
    this.checkControl();
  }

  changePause(stream: MuxStream): void {
    if (stream.flowQueued || this.ended !== undefined) return;
    stream.flowQueued = true;
    this.control({ type: FrameType.PAUSE, id: stream.id, stream });
  }
}
