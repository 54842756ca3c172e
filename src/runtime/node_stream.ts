/**
 * A stream of Node's as ours: what node:tls and node:http2 give.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import type { Duplex } from "node:stream";
import type { Bytes } from "../bytes/bytes.ts";
import type { Clock } from "./port.ts";
import type { Faults } from "./shared.ts";
import { StreamBase } from "./stream_base.ts";

/** What is kept for a reader that has paused, in case the stream below doesn't heed a pause at once. */
export const NODE_STREAM_BUFFER_BYTES = 256 * 1024;

/** What a {@link NodeStream} is made of. */
interface NodeStreamOptions {
  readonly clock: Clock;
  readonly faults: Faults;
  /**
   * The stream that carries this one, where it doesn't act back on it: Bun's TLS takes whatever it is given. Its `drain`
   * counts then.
   */
  readonly carrier?: Duplex;
  /** Ends the stream below; `hard` tells the peer, where that is possible. Destroys it when absent. */
  destroy?(hard: boolean): void;
}

/** The stream, to which the given one belongs from here on. */
export class NodeStream extends StreamBase {
  protected readonly clock: Clock;
  protected readonly faults: Faults;
  readonly #duplex: Duplex;
  readonly #options: NodeStreamOptions;
  #ended = false;
  /** `write` has said false. */
  #blocked = false;
  #error: Error | undefined;
  bytesIn = 0;
  bytesOut = 0;

  constructor(duplex: Duplex, options: NodeStreamOptions) {
    super();
    this.#duplex = duplex;
    this.#options = options;
    this.clock = options.clock;
    this.faults = options.faults;
    duplex.pause();
    duplex.on("data", (chunk: Uint8Array<ArrayBuffer>) => {
      this.bytesIn += chunk.length;
      // A Buffer's `slice` is a view, a Uint8Array's a copy: handlers get the latter.
      if (this.flowing) this.emitData(new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.length));
      else duplex.unshift(chunk);
    });
    duplex.on("end", () => {
      // Deno tells of the end of a stream without bytes even while it is paused.
      this.#ended = true;
      this.#tellEnd();
    });
    for (const taking of [duplex, options.carrier]) {
      taking?.on("drain", () => {
        if (!this.#blocked || this.#full) return;
        this.#blocked = false;
        this.emitDrain();
      });
    }
    duplex.on("error", (error: Error) => this.#error ??= error);
    duplex.on("close", () => this.emitClose(this.#error));
  }

  get bufferedBytes(): number {
    return this.#duplex.writableLength + (this.#options.carrier?.writableLength ?? 0);
  }

  write(chunk: Bytes): boolean {
    if (this.dead || this.writeEnded || chunk.length === 0) return true;
    this.bytesOut += chunk.length;
    this.#blocked = !this.#duplex.write(Buffer.from(chunk)) || this.#full;
    return !this.#blocked;
  }

  get #full(): boolean {
    return this.#duplex.writableNeedDrain || (this.#options.carrier?.writableNeedDrain ?? false);
  }

  closeWrite(): void {
    if (this.dead || this.writeEnded) return;
    this.writeEnded = true;
    this.#duplex.end(() => {
      this.writingDone();
      this.#maybeOver();
    });
  }

  protected override destroy(hard: boolean): void {
    if (this.#options.destroy !== undefined) this.#options.destroy(hard);
    else this.#duplex.destroy();
  }

  protected override startFlow(): void {
    this.#duplex.resume();
    if (this.#ended) queueMicrotask(() => this.#tellEnd());
  }

  protected override stopFlow(): void {
    this.#duplex.pause();
  }

  #tellEnd(): void {
    if (!this.flowing) return;
    if (!this.endDelivered) this.emitEnd();
    this.#maybeOver();
  }

  #maybeOver(): void {
    if (this.endDelivered && this.#duplex.writableFinished && !this.dead) this.closeInOrder();
  }
}
