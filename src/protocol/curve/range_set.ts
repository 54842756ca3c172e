/**
 * Sets of integers stored as ranges: packet numbers to acknowledge, bytes acknowledged, lost or received.
 *
 * @module
 */

/** Half-open ranges `[start, end)`, ascending, never touching. Meant for few ranges; operations are linear in them. */
export class RangeSet {
  readonly #starts: number[] = [];
  readonly #ends: number[] = [];

  /** Number of ranges. */
  get size(): number {
    return this.#starts.length;
  }

  /** Start of range `index`. */
  start(index: number): number {
    return this.#starts[index]!;
  }

  /** End (exclusive) of range `index`. */
  end(index: number): number {
    return this.#ends[index]!;
  }

  /** Adds `[start, end)`; an empty range does nothing. */
  add(start: number, end: number): void {
    if (end <= start) return;
    const starts = this.#starts;
    const ends = this.#ends;
    const last = starts.length - 1;
    // The common case: the numbers arrive in order.
    if (last < 0 || start > ends[last]!) {
      starts.push(start);
      ends.push(end);
      return;
    }
    if (start >= starts[last]!) {
      if (end > ends[last]!) ends[last] = end;
      return;
    }
    let from = 0;
    while (ends[from]! < start) from++;
    let to = from;
    let low = start;
    let high = end;
    while (to < starts.length && starts[to]! <= end) {
      low = Math.min(low, starts[to]!);
      high = Math.max(high, ends[to]!);
      to++;
    }
    starts.splice(from, to - from, low);
    ends.splice(from, to - from, high);
  }

  /** Removes `[start, end)`; an empty range does nothing. */
  remove(start: number, end: number): void {
    if (end <= start) return;
    const starts = this.#starts;
    const ends = this.#ends;
    for (let i = 0; i < starts.length && starts[i]! < end; i++) {
      const low = starts[i]!;
      const high = ends[i]!;
      if (high <= start) continue;
      if (low < start && high > end) {
        ends[i] = start;
        starts.splice(i + 1, 0, end);
        ends.splice(i + 1, 0, high);
        return;
      }
      if (low < start) ends[i] = start;
      else if (high > end) starts[i] = end;
      else {
        starts.splice(i, 1);
        ends.splice(i, 1);
        i--;
      }
    }
  }

  /** Whether `value` is in the set. */
  has(value: number): boolean {
    for (let i = this.#starts.length - 1; i >= 0; i--) {
      if (value >= this.#starts[i]!) return value < this.#ends[i]!;
    }
    return false;
  }

  /** Whether all of `[start, end)` is in the set. */
  covers(start: number, end: number): boolean {
    for (let i = this.#starts.length - 1; i >= 0; i--) {
      if (start >= this.#starts[i]!) return end <= this.#ends[i]!;
    }
    return false;
  }

  /** Removes the lowest range; does nothing on an empty set. */
  dropLowest(): void {
    this.#starts.shift();
    this.#ends.shift();
  }

  /** Removes everything below `limit`. */
  dropBelow(limit: number): void {
    while (this.#starts.length > 0 && this.#ends[0]! <= limit) this.dropLowest();
    if (this.#starts.length > 0 && this.#starts[0]! < limit) this.#starts[0] = limit;
  }

  /** Empties the set. */
  clear(): void {
    this.#starts.length = 0;
    this.#ends.length = 0;
  }
}
