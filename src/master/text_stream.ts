/**
 * An answer that goes on: text that is sent as it comes, to edges and to browsers.
 *
 * @module
 */
import type { Clock, Timer } from "../runtime/port.ts";

/** What {@link TextStream} takes. */
interface TextStreamOptions {
  readonly clock: Clock;
  /** Sent every `heartbeatMs`, so that a dead connection shows on both sides. */
  readonly heartbeat: string;
  readonly heartbeatMs: number;
  /** Texts that wait for a reader that doesn't read; one more ends the stream. */
  readonly chunksMax: number;
  /** Ends the stream. */
  readonly closing: AbortSignal;
  /** Hears of the end, once. */
  over(why: string): void;
}

/** See the module. */
export class TextStream {
  /** The answer's body. */
  readonly body: ReadableStream<Uint8Array>;
  readonly #options: TextStreamOptions;
  readonly #encoder = new TextEncoder();
  readonly #leave = () => this.end("the session master stops");
  #controller!: ReadableStreamDefaultController<Uint8Array>;
  #timer: Timer | undefined;
  #isOver = false;

  constructor(options: TextStreamOptions) {
    this.#options = options;
    this.body = new ReadableStream<Uint8Array>({
      start: (controller) => void (this.#controller = controller),
      cancel: () => this.#over("it has gone"),
    });
    options.closing.addEventListener("abort", this.#leave, { once: true });
    if (options.closing.aborted) this.#leave();
    else this.#beat();
  }

  /** Whether nothing can be sent any more. */
  get isOver(): boolean {
    return this.#isOver;
  }

  send(text: string): void {
    if (this.#isOver) return;
    if ((this.#controller.desiredSize ?? 0) < -this.#options.chunksMax) {
      this.#over("it doesn't read");
      this.#controller.error(new Error("Cannot go on: the client doesn't read"));
      return;
    }
    this.#controller.enqueue(this.#encoder.encode(text));
  }

  /** Ends the answer in order. */
  end(why: string): void {
    if (this.#isOver) return;
    this.#over(why);
    this.#controller.close();
  }

  #beat(): void {
    const { clock, heartbeat, heartbeatMs } = this.#options;
    this.#timer = clock.after(heartbeatMs, () => {
      this.send(heartbeat);
      if (!this.#isOver) this.#beat();
    });
  }

  #over(why: string): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#timer?.cancel();
    this.#options.closing.removeEventListener("abort", this.#leave);
    this.#options.over(why);
  }
}
