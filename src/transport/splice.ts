/**
 * Joins two byte streams: what comes out of one goes into the other, with back-pressure and half-close.
 *
 * @module
 */
import type { Bytes } from "../bytes/bytes.ts";
import type { MemoryBudget, MemoryHolder } from "../bytes/memory_budget.ts";
import { SallyportError } from "../errors.ts";
import type { ByteStream, ByteStreamHandler, Clock, Timer } from "../runtime/port.ts";
import { IDLE_TICK_MS, IDLE_TICKS } from "../protocol/mux/heartbeat.ts";

/** Where a splice counts its bytes: plain fields, so that counting costs an addition. */
export interface ByteMeter {
  /** From visitors. */
  bytesToAgent: number;
  /** From agents. */
  bytesToVisitor: number;
}

/** What {@link splice} takes. */
export interface SpliceOptions {
  /** Where the visitor's bytes come from: the visitor's connection at the edge, the session's stream at the agent. */
  readonly visitorSide: ByteStream;
  readonly agentSide: ByteStream;
  /** The one of the two that is the session's stream; its peer's PAUSE counts as traffic. */
  readonly stream: ByteStream & { readonly peerPaused?: boolean };
  readonly clock: Clock;
  /** Where the splice counts as one who holds bytes, and may be ended for it; nowhere when absent. */
  readonly memory?: MemoryBudget;
  readonly meter?: ByteMeter;
  /** Bytes of the visitor that have already been read. */
  readonly received?: Bytes;
  /** How many ticks of IDLE_TICK_MS without a byte end both sides; IDLE_TICKS when absent. */
  readonly idleTicks?: number;
  /** The agent's side must have said something by then; it has all the time it wants when absent. */
  readonly firstByteMs?: number;
  /** What a visitor is told in place of a reset when the session is lost before a byte has come for it; nothing when absent. */
  readonly farewell?: Bytes;
  /** The visitor has stayed for a while: the time for what would cost a short visit too much. Called once. */
  stays?(): void;
  /** Both sides are over; `error` is the first that either side had. */
  done?(error: Error | undefined): void;
}

/**
 * An endpoint that hasn't answered a ClientHello by then won't: its stream is another visitor's. Longer than an agent may
 * take to reach it (DIAL_TIMEOUT_MS).
 */
export const FIRST_BYTE_DEADLINE_MS = 20_000;

/** A visitor without a byte either way is kept for this long, where nothing else is set. */
export const VISITOR_IDLE_TIMEOUT_MS = 3_600_000;

/** How many ticks of a splice make this time; at least one whole tick. */
export function idleTicks(idleTimeoutMs: number): number {
  return Math.max(1, Math.ceil(idleTimeoutMs / IDLE_TICK_MS)) + 1;
}

/**
 * Joins the two sides until both are over, until no byte has gone either way for the time of `idleTicks`, or until bytes
 * that wait haven't moved for 90 to 120 s.
 */
export function splice(options: SpliceOptions): void {
  new Splice(options);
}

class Splice implements MemoryHolder {
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
      if (!this.#stays) this.#options.stays?.();
      this.#stays = true;
      if (firstByteMs !== undefined) return this.#judgeAnswer(firstByteMs);
      // Bytes that still drain towards a slow reader are traffic too.
      const { visitorSide, agentSide, idleTicks: ticks = IDLE_TICKS } = this.#options;
      const seen = this.#toAgent.byteLength + this.#toVisitor.byteLength - visitorSide.bufferedBytes -
        agentSide.bufferedBytes;
      // A peer that has said PAUSE is handing on what it got; whether that moves is seen at its own splice.
      const busy = seen !== this.#seenBytes || this.#options.stream.peerPaused === true;
      this.#idleTicks = busy ? 0 : this.#idleTicks + 1;
      this.#seenBytes = seen;
      // Quiet may last for long; bytes that nobody takes hold memory, and don't.
      const isStuck = visitorSide.bufferedBytes + agentSide.bufferedBytes > 0;
      // A side that has never said anything hasn't shown that it is worth the wait.
      const isMute = this.#options.firstByteMs !== undefined &&
        (this.#toAgent.byteLength === 0 || this.#toVisitor.byteLength === 0);
      const limit = isStuck || isMute ? Math.min(ticks, IDLE_TICKS) : ticks;
      if (this.#idleTicks < limit - 1) return this.#watch();
      const seconds = (limit - 1) * IDLE_TICK_MS / 1000;
      const why = isStuck ? `nobody took a byte for ${seconds} s` : `no byte either way for ${seconds} s`;
      const idle = new SallyportError(
        "session_idle",
        `Cannot keep visitor: ${why}`,
        { side: "peer" },
      );
      visitorSide.abort(idle);
      agentSide.abort(idle);
    });
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

/** One direction; it listens to its source. */
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

  /** Our source takes bytes again, so its own source may go on. */
  drain(): void {
    this.back.#source.resume();
  }

  close(error?: Error): void {
    this.#splice.error ??= error;
    // What a socket brought before it broke is still delivered; a session's loss is shown as what it is.
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
