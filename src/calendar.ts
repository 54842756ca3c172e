/**
 * Days and months in UTC, as usage and certificates count them.
 *
 * @module
 */

/** A day in milliseconds. */
export const DAY_MS = 86_400_000;

/** The date of a time: `2026-11-27`. */
export function dayOf(wallMs: number): string {
  return new Date(wallMs).toISOString().slice(0, 10);
}

/** The month of a time: `2026-11`. */
export function monthOf(wallMs: number): string {
  return dayOf(wallMs).slice(0, 7);
}
