/**
 * What the sessions of both dialects have in common: their turns, their clocks, and how bytes come in and go out.
 *
 * @module
 */
import type { Bytes } from "../../bytes/bytes.ts";
import type { Role } from "../../crypto/header_cipher.ts";
import { internalError, SallyportError } from "../../errors.ts";
import type { Filler } from "../../wire/snitun/snitun_frame.ts";
import { type EndingEvents, Endings, type EndingStream } from "./endings.ts";
import type { Flight } from "./snitun/flight.ts";
import { Heartbeat, type HeartbeatEvents } from "./heartbeat.ts";
import type { MuxHost } from "./host.ts";
import type { QueueSender, SendBudget, SendingStream } from "./send_budget.ts";
import { SESSION_WRITE_STALL_MS } from "./queue_limits.ts";

/** Control frames, pongs too, that may wait for a peer that doesn't read: some of each kind for every stream. */
export const CONTROL_FRAMES_QUEUED_MAX = 16_384;

/** Chunks of at least this size are sent from where they are, without passing through the stream's queue. */
export const DIRECT_MIN_BYTES = 4096;

/** Shared by all sessions in which no stream waits for its turn; never written to. */
const NOBODY: never[] = [];

/** What a session needs of its streams in either dialect. */
export interface CoreStream extends EndingStream, SendingStream {
  readonly outgoing: SendingStream["outgoing"];
  /** It waits in the session's turn. */
  scheduled: boolean;
}

/** What a session needs of its sender in either dialect. */
export interface CoreSender<Stream> extends QueueSender<Stream> {
  /** The connection doesn't take more for now. */
  blocked: boolean;
  /** What is on its way to the peer. */
  readonly flight: Flight;
  /** Control frames that wait. */
  readonly controlFrames: number;
  /** Writes what waits until the peer takes no more or nothing is left. */
  flush(): void;
}

/** The base of a session. Feed it with `receive`, `writable`, `turn` and `tick`. */
export abstract class SessionCore<Stream extends CoreStream>
  implements HeartbeatEvents, EndingEvents<Stream> {
  readonly role: Role;
  protected readonly host: MuxHost<Stream>;
  protected readonly heartbeat: Heartbeat;
  protected readonly endings: Endings<Stream>;
  /** Why the session is over. */
  protected ended: SallyportError | undefined;
  #scheduled: Stream[] = NOBODY;
  #woken = false;

  /** Payload bytes, without headers. */
  bytesSent = 0;
  bytesReceived = 0;

  constructor(role: Role, host: MuxHost<Stream>, random: Filler) {
    this.role = role;
    this.host = host;
    this.heartbeat = new Heartbeat(host, random, this);
    this.endings = new Endings<Stream>(this);
  }

  protected abstract readonly sender: CoreSender<Stream>;
  protected abstract readonly sending: SendBudget<Stream>;
  /** Reads bytes of the peer; what it throws ends the session. */
  protected abstract read(chunk: Bytes): void;
  /** Delivers what `stream` holds, and its end. */
  protected abstract settle(stream: Stream): void;
  /** Does what has come due in the flow control; says when it is to be called again. */
  protected abstract tickFlow(nowMs: number): number;
  abstract end(error: SallyportError): void;
  abstract closeBehindData(stream: Stream): void;
  abstract reset(stream: Stream, error: Error | undefined): void;
  abstract sendPing(which: "ping" | "pong", id: Bytes): void;

  /** The last measured round trip, undefined before the first pong. */
  get rttMs(): number | undefined {
    return this.heartbeat.rttMs;
  }

  /** Starts the session's clocks; call it once, when the driver is ready. */
  start(): void {
    this.host.arm(this.heartbeat.start());
  }

  /** Takes bytes of the peer, in any pieces. What is wrong with them ends the session, as does a fault of our own. */
  receive(chunk: Bytes): void {
    if (this.ended !== undefined) return;
    this.heartbeat.active = true;
    try {
      this.read(chunk);
    } catch (error) {
      this.end(internalError("session", error));
    }
  }

  /** The host takes bytes again after `write` said false. */
  writable(): void {
    this.sender.blocked = false;
    this.heartbeat.blockedSinceMs = undefined;
    this.heartbeat.active = true;
    this.turn();
  }

  /** The end of a turn: delivers what was resumed, sends what was queued, tells who waited. */
  turn(): void {
    this.#woken = false;
    const scheduled = this.#scheduled;
    this.#scheduled = NOBODY;
    for (const stream of scheduled) {
      stream.scheduled = false;
      this.settle(stream as Stream);
    }
    if (this.ended !== undefined) return;
    this.sender.flush();
    this.sending.tellDrained();
    // Asked for here, since nothing wakes a session whose peer doesn't answer.
    if (this.sender.flight.full) this.host.arm(this.sender.flight.patienceEndsMs);
  }

  /** Does what has come due, and asks the host for the next call. */
  tick(): void {
    if (this.ended !== undefined) return;
    const now = this.host.nowMs();
    const nextMs = Math.min(this.tickFlow(now), this.endings.tick(now));
    if (this.sender.flight.tick(now)) this.wake();
    try {
      this.host.arm(Math.min(nextMs, this.heartbeat.tick(now)));
    } catch (error) {
      this.end(internalError("session", error));
    }
  }

  // Internal from here on: what the streams ask for, and what the sender has done.

  schedule(stream: Stream): void {
    if (stream.scheduled) return;
    stream.scheduled = true;
    if (this.#scheduled === NOBODY) this.#scheduled = [];
    this.#scheduled.push(stream);
    this.wake();
  }

  write(bytes: Bytes): boolean {
    this.heartbeat.active = true;
    if (this.host.write(bytes)) return true;
    const now = this.host.nowMs();
    this.heartbeat.blockedSinceMs = now;
    this.host.arm(now + SESSION_WRITE_STALL_MS);
    return false;
  }

  sent(_stream: Stream, byteLength: number): void {
    this.sending.sent(byteLength);
    this.bytesSent += byteLength;
  }

  protected wake(): void {
    if (this.#woken) return;
    this.#woken = true;
    this.host.wake();
  }

  /** Ends the session where more control frames wait than a peer that reads can have caused. */
  protected checkControl(): void {
    if (this.sender.controlFrames > CONTROL_FRAMES_QUEUED_MAX) {
      const why = "Cannot go on: the peer doesn't read, and control frames pile up";
      this.end(new SallyportError("session_stalled", why, { side: "peer" }));
    }
    this.wake();
  }
}
