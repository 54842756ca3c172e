/**
 * Round-trip estimation (RFC 9002, section 5). Milliseconds throughout.
 *
 * @module
 */

/** Assumed before the first measurement. */
const INITIAL_RTT_MS = 333;
/** An acknowledgement may wait this long on purpose. */
export const MAX_ACK_DELAY_MS = 20;
/** Timer granularity. */
const GRANULARITY_MS = 1;
/**
 * A probe waits no longer than this, or than a round trip: the peer may have moved, a NAT may have dropped our mapping,
 * and a path that was dead for 9 to 12 s must bring an answer before the session's silence limit ends it.
 */
const PTO_MAX_MS = 2_000;

/** Latest, smallest and smoothed round trip of a path. */
export class RttEstimate {
  latestMs = 0;
  minMs = Infinity;
  smoothedMs = INITIAL_RTT_MS;
  variationMs = INITIAL_RTT_MS / 2;
  /** The latest measurement less the peer's delay, unless that is below the minimum. */
  adjustedMs = 0;
  measured = false;

  /** Adds a measurement; `ackDelayMs` is the delay that the peer reports. */
  update(sampleMs: number, ackDelayMs: number): void {
    this.latestMs = sampleMs;
    this.minMs = Math.min(this.minMs, sampleMs);
    const delayMs = Math.min(ackDelayMs, MAX_ACK_DELAY_MS);
    const adjusted = sampleMs - delayMs >= this.minMs ? sampleMs - delayMs : sampleMs;
    this.adjustedMs = adjusted;
    if (!this.measured) {
      this.measured = true;
      this.smoothedMs = adjusted;
      this.variationMs = adjusted / 2;
      return;
    }
    this.variationMs = 0.75 * this.variationMs + 0.25 * Math.abs(this.smoothedMs - adjusted);
    this.smoothedMs = 0.875 * this.smoothedMs + 0.125 * adjusted;
  }

  /** The probe time-out after `count` unanswered probes. */
  ptoMs(count: number): number {
    const one = this.smoothedMs + Math.max(4 * this.variationMs, GRANULARITY_MS) + MAX_ACK_DELAY_MS;
    return Math.min(Math.max(one, PTO_MAX_MS), one * 2 ** Math.min(count, 10));
  }

  /** How long a packet may lag behind a later acknowledged one before it counts as lost. */
  lossDelayMs(): number {
    return Math.max(GRANULARITY_MS, 1.125 * Math.max(this.latestMs, this.smoothedMs));
  }

  /** The path has changed: resets all estimates. */
  reset(): void {
    this.latestMs = 0;
    this.minMs = Infinity;
    this.smoothedMs = INITIAL_RTT_MS;
    this.variationMs = INITIAL_RTT_MS / 2;
    this.measured = false;
  }
}
