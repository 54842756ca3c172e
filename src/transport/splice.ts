/**
 * Joins two byte streams, relaying in both directions with back-pressure and half-close.
 *
 * @module
 */
import type { Bytes } from "../bytes/bytes.ts";
import type { MemoryBudget, MemoryHolder } from "../bytes/memory_budget.ts";
import { NO_PLACE } from "../bytes/roster.ts";
import { SallyportError } from "../errors.ts";
import type { ByteStream, ByteStreamHandler, Clock, Timer } from "../runtime/port.ts";
import { IDLE_TICK_MS, IDLE_TICKS } from "../protocol/mux/heartbeat.ts";

/** Byte counters of a splice: plain fields, so that counting costs an addition. */
export interface ByteMeter {
  /** From visitors. */
  bytesToAgent: number;
  /** From agents. */
  bytesToVisitor: number;
}

/** What holds for all visitors of an edge or of a service. */
export interface SpliceRules {
  readonly clock: Clock;
  /** Memory budget that counts the splice's bytes and may end it to free them. Defaults to none. */
  readonly memory?: MemoryBudget | undefined;
  readonly meter?: ByteMeter | undefined;
  /** How many ticks of IDLE_TICK_MS without a byte close both sides. Defaults to IDLE_TICKS. */
  readonly idleTicks?: number | undefined;
  /** Deadline for the first byte from the agent's side. Defaults to none. */
  readonly firstByteMs?: number | undefined;
  /**
   * Sent to the visitor instead of a reset if the session is lost before any byte has arrived for it. Defaults to
   * nothing.
   */
  readonly farewell?: Bytes | undefined;
}

/** Options of {@link splice}. */
export interface SpliceOptions extends SpliceRules {
  /** The source of the visitor's bytes: the visitor's connection at the edge, the session's stream at the agent. */
  readonly visitorSide: ByteStream;
  readonly agentSide: ByteStream;
  /** Whichever of the two is the session's stream; its peer's PAUSE counts as traffic. */
  readonly stream: PausableStream;
  /** Both sides are closed; `error` is the first from either side. */
  done?(error: Error | undefined): void;
}

/** A stream that may know that its peer has sent PAUSE. */
type PausableStream = ByteStream & { readonly peerPaused?: boolean };

/**
 * How long an endpoint may take to answer a ClientHello before its stream is freed for another visitor. Longer than an
 * agent may take to reach it (DIAL_TIMEOUT_MS).
 */
export const FIRST_BYTE_DEADLINE_MS = 20_000;

/** Default idle timeout of a visitor without a byte in either direction. */
export const VISITOR_IDLE_TIMEOUT_MS = 3_600_000;

/** Converts a timeout to ticks of a splice; at least one. */
export function idleTicks(idleTimeoutMs: number): number {
  return Math.max(1, Math.ceil(idleTimeoutMs / IDLE_TICK_MS)) + 1;
}

/**
 * Joins two sides at once: a {@link Splice} without a class of its own.
 *
 * @param received bytes already read from the visitor
 */
export function splice(options: SpliceOptions, received?: Bytes): void {
  new CalledSplice(options).join(options.agentSide, options.stream, received);
}

/**
 * Joins the two sides of a visitor until both are closed, until no byte has moved in either direction for `idleTicks`,
 * or until queued bytes haven't moved for 90 to 120 s. A visitor has one such object and one timer, also while its
 * agent's side isn't there yet; a subclass adds what it has to do before and after.
 */
export abstract class Splice implements MemoryHolder {
  holderPlace = NO_PLACE;
  readonly #rules: SpliceRules;
  readonly #visitorSide: ByteStream;
  /** Undefined before {@link join}. */
  #agentSide: ByteStream | undefined;
  #stream: PausableStream | undefined;
  #toAgent: Direction | undefined;
  #toVisitor: Direction | undefined;
  #timer: Timer | undefined;
  #idleTicks = 0;
  #seenBytes = 0;
  #open = 2;
  #stays = false;
  /** The timer is set for something else than silence: the agent's side, or its first byte. */
  #awaits = true;
  /** How long the agent's side was awaited at most, since the timer was last set. */
  #awaitedMs = 0;
  error: Error | undefined;

  constructor(visitorSide: ByteStream, rules: SpliceRules) {
    this.#visitorSide = visitorSide;
    this.#rules = rules;
  }

  /** Both sides are closed. */
  protected abstract done(error: Error | undefined): void;

  /**
   * The agent's side was awaited for as long as {@link awaitAgentSide} said.
   *
   * @returns how much longer to wait; 0 if it has been given up
   */
  protected late(): number {
    return 0;
  }

  /** Waits for the agent's side. */
  protected awaitAgentSide(delayMs: number): void {
    this.#awaitedMs = delayMs;
    this.#arm(delayMs);
  }

  /** The agent's side has been given up: nothing is joined. */
  protected giveUp(): void {
    this.#timer?.cancel();
  }

  /**
   * Joins them.
   *
   * @param stream whichever of the two is the session's
   * @param received bytes already read from the visitor
   */
  join(agentSide: ByteStream, stream: PausableStream, received?: Bytes): void {
    const visitorSide = this.#visitorSide;
    const { firstByteMs, memory } = this.#rules;
    this.#agentSide = agentSide;
    this.#stream = stream;
    const toAgent = this.#toAgent = new Direction(this, visitorSide, agentSide);
    const toVisitor = this.#toVisitor = new Direction(this, agentSide, visitorSide);
    toAgent.back = toVisitor;
    toVisitor.back = toAgent;
    if (firstByteMs !== undefined) this.#arm(firstByteMs);
    else if (this.#timer === undefined) {
      this.#awaits = false;
      this.#arm(IDLE_TICK_MS);
    }
    memory?.enter(this);
    agentSide.attach(toVisitor);
    if (received !== undefined && received.length > 0) toAgent.data(received);
    visitorSide.attach(toAgent);
  }

  count(direction: Direction, byteLength: number): void {
    const meter = this.#rules.meter;
    if (meter === undefined) return;
    if (direction === this.#toAgent) meter.bytesToAgent += byteLength;
    else meter.bytesToVisitor += byteLength;
  }

  get farewell(): Bytes | undefined {
    return this.#rules.farewell;
  }

  get heldBytes(): number {
    return (this.#visitorSide.heldBytes ?? 0) + (this.#agentSide?.heldBytes ?? 0);
  }

  evict(): void {
    const why = "Cannot keep visitor: the process has no memory left, and this stream holds the most";
    const full = new SallyportError("stream_overflow", why, { side: "local", retryable: true });
    this.#agentSide?.abort(full);
    this.#visitorSide.abort(full);
  }

  isStream(side: ByteStream): boolean {
    return side === this.#stream;
  }

  sideClosed(): void {
    if (--this.#open > 0) return;
    this.#timer?.cancel();
    this.#rules.memory?.leave(this);
    this.done(this.error);
  }

  #arm(delayMs: number): void {
    this.#timer?.cancel();
    this.#timer = this.#rules.clock.after(delayMs, () => this.#ring());
  }

  #ring(): void {
    const agentSide = this.#agentSide;
    if (agentSide === undefined) {
      const leftMs = this.late();
      if (leftMs > 0) this.awaitAgentSide(leftMs);
      return;
    }
    if (!this.#stays) this.#stay(agentSide);
    if (!this.#awaits) return this.#judgeSilence(agentSide);
    this.#awaits = false;
    const { firstByteMs } = this.#rules;
    // The agent's side came in time: its wait was the beginning of the first tick.
    if (firstByteMs === undefined) this.#arm(Math.max(1, IDLE_TICK_MS - this.#awaitedMs));
    else if (this.#toVisitor!.byteLength > 0) this.#arm(IDLE_TICK_MS);
    else this.#endMute(agentSide, firstByteMs);
  }

  #judgeSilence(agentSide: ByteStream): void {
    const visitorSide = this.#visitorSide;
    const [toAgent, toVisitor] = [this.#toAgent!.byteLength, this.#toVisitor!.byteLength];
    const { idleTicks: ticks = IDLE_TICKS, firstByteMs } = this.#rules;
    // Bytes still draining to a slow reader are traffic too.
    const seen = toAgent + toVisitor - visitorSide.bufferedBytes - agentSide.bufferedBytes;
    // A peer that has sent PAUSE is still delivering what it received; its own splice checks its progress.
    const busy = seen !== this.#seenBytes || this.#stream!.peerPaused === true;
    this.#idleTicks = busy ? 0 : this.#idleTicks + 1;
    this.#seenBytes = seen;
    // Silence is allowed for long; unread bytes aren't, as they hold memory.
    const isStuck = visitorSide.bufferedBytes + agentSide.bufferedBytes > 0;
    // A side that has never sent a byte isn't worth waiting for.
    const isMute = firstByteMs !== undefined && (toAgent === 0 || toVisitor === 0);
    const limit = isStuck || isMute ? Math.min(ticks, IDLE_TICKS) : ticks;
    if (this.#idleTicks < limit - 1) return this.#arm(IDLE_TICK_MS);
    const seconds = (limit - 1) * IDLE_TICK_MS / 1000;
    const why = isStuck
      ? `no queued byte was read for ${seconds} s`
      : `no byte in either direction for ${seconds} s`;
    const idle = new SallyportError("session_idle", `Cannot keep visitor: ${why}`, { side: "peer" });
    visitorSide.abort(idle);
    agentSide.abort(idle);
  }

  /** A peer that has vanished without a word would be kept until the idle timeout. Too expensive for a short visit. */
  #stay(agentSide: ByteStream): void {
    this.#stays = true;
    this.#visitorSide.keepAlive?.();
    agentSide.keepAlive?.();
  }

  #endMute(agentSide: ByteStream, withinMs: number): void {
    const visitorSide = this.#visitorSide;
    const { farewell } = this.#rules;
    const why = `Cannot serve visitor: the endpoint hasn't answered in ${withinMs / 1000} s`;
    const silent = new SallyportError("deadline_exceeded", why, { side: "network", retryable: true });
    this.error ??= silent;
    agentSide.abort(silent);
    if (farewell === undefined) visitorSide.abort(silent);
    else {
      visitorSide.write(farewell);
      visitorSide.release();
    }
  }
}

class CalledSplice extends Splice {
  readonly #options: SpliceOptions;

  constructor(options: SpliceOptions) {
    super(options.visitorSide, options);
    this.#options = options;
  }

  protected override done(error: Error | undefined): void {
    this.#options.done?.(error);
  }
}

/** One direction; handles its source's events. */
class Direction implements ByteStreamHandler {
  readonly #splice: Splice;
  readonly #source: ByteStream;
  readonly #sink: ByteStream;
  back!: Direction;
  byteLength = 0;

  constructor(splice: Splice, source: ByteStream, sink: ByteStream) {
    this.#splice = splice;
    this.#source = source;
    this.#sink = sink;
  }

  data(chunk: Bytes): void {
    this.byteLength += chunk.length;
    this.#splice.count(this, chunk.length);
    if (!this.#sink.write(chunk)) this.#source.pause();
  }

  end(): void {
    this.#sink.closeWrite();
  }

  /** Our source accepts bytes again, so its own source may resume. */
  drain(): void {
    this.back.#source.resume();
  }

  close(error?: Error): void {
    this.#splice.error ??= error;
    // Bytes received before a socket failed are still delivered; a lost session is reported as such.
    if (error !== undefined && this.#splice.isStream(this.#source)) {
      const farewell = this.byteLength === 0 ? this.#splice.farewell : undefined;
      if (farewell === undefined) this.#sink.abort(error);
      else {
        this.#sink.write(farewell);
        this.#sink.release();
      }
    } else this.#sink.release();
    this.#splice.sideClosed();
  }
}
