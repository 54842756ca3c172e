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

/** Options of {@link splice}. */
export interface SpliceOptions {
  /** The source of the visitor's bytes: the visitor's connection at the edge, the session's stream at the agent. */
  readonly visitorSide: ByteStream;
  readonly agentSide: ByteStream;
  /** Whichever of the two is the session's stream; its peer's PAUSE counts as traffic. */
  readonly stream: ByteStream & { readonly peerPaused?: boolean };
  readonly clock: Clock;
  /** Memory budget that counts the splice's bytes and may end it to free them. Defaults to none. */
  readonly memory?: MemoryBudget;
  readonly meter?: ByteMeter;
  /** Bytes already read from the visitor. */
  readonly received?: Bytes;
  /** How many ticks of IDLE_TICK_MS without a byte close both sides. Defaults to IDLE_TICKS. */
  readonly idleTicks?: number;
  /** Deadline for the first byte from the agent's side. Defaults to none. */
  readonly firstByteMs?: number;
  /**
   * Sent to the visitor instead of a reset if the session is lost before any byte has arrived for it. Defaults to
   * nothing.
   */
  readonly farewell?: Bytes;
  /** Both sides are closed; `error` is the first from either side. */
  done?(error: Error | undefined): void;
}

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
 * Joins the two sides until both are closed, until no byte has moved in either direction for `idleTicks`, or until
 * queued bytes haven't moved for 90 to 120 s.
 */
export function splice(options: SpliceOptions): void {
  new Splice(options);
}

class Splice implements MemoryHolder {
  holderPlace = NO_PLACE;
  readonly #options: SpliceOptions;
  readonly #toAgent: Direction;
  readonly #toVisitor: Direction;
  #timer: Timer | undefined;
  #idleTicks = 0;
  #seenBytes = 0;
  #open = 2;
  #stays = false;
  error: Error | undefined;

  constructor(options: SpliceOptions) {
    this.#options = options;
    const { visitorSide, agentSide, received } = options;
    this.#toAgent = new Direction(this, visitorSide, agentSide);
    this.#toVisitor = new Direction(this, agentSide, visitorSide);
    this.#toAgent.back = this.#toVisitor;
    this.#toVisitor.back = this.#toAgent;
    this.#watch(options.firstByteMs);
    options.memory?.enter(this);
    agentSide.attach(this.#toVisitor);
    if (received !== undefined && received.length > 0) this.#toAgent.data(received);
    visitorSide.attach(this.#toAgent);
  }

  count(direction: Direction, byteLength: number): void {
    const meter = this.#options.meter;
    if (meter === undefined) return;
    if (direction === this.#toAgent) meter.bytesToAgent += byteLength;
    else meter.bytesToVisitor += byteLength;
  }

  get farewell(): Bytes | undefined {
    return this.#options.farewell;
  }

  get heldBytes(): number {
    const { visitorSide, agentSide } = this.#options;
    return (visitorSide.heldBytes ?? 0) + (agentSide.heldBytes ?? 0);
  }

  evict(): void {
    const why = "Cannot keep visitor: the process has no memory left, and this stream holds the most";
    const full = new SallyportError("stream_overflow", why, { side: "local", retryable: true });
    this.#options.agentSide.abort(full);
    this.#options.visitorSide.abort(full);
  }

  isStream(side: ByteStream): boolean {
    return side === this.#options.stream;
  }

  sideClosed(): void {
    if (--this.#open > 0) return;
    this.#timer?.cancel();
    this.#options.memory?.leave(this);
    this.#options.done?.(this.error);
  }

  #watch(firstByteMs?: number): void {
    this.#timer = this.#options.clock.after(firstByteMs ?? IDLE_TICK_MS, () => {
      if (!this.#stays) this.#stay();
      if (firstByteMs !== undefined) return this.#judgeAnswer(firstByteMs);
      // Bytes still draining to a slow reader are traffic too.
      const { visitorSide, agentSide, idleTicks: ticks = IDLE_TICKS } = this.#options;
      const seen = this.#toAgent.byteLength + this.#toVisitor.byteLength - visitorSide.bufferedBytes -
        agentSide.bufferedBytes;
      // A peer that has sent PAUSE is still delivering what it received; its own splice checks its progress.
      const busy = seen !== this.#seenBytes || this.#options.stream.peerPaused === true;
      this.#idleTicks = busy ? 0 : this.#idleTicks + 1;
      this.#seenBytes = seen;
      // Silence is allowed for long; unread bytes aren't, as they hold memory.
      const isStuck = visitorSide.bufferedBytes + agentSide.bufferedBytes > 0;
      // A side that has never sent a byte isn't worth waiting for.
      const isMute = this.#options.firstByteMs !== undefined &&
        (this.#toAgent.byteLength === 0 || this.#toVisitor.byteLength === 0);
      const limit = isStuck || isMute ? Math.min(ticks, IDLE_TICKS) : ticks;
      if (this.#idleTicks < limit - 1) return this.#watch();
      const seconds = (limit - 1) * IDLE_TICK_MS / 1000;
      const why = isStuck
        ? `no queued byte was read for ${seconds} s`
        : `no byte in either direction for ${seconds} s`;
      const idle = new SallyportError(
        "session_idle",
        `Cannot keep visitor: ${why}`,
        { side: "peer" },
      );
      visitorSide.abort(idle);
      agentSide.abort(idle);
    });
  }

  /** A peer that has vanished without a word would be kept until the idle timeout. Too expensive for a short visit. */
  #stay(): void {
    this.#stays = true;
    this.#options.visitorSide.keepAlive?.();
    this.#options.agentSide.keepAlive?.();
  }

  #judgeAnswer(withinMs: number): void {
    if (this.#toVisitor.byteLength > 0) return this.#watch();
    const { visitorSide, agentSide, farewell } = this.#options;
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
