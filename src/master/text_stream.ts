/**
 * A streaming response: text sent as it becomes available, to edges and to browsers.
 *
 * @module
 */
import type { Clock, Timer } from "../runtime/port.ts";

/** Options of {@link TextStream}. */
interface TextStreamOptions {
  readonly clock: Clock;
  /** Sent every `heartbeatMs`, so that both sides detect a dead connection. */
  readonly heartbeat: string;
  readonly heartbeatMs: number;
  /** Maximum number of queued texts for a slow reader; one more ends the stream. */
  readonly chunksMax: number;
  /** Ends the stream. */
  readonly closing: AbortSignal;
  /** Called once at the end. */
  over(why: string): void;
}

/** One streaming response. */
export class TextStream {
  /** The response body. */
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

  /** Whether the stream has ended. */
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

  /** Ends the response gracefully. */
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
