/**
 * The carrier: an established connection in which both sides open streams, over any transport. Everything under
 * src/tunnel is built on it, so that it works with SniTun, sealed, curve and QUIC sessions alike.
 *
 * @module
 */
import { SallyportError } from "../../errors.ts";
import type { Caller } from "../../protocol/mux/host.ts";
import type { Address, ByteStream, Clock } from "../../runtime/port.ts";

/** A connection that carries streams opened by either side. */
export interface Carrier {
  /** The transport's name: "snitun", "sealed", "curve", "quic". */
  readonly transport: string;
  /** The peer's address; it may change. */
  readonly remote: Address;
  /** Sets the event handler; may be called again to hand the carrier on. Nothing is delivered before the first call. */
  attach(handler: CarrierHandler): void;
  /**
   * Opens a stream to the other side, on behalf of `caller` if given and if the carrier can convey it. Rejects with the
   * carrier's end reason, or with `limit_exceeded`.
   */
  open(caller?: Caller): Promise<ByteStream>;
  /** Stops new streams; open ones continue. */
  goAway(reason: SallyportError): void;
  /** Resolves when no stream is open, or when the carrier is over; absent if unknown. */
  quiet?(): Promise<void>;
  /** Closes the carrier and its streams with this reason; `ended` follows. */
  close(reason: SallyportError): void;
}

/** Events of a {@link Carrier} for its owner. */
export interface CarrierHandler {
  /** The other side opened a stream. It waits, unread, until it is attached or aborted. */
  stream(stream: ByteStream): void;
  /** The carrier is over; every stream has been notified. The last call. */
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

/** Options of {@link openWithin}. */
interface OpenWithinOptions {
  readonly clock: Clock;
  readonly timeoutMs: number;
  /** The caller on whose behalf it is opened, if any. */
  readonly caller?: Caller;
  /** Aborts the attempt. */
  readonly signal?: AbortSignal;
}

/**
 * Opens a stream, which a peer may delay. Rejects as {@link Carrier.open}, with `deadline_exceeded`, or with the
 * signal's reason; a stream that opens too late is aborted.
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
