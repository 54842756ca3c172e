/**
 * Waiting with an end.
 *
 * @module
 */
import type { Clock, Timer } from "../runtime/port.ts";

/** Waits for `promise`, no longer than `timeoutMs`, and not on when `signal` says so. Never rejects of its own. */
export async function waitFor(
  promise: Promise<unknown>,
  timeoutMs: number,
  clock: Clock,
  signal?: AbortSignal,
): Promise<void> {
  if (signal?.aborted) return;
  let timer: Timer | undefined;
  let stopped: (() => void) | undefined;
  const over = new Promise<void>((resolve) => {
    timer = clock.after(timeoutMs, resolve);
    stopped = resolve;
    signal?.addEventListener("abort", resolve as () => void, { once: true });
  });
  try {
    await Promise.race([promise, over]);
  } finally {
    timer?.cancel();
    if (stopped !== undefined) signal?.removeEventListener("abort", stopped);
  }
}
