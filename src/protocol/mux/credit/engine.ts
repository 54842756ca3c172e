/**
 * A session in the credit dialect, in either role: streams with half-close, per-stream and session-wide credit, resets
 * with a reason, GOAWAY (docs/sealed-transport.md, Frames). It does no IO; a {@link FrameChannel} transports the
 * frames.
 *
 * @module
 */
import type { BlockPool } from "../../../bytes/block_pool.ts";
import { type Bytes, part } from "../../../bytes/bytes.ts";
import type { Role } from "../../../crypto/header_cipher.ts";
import { type ErrorCode, errorCode, SallyportError } from "../../../errors.ts";
import {
  CreditFrame,
  decodeCredit,
  decodeOpen,
  decodeReason,
  encodeOpenBody,
  encodeReasonBody,
  invalidFrame,
  PING_BYTES,
} from "../../../wire/credit/credit_frame.ts";
import type { Filler } from "../../../wire/snitun/snitun_frame.ts";
import type { WasteTurns } from "../frame_budget.ts";
import type { Caller, SessionHost, SessionMachine } from "../host.ts";
import {
  DEFAULT_QUEUE_LIMITS,
  type QueueLimits,
  SESSION_RECEIVE_BUDGET_BYTES,
  STREAMS_PER_SESSION_MAX,
} from "../queue_limits.ts";
import { SendBudget } from "../send_budget.ts";
import { DIRECT_MIN_BYTES, SessionCore } from "../session_core.ts";
import type { StreamOwner } from "../stream_core.ts";
import type { CreditSink, FrameChannel } from "./channel.ts";
import { CreditStream } from "./stream.ts";
import { CREDIT_STREAM_FIRST_BYTES, ReceiveWindows } from "./windows.ts";

/** A grant smaller than this counts as a no-op frame: honest peers grant a fraction of a window at a time. */
const CREDIT_WORTH_BYTES = 4 * 1024;

/** Dependencies of a {@link CreditEngine}. */
export interface CreditEngineOptions<Lane> {
  readonly role: Role;
  readonly host: SessionHost<CreditStream<Lane>>;
  /** Source of the blocks for the streams' queues. */
  readonly blocks: BlockPool;
  readonly random: Filler;
  /** Shared with the other sessions of the transport. Defaults to none. */
  readonly wasteTurns?: WasteTurns;
  readonly queueLimits?: QueueLimits;
  /** Received bytes that the session may hold. Defaults to {@link SESSION_RECEIVE_BUDGET_BYTES}. */
  readonly receiveBudgetBytes?: number;
}

/** One session. Drive it with `turn` and `tick`; its channel handles incoming frames. */
export class CreditEngine<Lane> extends SessionCore<CreditStream<Lane>>
  implements SessionMachine<CreditStream<Lane>>, StreamOwner<CreditStream<Lane>>, CreditSink<Lane> {
  readonly protocolVersion = undefined;
  readonly blocks: BlockPool;
  protected readonly sender: FrameChannel<Lane>;
  protected readonly sending: SendBudget<CreditStream<Lane>>;
  #goAwaySaid = false;
  readonly #windows: ReceiveWindows<CreditStream<Lane>>;
  readonly #streams = new Set<CreditStream<Lane>>();

  /** @param channel creates the frame channel, which passes incoming frames to the given sink. */
  constructor(options: CreditEngineOptions<Lane>, channel: (sink: CreditSink<Lane>) => FrameChannel<Lane>) {
    const { host, random, role } = options;
    super(role, host, random, options.queueLimits, options.wasteTurns);
    this.blocks = options.blocks;
    this.sender = channel(this);
    this.sending = new SendBudget(
      options.queueLimits ?? DEFAULT_QUEUE_LIMITS,
      this.sender,
      options.blocks.memory,
    );
    this.#windows = new ReceiveWindows({
      host,
      budgetBytes: options.receiveBudgetBytes ?? SESSION_RECEIVE_BUDGET_BYTES,
      memory: options.blocks.memory,
      streams: this.#streams,
      grant: (stream) => {
        this.sender.creditDue(stream);
        this.checkControl();
      },
      drop: (stream, code, why) => this.#refuse(stream, code, why),
    });
  }

  get streams(): number {
    return this.#streams.size;
  }

  /** Neither side is going away: new streams are accepted. */
  get takesStreams(): boolean {
    return this.ended === undefined && this.leaving === undefined && this.peerLeaving === undefined;
  }

  override start(): void {
    super.start();
    this.#windows.start();
  }

  /**
   * Opens a stream to the peer. Throws `limit_exceeded` if the session has reached its stream limit, or the reason why
   * no more streams can be opened.
   */
  open(caller: Caller): CreditStream<Lane> {
    if (this.ended !== undefined) throw this.ended;
    if (this.leaving !== undefined) throw this.leaving;
    if (this.peerLeaving !== undefined) throw this.peerLeaving;
    if (this.#full) {
      throw new SallyportError(
        "limit_exceeded",
        `Cannot open stream: the session already has ${this.streams}`,
        { side: "local" },
      );
    }
    const stream = this.#add(this.sender.newLane(), caller, true);
    const open = encodeOpenBody({
      address: caller.address,
      port: caller.port ?? 0,
      serverName: caller.serverName,
      creditBytes: stream.grantedBytes,
    });
    this.#control(stream.lane, CreditFrame.OPEN, open);
    this.sender.opened(stream);
    return stream;
  }

  /** Tells the peer to open no new streams; open ones continue. */
  goAway(reason: SallyportError): void {
    if (this.leaving !== undefined || this.ended !== undefined) return;
    this.leaving = reason;
    this.#sayGoAway(reason.code);
  }

  askToMove(): void {
    if (this.leaving === undefined && this.ended === undefined) this.#sayGoAway("shutdown");
  }

  #sayGoAway(code: ErrorCode): void {
    if (this.#goAwaySaid) return;
    this.#goAwaySaid = true;
    this.#control(undefined, CreditFrame.GOAWAY, encodeReasonBody(code));
  }

  /** Ends the session and all its streams; streams closed in both directions still deliver what was received. */
  end(error: SallyportError): void {
    if (this.ended !== undefined) return;
    this.ended = error;
    for (const stream of this.#streams) {
      if (stream.remoteClosed && stream.finSent) continue;
      this.sender.abort(stream.lane);
      stream.dead = true;
      stream.error ??= error;
      this.schedule(stream);
    }
    this.host.ended(error);
  }

  protected override tickFlow(nowMs: number): number {
    return this.#windows.tick(nowMs);
  }

  // Called by the streams (StreamOwner).

  send(stream: CreditStream<Lane>, chunk: Bytes): boolean {
    if (chunk.length === 0) return true;
    const sent = chunk.length >= DIRECT_MIN_BYTES ? this.sender.direct(stream, chunk) : 0;
    this.bytesSent += sent;
    if (sent < chunk.length) {
      if (!this.sending.queue(stream, part(chunk, sent))) {
        this.#refuse(
          stream,
          "stream_overflow",
          "Cannot send: the peer reads more slowly than the stream is written",
        );
        return true;
      }
      this.wake();
    }
    const goOn = this.sending.mayGoOn(stream, chunk.length);
    if (!goOn) this.wake();
    return goOn;
  }

  finish(stream: CreditStream<Lane>): void {
    stream.finPending = true;
    if (stream.outgoing.byteLength > 0 || this.ended !== undefined) return;
    this.#control(stream.lane, CreditFrame.FIN, NOTHING);
    this.finSent(stream);
  }

  release(stream: CreditStream<Lane>): void {
    this.#windows.forget(stream);
    if (!stream.finPending) this.finish(stream);
    if (stream.remoteClosed && stream.finSent) this.schedule(stream);
    else this.host.arm(this.endings.watch(stream, this.host.nowMs()));
  }

  reset(stream: CreditStream<Lane>, error: Error | undefined): void {
    if (stream.dead) return;
    const over = stream.remoteClosed && stream.finSent;
    if (!over && this.ended === undefined) {
      const code = error === undefined ? "aborted" : errorCode(error);
      this.#control(stream.lane, CreditFrame.RESET, encodeReasonBody(code));
    }
    this.#kill(stream, error);
  }

  consumed(stream: CreditStream<Lane>, byteLength: number): void {
    this.#windows.release(stream, byteLength);
  }

  // Called by the heartbeat and the endings.

  closeBehindData(): void {}

  sendPing(which: "ping" | "pong", id: Bytes): void {
    this.#control(undefined, which === "ping" ? CreditFrame.PING : CreditFrame.PONG, id);
  }

  // Called by the channel (CreditSink).

  alive(): void {
    this.heartbeat.heard();
  }

  accept(lane: Lane, body: Bytes): void {
    if (this.ended !== undefined) return;
    this.spendOpen();
    const { address, port, serverName, creditBytes } = decodeOpen(body);
    const code = this.#full ? "limit_exceeded" : this.leaving !== undefined ? "shutdown" : undefined;
    if (code !== undefined) {
      this.host.refused(code);
      this.#control(lane, CreditFrame.RESET, encodeReasonBody(code));
      this.sender.finish(lane);
      return;
    }
    const caller = { address, port, ...serverName === undefined ? {} : { serverName } };
    const stream = this.#add(lane, caller, false);
    stream.sendCredit = creditBytes;
    this.sender.opened(stream);
    this.announce(stream);
  }

  streamFrame(stream: CreditStream<Lane> | undefined, type: number, body: Bytes): boolean {
    switch (type) {
      case CreditFrame.CREDIT: {
        const bytes = decodeCredit(body);
        if (stream === undefined || bytes < CREDIT_WORTH_BYTES) this.idleFrames.spend();
        if (stream === undefined) return true;
        stream.sendCredit += bytes;
        this.sender.ready(stream);
        this.wake();
        return true;
      }
      case CreditFrame.FIN:
        if (stream === undefined) this.idleFrames.spend();
        this.#remoteEnd(stream);
        return true;
      case CreditFrame.RESET:
        if (stream === undefined) this.idleFrames.spend();
        this.#remoteReset(stream, decodeReason(body));
        return true;
      default:
        return false;
    }
  }

  sessionFrame(type: number, body: Bytes): boolean {
    switch (type) {
      case CreditFrame.CREDIT: {
        const bytes = decodeCredit(body);
        if (bytes < CREDIT_WORTH_BYTES) this.idleFrames.spend();
        this.sender.credited(bytes);
        this.wake();
        return true;
      }
      case CreditFrame.GOAWAY:
        this.idleFrames.spend();
        this.#remoteGoAway(decodeReason(body));
        return true;
      case CreditFrame.PING:
      case CreditFrame.PONG: {
        this.idleFrames.spend();
        const id = body.slice(0, PING_BYTES);
        const known = this.heartbeat.received(type === CreditFrame.PING ? "ping" : "pong", id);
        if (!known) this.sender.strayPong?.(id);
        return true;
      }
      default:
        return false;
    }
  }

  dataFrame(stream: CreditStream<Lane> | undefined, size: number): CreditStream<Lane> | undefined {
    if (stream?.remoteClosed) throw invalidFrame("DATA follows a FIN");
    if (stream === undefined) this.idleFrames.spend();
    const wanted = stream === undefined || stream.dead ? undefined : stream;
    if (wanted === undefined) this.idleFrames.waste(size);
    else this.idleFrames.earn(size);
    this.#windows.received(wanted, size);
    return wanted;
  }

  data(stream: CreditStream<Lane>, piece: Bytes): void {
    if (stream.dead) return this.#windows.taken(stream, piece.length);
    this.bytesReceived += piece.length;
    if (stream.deliver(piece)) this.#windows.taken(stream, piece.length);
    else this.#windows.hold(stream, piece);
  }

  finSent(stream: CreditStream<Lane>): void {
    stream.finSent = true;
    if (stream.remoteClosed) this.#bothEnded(stream);
  }

  takeGrant(stream: CreditStream<Lane> | undefined): number {
    return this.#windows.takeGrant(stream);
  }

  lost(stream: CreditStream<Lane>, error: unknown): void {
    if (stream.dead) return;
    if (errorCode(error) === "limit_exceeded") this.host.refused("limit_exceeded");
    const why = `The ${this.#peer} has reset the stream`;
    this.#kill(stream, new SallyportError("connection_lost", why, { side: "network" }));
  }

  // Streams.

  get #full(): boolean {
    return this.#streams.size >= STREAMS_PER_SESSION_MAX;
  }

  get #peer(): string {
    return this.role === "edge" ? "agent" : "edge";
  }

  #add(lane: Lane, caller: Caller, own: boolean): CreditStream<Lane> {
    const stream = new CreditStream<Lane>(this, lane, caller, own);
    stream.grantedBytes = CREDIT_STREAM_FIRST_BYTES;
    stream.sendCredit = CREDIT_STREAM_FIRST_BYTES;
    this.#streams.add(stream);
    return stream;
  }

  #remoteGoAway(code: ErrorCode): void {
    if (this.leaving !== undefined || this.peerLeaving !== undefined) return;
    const why = `Cannot open stream: the other side is going away: ${code}`;
    this.peerLeaving = new SallyportError("shutdown", why, { side: "peer", retryable: true });
    this.host.goingAway?.(code);
  }

  #remoteEnd(stream: CreditStream<Lane> | undefined): void {
    if (stream === undefined || stream.dead) return;
    if (stream.remoteClosed) throw invalidFrame("a second FIN");
    stream.remoteClosed = true;
    this.#windows.ended(stream);
    if (stream.finSent) this.#bothEnded(stream);
    else this.schedule(stream);
  }

  #remoteReset(stream: CreditStream<Lane> | undefined, code: ErrorCode): void {
    if (stream === undefined || stream.dead) return;
    const why = `The ${this.#peer} has ended the stream: ${code}`;
    this.#kill(stream, new SallyportError(code, why, { side: "peer" }));
  }

  #bothEnded(stream: CreditStream<Lane>): void {
    this.sender.finish(stream.lane);
    this.schedule(stream);
  }

  /** Ends the stream at once, in both directions. */
  #kill(stream: CreditStream<Lane>, error: Error | undefined): void {
    stream.error = error;
    stream.dead = true;
    this.sending.forget(stream);
    this.#windows.forget(stream);
    this.endings.forget(stream);
    this.sender.finish(stream.lane);
    this.schedule(stream);
  }

  protected override settle(stream: CreditStream<Lane>): void {
    stream.flushIncoming();
    stream.flushEnd();
    if (!stream.dead && stream.endDelivered && stream.finSent) {
      stream.dead = true;
      this.sending.forget(stream);
      this.endings.forget(stream);
    }
    if (!stream.dead) return;
    stream.finish();
    if (!stream.closed || !this.#streams.delete(stream)) return;
    this.sender.closed(stream);
    this.host.closed(stream);
  }

  #refuse(stream: CreditStream<Lane>, code: ErrorCode, why: string): void {
    this.host.refused(code);
    this.reset(stream, new SallyportError(code, why, { side: "peer" }));
  }

  #control(lane: Lane | undefined, type: number, body: Bytes): void {
    this.sender.control(lane, type, body);
    this.checkControl();
  }
}

const NOTHING: Bytes = new Uint8Array(0);
