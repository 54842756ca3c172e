/**
 * The part common to sessions of every dialect: turns and clocks.
 *
 * @module
 */
import type { Bytes } from "../../bytes/bytes.ts";
import type { Role } from "../../crypto/header_cipher.ts";
import { type InternalError, internalError, SallyportError } from "../../errors.ts";
import type { Filler } from "../../wire/snitun/snitun_frame.ts";
import { type EndingEvents, Endings, type EndingStream } from "./endings.ts";
import { AGENT_OPEN_COST, FrameBudget, type WasteTurns } from "./frame_budget.ts";
import { Intake, type IntakeEvents } from "./intake.ts";
import { Heartbeat, type HeartbeatEvents, type Patience } from "./heartbeat.ts";
import type { SessionHost } from "./host.ts";
import type { QueueSender, SendBudget, SendingStream } from "./send_budget.ts";

/** Control frames, including pongs, that may be queued for a peer that doesn't read: some of each kind per stream. */
export const CONTROL_FRAMES_QUEUED_MAX = 16_384;

/** Chunks of at least this size are sent in place, bypassing the stream's queue. */
export const DIRECT_MIN_BYTES = 4096;

/** Shared by all sessions in which no stream waits for its turn; never written to. */
const NO_STREAMS: never[] = [];

/** What a session needs of its streams in every dialect. */
interface CoreStream extends EndingStream, SendingStream {
  readonly outgoing: SendingStream["outgoing"];
  /** It is scheduled for the session's turn. */
  scheduled: boolean;
  failed(error: unknown): void;
  abort(error?: Error): void;
}

/** What a session needs of its sender in every dialect. */
export interface CoreSender<Stream> extends QueueSender<Stream> {
  /** More control frames are queued than a peer that is reading could have caused. */
  readonly congested: boolean;
  /** Deadline for the peer to unblock waiting data; Infinity if none is waiting. */
  readonly patienceEndsMs: number;
  /** Writes queued frames until the peer accepts no more or the queues are empty. */
  flush(): void;
  /** Performs due work, and returns the time of the next call. */
  tick(nowMs: number): number;
}

/** The base of a session. Drive it with `turn` and `tick`. */
export abstract class SessionCore<Stream extends CoreStream>
  implements HeartbeatEvents, EndingEvents<Stream>, IntakeEvents {
  readonly role: Role;
  protected readonly host: SessionHost<Stream>;
  protected readonly heartbeat: Heartbeat;
  protected readonly endings: Endings<Stream>;
  /** Why the session is over. */
  protected ended: SallyportError | undefined;
  /** Why no more streams are opened. */
  protected leaving: SallyportError | undefined;
  /** Why the peer accepts no new streams: this side opens none, but still accepts the peer's. */
  protected peerLeaving: SallyportError | undefined;
  /** Budget for no-op frames and wasted payload. */
  protected readonly idleFrames: FrameBudget;
  protected readonly intake: Intake;
  #scheduled: Stream[] = NO_STREAMS;
  #woken = false;
  /** Streams scheduled while frames are sent are settled in the same turn. */
  #flushing = false;

  /** Payload bytes, without headers. */
  bytesSent = 0;
  bytesReceived = 0;

  constructor(
    role: Role,
    host: SessionHost<Stream>,
    random: Filler,
    patience: Patience | undefined,
    wasteTurns: WasteTurns | undefined,
  ) {
    this.role = role;
    this.host = host;
    this.heartbeat = new Heartbeat(host, random, this, patience);
    this.endings = new Endings<Stream>(this);
    this.idleFrames = new FrameBudget(host, wasteTurns);
    this.intake = new Intake(this);
  }

  protected abstract readonly sender: CoreSender<Stream>;
  protected abstract readonly sending: SendBudget<Stream>;
  /** Delivers `stream`'s queued data, and its end. */
  protected abstract settle(stream: Stream): void;
  /** Performs due flow-control work. Returns when the next call is due. */
  protected abstract tickFlow(nowMs: number): number;
  abstract end(error: SallyportError): void;
  abstract closeBehindData(stream: Stream): void;
  abstract reset(stream: Stream, error: Error | undefined): void;
  abstract sendPing(which: "ping" | "pong", id: Bytes): void;

  /** Whether the session is over. */
  get over(): boolean {
    return this.ended !== undefined;
  }

  /** The last measured round trip, undefined before the first pong. */
  get rttMs(): number | undefined {
    return this.heartbeat.rttMs;
  }

  /** Starts the session's clocks; call it once, when the driver is ready. */
  start(): void {
    this.host.arm(this.heartbeat.start());
  }

  /** Ends a turn: delivers to resumed streams, sends queued frames, and notifies waiting writers. */
  turn(): void {
    try {
      this.#turn();
    } catch (error) {
      this.end(internalError("session", error));
    }
  }

  #turn(): void {
    this.#woken = false;
    if (this.ended !== undefined) this.intake.clear();
    this.#settleScheduled();
    if (this.ended !== undefined) return;
    this.#flush();
    // Those whose CLOSE has just been sent: their connections end in this turn, not in one of their own.
    this.#settleScheduled();
    if (this.sending.tellDrained()) this.wake();
    // Armed here, since nothing else wakes a session whose peer doesn't answer.
    this.host.arm(this.sender.patienceEndsMs);
  }

  #flush(): void {
    this.#flushing = true;
    try {
      this.sender.flush();
    } finally {
      this.#flushing = false;
    }
  }

  #settleScheduled(): void {
    const scheduled = this.#scheduled;
    this.#scheduled = NO_STREAMS;
    for (const stream of scheduled) {
      stream.scheduled = false;
      this.settle(stream as Stream);
    }
  }

  /** Resumes reading if it is time. Returns when the next call is due. */
  #readOn(nowMs: number): number {
    if (!this.intake.waiting) return Infinity;
    if (nowMs < this.idleFrames.restEndsMs) return this.idleFrames.restEndsMs;
    try {
      this.intake.goOn();
    } catch (error) {
      this.unreadable(error);
    }
    return this.intake.waiting ? this.idleFrames.restEndsMs : Infinity;
  }

  /** Accepts a peer's bytes in chunks of any size. An invalid frame ends the session. */
  protected takeIn(chunk: Bytes): void {
    if (this.ended !== undefined) return;
    this.heartbeat.heard();
    try {
      this.intake.take(chunk);
    } catch (error) {
      this.unreadable(error);
    }
  }

  /** The budget for no-op frames is used up for now: further frames have to wait. */
  get tired(): boolean {
    return this.idleFrames.tired;
  }

  /** Too much payload was wasted: bytes that arrive have to wait. */
  get wasteful(): boolean {
    return this.idleFrames.wasteful;
  }

  /** When they may be read again. */
  get restEndsMs(): number {
    return this.idleFrames.restEndsMs;
  }

  /** The peer opens a stream: counts its cost. */
  protected spendOpen(): void {
    this.idleFrames.spend(this.role === "edge" ? AGENT_OPEN_COST : 1);
  }

  // Called by the intake, in sessions whose frames share one byte stream.

  read(chunk: Bytes): number {
    return chunk.length;
  }

  hold(_hold: boolean): void {}

  rest(): void {
    this.host.arm(this.idleFrames.restEndsMs);
  }

  /** Performs due work, and arms the host for the next call. */
  tick(): void {
    if (this.ended !== undefined) return;
    const now = this.host.nowMs();
    const readOnMs = this.#readOn(now);
    if (this.ended !== undefined) return;
    try {
      const nextMs = Math.min(readOnMs, this.tickFlow(now), this.endings.tick(now), this.sender.tick(now));
      this.host.arm(Math.min(nextMs, this.heartbeat.tick(now)));
    } catch (error) {
      this.end(internalError("session", error));
    }
  }

  /** Announces a stream that the peer has opened. If the owner throws, it loses the stream, not the session. */
  protected announce(stream: Stream): void {
    try {
      this.host.opened(stream);
    } catch (error) {
      stream.failed(error);
      // No handler will be attached.
      stream.abort();
    }
  }

  /** A stream's handler has thrown. */
  fault(error: InternalError): void {
    this.host.fault?.(error);
  }

  /** Schedules `stream` to be settled at the end of this turn. */
  schedule(stream: Stream): void {
    if (stream.scheduled) return;
    stream.scheduled = true;
    if (this.#scheduled === NO_STREAMS) this.#scheduled = [];
    this.#scheduled.push(stream);
    if (!this.#flushing) this.wake();
  }

  /** Requests a turn. */
  wake(): void {
    if (this.#woken) return;
    this.#woken = true;
    this.host.wake();
  }

  nowMs(): number {
    return this.host.nowMs();
  }

  /** `byteLength` bytes of payload have left a stream's queue. */
  sent(stream: Stream, byteLength: number): void {
    this.sending.sent(stream, byteLength);
    this.bytesSent += byteLength;
  }

  /** The peer's bytes couldn't be processed, possibly because of a bug on our side: ends the session. */
  unreadable(error: unknown): void {
    this.end(internalError("session", error));
  }

  /** Records that bytes were written, and whether the connection accepts more. Returns the latter. */
  protected wrote(goOn: boolean): boolean {
    const dueMs = this.heartbeat.said(goOn);
    if (!goOn) this.host.arm(dueMs);
    return goOn;
  }

  /** The connection accepts bytes again. */
  protected unblocked(): void {
    this.heartbeat.unblocked();
    this.turn();
  }

  /** Ends the session if more control frames are queued than a peer that is reading could have caused. */
  protected checkControl(): void {
    if (this.sender.congested) {
      const why = "Cannot continue: the peer doesn't read, and control frames pile up";
      this.end(new SallyportError("session_stalled", why, { side: "peer" }));
    }
    this.wake();
  }
}
