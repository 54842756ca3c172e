/**
 * A stream of an agent with limits. The agent's buckets throttle both directions, and the stream ends when the month's
 * bytes are used up.
 *
 * @module
 */
import type { Bytes } from "../../bytes/bytes.ts";
import type { SallyportError } from "../../errors.ts";
import type { Clock, Timer } from "../../runtime/port.ts";
import { WrappedStream } from "../../runtime/wrapped_stream.ts";
import type { Caller, SessionStream } from "../../transport/port.ts";
import type { TokenBucket } from "./token_bucket.ts";

/** The part of an agent's account that {@link limitStream} uses. */
export interface StreamLimits {
  readonly clock: Clock;
  readonly toAgent: TokenBucket | undefined;
  readonly toVisitor: TokenBucket | undefined;
  /** Counts bytes of either direction; returns the error that ends the stream if they exceed the limit. */
  count(byteLength: number): SallyportError | undefined;
}

/** Applies the limits of an agent to one of its streams. */
export function limitStream(stream: SessionStream, limits: StreamLimits): SessionStream {
  return new LimitedStream(stream, limits);
}

class LimitedStream extends WrappedStream<SessionStream> implements SessionStream {
  readonly #limits: StreamLimits;
  /** Set while writes wait for the bucket; the underlying stream may have drained meanwhile. */
  #writeTimer: Timer | undefined;
  #full = false;
  /** Set while reads wait for the bucket. */
  #readTimer: Timer | undefined;
  #paused = false;

  constructor(stream: SessionStream, limits: StreamLimits) {
    super(stream);
    this.#limits = limits;
  }

  get caller(): Caller {
    return this.inner.caller;
  }

  /** Bytes that wait for a bucket count as in flight. */
  get peerPaused(): boolean {
    return this.inner.peerPaused || this.#writeTimer !== undefined || this.#readTimer !== undefined;
  }

  override write(chunk: Bytes): boolean {
    const { toAgent, clock } = this.#limits;
    if (this.#spend(chunk.length)) return true;
    this.#full = !this.inner.write(chunk);
    const waitMs = toAgent?.take(chunk.length) ?? 0;
    if (waitMs > 0 && this.#writeTimer === undefined) {
      this.#writeTimer = clock.after(waitMs, () => this.#writeAgain());
    }
    return !this.#full && this.#writeTimer === undefined;
  }

  override release(): void {
    // Later bytes are dropped, so reading needs no throttling.
    this.#readTimer?.cancel();
    this.#readTimer = undefined;
    this.inner.resume();
    this.inner.release();
  }

  override pause(): void {
    this.#paused = true;
    this.inner.pause();
  }

  override resume(): void {
    this.#paused = false;
    if (this.#readTimer === undefined) this.inner.resume();
  }

  // From the inner stream.

  override data(chunk: Bytes): void {
    const { toVisitor, clock } = this.#limits;
    if (this.#spend(chunk.length)) return;
    this.handler?.data(chunk);
    const waitMs = toVisitor?.take(chunk.length) ?? 0;
    if (waitMs <= 0 || this.#readTimer !== undefined) return;
    this.inner.pause();
    this.#readTimer = clock.after(waitMs, () => this.#readAgain());
  }

  override drain(): void {
    this.#full = false;
    if (this.#writeTimer === undefined) this.handler?.drain();
  }

  override close(error?: Error): void {
    this.#writeTimer?.cancel();
    this.#readTimer?.cancel();
    this.handler?.close(error);
  }

  /** Whether the monthly limit is used up, which ends the stream. */
  #spend(byteLength: number): boolean {
    const over = this.#limits.count(byteLength);
    if (over !== undefined) this.inner.abort(over);
    return over !== undefined;
  }

  /** Another stream of the agent may have taken the tokens we waited for. */
  #writeAgain(): void {
    const waitMs = this.#limits.toAgent?.waitMs ?? 0;
    this.#writeTimer = waitMs > 0 ? this.#limits.clock.after(waitMs, () => this.#writeAgain()) : undefined;
    if (this.#writeTimer === undefined && !this.#full) this.handler?.drain();
  }

  #readAgain(): void {
    const waitMs = this.#limits.toVisitor?.waitMs ?? 0;
    this.#readTimer = waitMs > 0 ? this.#limits.clock.after(waitMs, () => this.#readAgain()) : undefined;
    if (this.#readTimer === undefined && !this.#paused) this.inner.resume();
  }
}
