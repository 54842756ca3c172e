/**
 * Replay protection: a sliding bitmap of packet numbers after RFC 6479 (WireGuard's `replay`). `check` before a packet
 * is opened, `mark` once it is authenticated; a number below the window counts as seen.
 *
 * @module
 */

/** Numbers this far or farther below the highest one are refused. */
export const REPLAY_WINDOW = 8_192;

/** Largest packet number: 48 bits. */
export const PACKET_NUMBER_MAX = 2 ** 48 - 1;

const WORD_BITS = 32;
/** One word more than the window, so that advancing within a word never drops numbers of the window. */
const WORDS = REPLAY_WINDOW / WORD_BITS + 1;

/** The window of one direction of one connection. */
export class ReplayWindow {
  readonly #words = new Uint32Array(WORDS);
  #highest = -1;

  /** The highest number marked, −1 before the first. */
  get highest(): number {
    return this.#highest;
  }

  /** Whether `number` may still be accepted: not marked yet, and not too old to tell. */
  check(number: number): boolean {
    if (number > this.#highest) return number <= PACKET_NUMBER_MAX;
    if (!(number >= 0) || this.#highest - number >= REPLAY_WINDOW) return false;
    return (this.#words[this.#word(number)]! & this.#bit(number)) === 0;
  }

  /** Marks a number for which {@link check} returned true. */
  mark(number: number): void {
    if (number > this.#highest) {
      const from = Math.floor(this.#highest / WORD_BITS);
      const steps = Math.min(WORDS, Math.floor(number / WORD_BITS) - from);
      for (let i = 1; i <= steps; i++) this.#words[(from + i) % WORDS] = 0;
      this.#highest = number;
    }
    const word = this.#word(number);
    this.#words[word] = this.#words[word]! | this.#bit(number);
  }

  #word(number: number): number {
    return Math.floor(number / WORD_BITS) % WORDS;
  }

  #bit(number: number): number {
    return 1 << (number % WORD_BITS);
  }
}
