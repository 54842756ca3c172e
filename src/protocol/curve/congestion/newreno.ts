/**
 * NewReno as in RFC 9002 (section 7 and appendix B): halves its window once per round trip with loss.
 *
 * @module
 */
import {
  type AckInfo,
  type CongestionControl,
  INITIAL_WINDOW_PACKETS,
  type LossInfo,
  WINDOW_MAX_BYTES,
} from "./congestion.ts";

const MINIMUM_PACKETS = 2;

/** Loss-based congestion control. */
export class NewReno implements CongestionControl {
  readonly name = "newreno";
  #datagramBytes: number;
  #window: number;
  #threshold = Infinity;
  /** Packets below this number belong to the round trip in which the window was halved. */
  #recoveryUntil = -1;

  constructor(datagramBytes: number) {
    this.#datagramBytes = datagramBytes;
    this.#window = INITIAL_WINDOW_PACKETS * datagramBytes;
  }

  get windowBytes(): number {
    return this.#window;
  }

  get slowStart(): boolean {
    return this.#window < this.#threshold;
  }

  onAck(info: AckInfo): void {
    if (info.largest < this.#recoveryUntil || !info.limited) return;
    if (this.slowStart) this.#window += info.bytes;
    else this.#window += this.#datagramBytes * info.bytes / this.#window;
    this.#window = Math.min(this.#window, WINDOW_MAX_BYTES);
  }

  onLoss(info: LossInfo): void {
    const minimum = MINIMUM_PACKETS * this.#datagramBytes;
    if (info.persistent) {
      this.#window = minimum;
      this.#recoveryUntil = -1;
      return;
    }
    if (info.largest < this.#recoveryUntil) return;
    this.#recoveryUntil = info.nextNumber;
    this.#window = Math.max(minimum, this.#window / 2);
    this.#threshold = this.#window;
  }

  setDatagramBytes(size: number): void {
    this.#datagramBytes = size;
  }

  reset(): void {
    this.#window = INITIAL_WINDOW_PACKETS * this.#datagramBytes;
    this.#threshold = Infinity;
    this.#recoveryUntil = -1;
  }
}
