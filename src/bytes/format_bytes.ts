/**
 * Numbers of bytes for people.
 *
 * @module
 */

const UNITS = ["B", "kB", "MB", "GB", "TB", "PB"];

/** Formats a number of bytes briefly: `999 B`, `1.5 MB`. Units are powers of 1000. */
export function formatBytes(bytes: number): string {
  let unit = 0;
  let value = bytes;
  // 999.95 would be printed as 1000.0.
  while (value >= (unit === 0 ? 1000 : 999.95) && unit < UNITS.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${UNITS[unit]}`;
}
