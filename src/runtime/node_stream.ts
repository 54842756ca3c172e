/**
 * Adapts a Node stream, as from node:tls and node:http2, to a {@link ByteStream}.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import type { Duplex } from "node:stream";
import type { Bytes } from "../bytes/bytes.ts";
import type { BulkPace } from "./bulk_pace.ts";
import { BUFFER_SIZES, type BufferPool } from "./out_queue.ts";
import type { Clock } from "./port.ts";
import type { Faults } from "./shared.ts";
import { StreamBase } from "./stream_base.ts";
import type { TlsIntake } from "./tls_intake.ts";

/** Smallest of the pool's sizes that is worth a buffer of the pool; an index of `BUFFER_SIZES`. */
const POOLED_MIN_SIZE = 2;

/**
 * How long a finished stream with a carrier waits for its peer's end, which one that has left without a word never sends.
 * The carrier delivers what was written, so a TLS stack only needs the time to pass on its close_notify.
 */
export const CARRIED_LINGER_MS = 250;

/** Options of {@link NodeStream}. */
interface NodeStreamOptions {
  readonly clock: Clock;
  readonly faults: Faults;
  /**
   * The stream that carries this one, if this one doesn't pass on its back-pressure: Bun's TLS accepts any amount. The
   * carrier's `drain` is used then.
   */
  readonly carrier?: Duplex;
  /** Where copies of large chunks are made until the stack has taken them. */
  readonly pool?: BufferPool;
  /** Paces its reading, if it is a connection of its own. */
  readonly pace?: BulkPace;
  /** What a TLS stack takes in while this stream is paused. */
  readonly intake?: TlsIntake;
  /** Ends the underlying stream; `hard` sends a reset, where possible. Defaults to destroying it. */
  destroy?(hard: boolean): void;
  /** Translates the underlying stream's error. Defaults to passing it on. */
  failure?(error: Error): Error;
}

/** The adapted stream; takes ownership of the given one. */
export class NodeStream extends StreamBase {
  protected readonly clock: Clock;
  protected readonly faults: Faults;
  readonly #duplex: Duplex;
  readonly #options: NodeStreamOptions;
  #ended = false;
  /** Whether `write` has returned false. */
  #blocked = false;
  #error: Error | undefined;
  /** Whether reading waits for other connections to have their turn. */
  #resting = false;
  /** This stream, if it carries a session. */
  protected session: NodeStream | undefined;
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
      // A Buffer's `slice` is a view, a Uint8Array's a copy: handlers get a Uint8Array.
      if (!this.flowing) return void duplex.unshift(chunk);
      this.emitData(new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.length));
      this.#restAfter(chunk.length);
    });
    duplex.on("end", () => {
      // Deno reports the end of an empty stream even while it is paused.
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
    duplex.on("error", (error: Error) => this.#error ??= options.failure?.(error) ?? error);
    duplex.on("close", () => this.emitClose(this.#error));
  }

  #restAfter(byteLength: number): void {
    const { pace } = this.#options;
    if (pace === undefined || this.dead || this.#resting || pace.mayGoOn(byteLength, this.session)) return;
    this.#resting = true;
    this.stopFlow();
    pace.wait(byteLength, this.session, () => {
      this.#resting = false;
      if (this.flowing) this.startFlow();
    });
  }

  get bufferedBytes(): number {
    return this.#duplex.writableLength + (this.#options.carrier?.writableLength ?? 0);
  }

  write(chunk: Bytes): boolean {
    if (this.dead || this.writeEnded || chunk.length === 0) return true;
    this.bytesOut += chunk.length;
    this.#blocked = !this.#writeCopy(chunk) || this.#full;
    return !this.#blocked;
  }

  /** Large copies are made in buffers of the pool: one of its own for each would be most of the collector's work. */
  #writeCopy(chunk: Bytes): boolean {
    const { pool } = this.#options;
    const size = BUFFER_SIZES.findIndex((bytes) => bytes >= chunk.length);
    if (pool === undefined || size < POOLED_MIN_SIZE) return this.#duplex.write(Buffer.from(chunk));
    const copy = pool.take(size);
    copy.set(chunk);
    // After a failure the stack may still read it.
    return this.#duplex.write(
      copy.subarray(0, chunk.length),
      (error) => error ? pool.drop(copy) : pool.give(copy),
    );
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

  protected override get lingerMs(): number {
    return this.#options.carrier === undefined ? super.lingerMs : CARRIED_LINGER_MS;
  }

  protected override destroy(hard: boolean): void {
    if (this.#options.destroy !== undefined) this.#options.destroy(hard);
    else this.#duplex.destroy();
  }

  protected override startFlow(): void {
    if (this.#resting) return;
    this.#duplex.resume();
    this.#options.intake?.resume();
    if (this.#ended) queueMicrotask(() => this.#tellEnd());
  }

  protected override stopFlow(): void {
    this.#duplex.pause();
    this.#options.intake?.pause();
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
