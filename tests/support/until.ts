/**
 * Waits for what nobody tells of: a condition in another process, or in state that has no event.
 *
 * @module
 */
import assert from "node:assert/strict";
import { setTimeout as delay } from "node:timers/promises";

const PAUSE_MS = 20;

/** Looks until `met`; fails when the pauses between the looks add up to `patienceMs`. */
export async function until(
  met: () => boolean | Promise<boolean>,
  patienceMs = 30_000,
): Promise<void> {
  for (let waitedMs = 0; !await met(); waitedMs += PAUSE_MS) {
    assert.ok(waitedMs < patienceMs, `it isn't so within ${patienceMs} ms: ${met}`);
    await delay(PAUSE_MS);
  }
}
