/**
 * The carrier: an established connection in which both sides open streams, whatever transport is below. Everything in
 * this room is built on it, so that it serves SniTun, sealed, curve and QUIC sessions alike.
 *
 * @module
 */
import { SallyportError } from "../../errors.ts";
import type { Caller } from "../../protocol/mux/host.ts";
import type { Address, ByteStream, Clock } from "../../runtime/port.ts";

/** A connection that carries streams opened by either side. */
export interface Carrier {
  /** How it crosses the network: "snitun", "sealed", "curve", "quic". */
  readonly transport: string;
  /** The peer's address; it may move. */
  readonly remote: Address;
  /** Says who hears of it; may be called again to hand the carrier on. Nothing is delivered before the first call. */
  attach(handler: CarrierHandler): void;
  /**
   * Opens a stream to the other side, on behalf of `caller` where there is one and the carrier can say so. Rejects with
   * what the carrier ended with, or with `limit_exceeded`.
   */
  open(caller?: Caller): Promise<ByteStream>;
  /** No new streams from now on; those that are open go on. */
  goAway(reason: SallyportError): void;
  /** Resolves when no stream is open, or when it is over; who can't tell leaves it out. */
  quiet?(): Promise<void>;
  /** Ends it and its streams for this reason; `ended` follows. */
  close(reason: SallyportError): void;
}

/** What a {@link Carrier} tells its owner. */
export interface CarrierHandler {
  /** The other side opened a stream. It waits, unread, until it is attached or aborted. */
  stream(stream: ByteStream): void;
  /** It is over; every stream has been told. The last call. */
  ended(error: SallyportError): void;
}

/** Closes a carrier when its streams have ended, or after `graceMs`. */
export async function closeWhenQuiet(
  carrier: Carrier,
  clock: Clock,
  reason: SallyportError,
  graceMs: number,
): Promise<void> {
  const late = Promise.withResolvers<void>();
  const timer = clock.after(graceMs, late.resolve);
  await Promise.race([carrier.quiet?.(), late.promise].filter((wait) => wait !== undefined));
  timer.cancel();
  carrier.close(reason);
}

/** What {@link openWithin} takes. */
interface OpenWithinOptions {
  readonly clock: Clock;
  readonly timeoutMs: number;
  /** On whose behalf, where there is somebody. */
  readonly caller?: Caller;
  /** Gives up. */
  readonly signal?: AbortSignal;
}

/**
 * Opens a stream, for which a peer may let us wait. Rejects as {@link Carrier.open}, with `deadline_exceeded`, or with
 * the signal's reason; a stream that comes too late is nobody's.
 */
export async function openWithin(carrier: Carrier, options: OpenWithinOptions): Promise<ByteStream> {
  const { clock, timeoutMs, caller, signal } = options;
  const early = Promise.withResolvers<never>();
  const giveUp = () => early.reject(signal!.reason);
  signal?.addEventListener("abort", giveUp, { once: true });
  const timer = clock.after(timeoutMs, () => {
    const why = `Cannot open stream: the other side allowed none in ${timeoutMs / 1000} s`;
    early.reject(new SallyportError("deadline_exceeded", why, { side: "network", retryable: true }));
  });
  const opening = carrier.open(caller);
  try {
    return await Promise.race([opening, early.promise]);
  } catch (error) {
    opening.then((stream) => stream.abort(), () => {});
    throw error;
  } finally {
    timer.cancel();
    signal?.removeEventListener("abort", giveUp);
  }
}
