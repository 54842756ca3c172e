/**
 * Waiting that ends with a signal.
 *
 * @module
 */

/**
 * Waits for a promise until the signal is aborted, then rejects with its reason. `giveUp` then ends the work
 * behind it.
 */
export async function untilAborted<T>(
  promise: Promise<T>,
  signal: AbortSignal,
  giveUp: (promise: Promise<T>) => void = () => {},
): Promise<T> {
  const early = Promise.withResolvers<never>();
  const aborted = () => early.reject(signal.reason);
  if (signal.aborted) aborted();
  signal.addEventListener("abort", aborted, { once: true });
  try {
    return await Promise.race([promise, early.promise]);
  } catch (error) {
    if (signal.aborted) giveUp(promise);
    throw error;
  } finally {
    signal.removeEventListener("abort", aborted);
  }
}
