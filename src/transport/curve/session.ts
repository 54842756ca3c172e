/**
 * A session over a curve connection (docs/protocols/curve.md, Sessions): code common to both ends.
 *
 * @module
 */
import { codeOfWire, wireCode } from "../../wire/curve/error_number.ts";
import type { CurveConnection, CurveHandler } from "../../protocol/curve/connection.ts";
import type { CurveGauges, CurveStats } from "../../protocol/curve/stats.ts";
import { type InternalError, SallyportError } from "../../errors.ts";
import type { Role } from "../../crypto/header_cipher.ts";
import { AGENT_OPEN_COST, FrameBudget } from "../../protocol/mux/frame_budget.ts";
import type { Caller } from "../../protocol/mux/host.ts";
import type { Address, ByteStream, Clock, Timer } from "../../runtime/port.ts";
import { type CurveHead, encodeCallerHead, encodeGoingAwayHead } from "../../wire/curve/stream_head.ts";
import { CurveSessionStream, type CurveStreamHost } from "./stream.ts";
import type { Session, SessionHandler, SessionStream } from "../port.ts";

/**
 * A stream of a curve session whose head isn't complete after this time is reset. Heads are in the first packet; this
 * leaves time to retransmit it over a bad path.
 */
export const CURVE_HEAD_TIMEOUT_MS = 15_000;

/** The transport's name in logs and metrics, and the name of its cipher. */
export const CURVE = "curve";
const CIPHER = "chacha20-poly1305";

/** A {@link Session} over one connection, whose events it receives once admitted. */
export class CurveSession implements Session, CurveStreamHost, CurveHandler {
  readonly transport = CURVE;
  readonly protocolVersion = undefined;
  readonly cipher = CIPHER;
  readonly halfClose = true;
  readonly clock: Clock;
  bytesSent = 0;
  bytesReceived = 0;
  readonly #connection: CurveConnection;
  /** Limits the streams that the peer opens in a second. */
  readonly #budget: FrameBudget;
  readonly #openCost: number;
  /** Streams announced to the owner. */
  readonly #visitors = new Set<ByteStream>();
  /** Incoming streams still without a head, with their deadlines; in order of arrival. */
  readonly #headless = new Map<CurveSessionStream, number>();
  #headTimer: Timer | undefined;
  #handler: SessionHandler | undefined;
  #leaving: SallyportError | undefined;
  #peerLeaving: SallyportError | undefined;
  #goAwaySaid = false;
  #peerLeaves = false;
  /** Whether the session has ended. */
  over = false;

  constructor(role: Role, connection: CurveConnection, clock: Clock) {
    this.#connection = connection;
    this.clock = clock;
    this.#openCost = role === "edge" ? AGENT_OPEN_COST : 1;
    this.#budget = new FrameBudget(clock);
  }

  /** Sets the session's handler. */
  start(handler: SessionHandler): void {
    this.#handler = handler;
  }

  /** The peer's current address; it may change. */
  get remote(): Address {
    return this.#connection.path.current;
  }
  get streams(): number {
    return this.#visitors.size;
  }
  get rttMs(): number | undefined {
    const { rttSmoothedMs } = this.#connection.gauges;
    return rttSmoothedMs > 0 ? rttSmoothedMs : undefined;
  }
  /** The connection's gauges. */
  get gauges(): CurveGauges {
    return this.#connection.gauges;
  }
  /** The connection's counters, up to date. */
  get stats(): CurveStats {
    void this.#connection.gauges;
    return this.#connection.stats;
  }

  summary(): Readonly<Record<string, number>> {
    const { rttLastMs, rttMinMs, rttSmoothedMs, windowBytes, inFlightBytes, datagramBytes } = this.gauges;
    const {
      packetsSent,
      packetsReceived,
      packetsLost,
      bytesResent,
      duplicates,
      reordered,
      replays,
      pathMoves,
    } = this.stats;
    return {
      rtt_last_ms: round(rttLastMs),
      rtt_min_ms: round(rttMinMs),
      rtt_smoothed_ms: round(rttSmoothedMs),
      window_bytes: Math.round(windowBytes),
      in_flight_bytes: inFlightBytes,
      datagram_bytes: datagramBytes,
      packets_sent: packetsSent,
      packets_received: packetsReceived,
      packets_lost: packetsLost,
      bytes_resent: bytesResent,
      duplicates,
      reordered,
      replays,
      path_moves: pathMoves,
    };
  }

  open(caller: Caller): SessionStream {
    if (this.#leaving !== undefined) throw this.#leaving;
    if (this.#peerLeaving !== undefined) throw this.#peerLeaving;
    const stream = this.#connection.open();
    stream.write(encodeCallerHead(caller));
    const visitor = new CurveSessionStream(this, stream);
    visitor.caller = caller;
    this.#visitors.add(stream);
    return visitor;
  }

  goAway(reason: SallyportError): void {
    if (this.#leaving !== undefined) return;
    this.#leaving = reason;
    this.#sayGoAway(reason.code);
  }

  askToMove(): void {
    if (this.#leaving === undefined) this.#sayGoAway("shutdown");
  }

  #sayGoAway(code: SallyportError["code"]): void {
    if (this.#goAwaySaid) return;
    this.#goAwaySaid = true;
    try {
      const stream = this.#connection.open();
      stream.write(encodeGoingAwayHead(wireCode(code)));
      stream.release();
    } catch {
      // The session is over or full: the peer learns of it when the session ends.
    }
  }

  close(reason: SallyportError): void {
    this.#connection.close(reason);
  }

  // From the connection.

  /** The handshake has already handled this. */
  introduced(): void {}

  stream(stream: ByteStream): void {
    try {
      this.#budget.spend(this.#openCost);
    } catch (error) {
      return this.close(error as SallyportError);
    }
    const visitor = new CurveSessionStream(this, stream);
    this.#headless.set(visitor, this.clock.nowMs() + CURVE_HEAD_TIMEOUT_MS);
    this.#watchHeads();
    visitor.awaitHead();
  }

  streamClosed(stream: ByteStream): void {
    if (this.#visitors.delete(stream)) this.#handler?.streamClosed();
  }

  fault(error: InternalError): void {
    this.#handler?.fault?.(error);
  }

  closed(error: SallyportError): void {
    this.over = true;
    this.#headTimer?.cancel();
    this.#handler?.ended(error);
  }

  // From a stream.

  headless(visitor: CurveSessionStream): void {
    this.#headless.delete(visitor);
  }

  headed(visitor: CurveSessionStream, head: CurveHead): boolean {
    this.#headless.delete(visitor);
    if (head.kind === "going away") {
      visitor.release();
      this.#goingAway(codeOfWire(head.code));
      return false;
    }
    this.#visitors.add(visitor.stream);
    this.#handler?.stream(visitor);
    return true;
  }

  /** One timer for all streams: nearly all have their head long before it fires. */
  #watchHeads(): void {
    this.#headTimer ??= this.clock.after(CURVE_HEAD_TIMEOUT_MS, () => {
      this.#headTimer = undefined;
      for (const [visitor, atMs] of this.#headless) {
        if (atMs > this.clock.nowMs()) break;
        this.#headless.delete(visitor);
        visitor.abort(
          new SallyportError("deadline_exceeded", "Cannot open stream: its head hasn't arrived", {
            side: "peer",
          }),
        );
      }
      if (this.#headless.size > 0) this.#watchHeads();
    });
  }

  #goingAway(code: SallyportError["code"]): void {
    if (this.#peerLeaves) return;
    this.#peerLeaves = true;
    this.#peerLeaving ??= new SallyportError(
      "shutdown",
      `Cannot open stream: the other side is going away: ${code}`,
      { side: "peer", retryable: true },
    );
    this.#handler?.goingAway?.(code);
  }
}

function round(ms: number): number {
  return Math.round(ms * 10) / 10;
}
