import type { Bytes } from "./bytes.ts";

/**
 * Caches the last view of a buffer: packets mostly have the same size, and making a view costs as much as a small copy
 * (0.2 µs on Bun).
 */
export class ViewCache {
  #buffer: Bytes | undefined;
  #start = 0;
  #end = 0;
  #view: Bytes | undefined;

  /** `buffer.subarray(start, end)`. */
  view(buffer: Bytes, start: number, end: number): Bytes {
    if (buffer !== this.#buffer || start !== this.#start || end !== this.#end || this.#view === undefined) {
      this.#buffer = buffer;
      this.#start = start;
      this.#end = end;
      this.#view = buffer.subarray(start, end);
    }
    return this.#view;
  }
}
