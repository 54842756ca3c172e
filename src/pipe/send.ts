/**
 * Sends a source's bytes through a pipe.
 *
 * @module
 */
import type { Bytes } from "../bytes/bytes.ts";
import { SallyportError } from "../errors.ts";
import { type Address, DIAL_TIMEOUT_MS, type Runtime } from "../runtime/port.ts";
import { PipeConn } from "./pipe_conn.ts";
import { checkSender, PipeSender, type PipeSenderOptions } from "./sender.ts";
import type { ByteSource } from "./source.ts";
import { PIPE_BODY_MAX_BYTES } from "../wire/sodium/sodium_pdu.ts";

/** Options of {@link sendPipe}. */
export interface SendOptions extends Omit<PipeSenderOptions, "totalBytes"> {
  readonly runtime: Runtime;
  readonly to: Address;
  readonly source: ByteSource;
  /** Aborts the transfer; the receiver is notified. */
  readonly signal?: AbortSignal;
  /** Called as the receiver confirms bytes, with the total in `confirmed`. */
  progress?(confirmed: number, totalBytes: number | undefined): void;
  /** The receiver answered. */
  ready?(message: string, extended: boolean): void;
}

/** The result of a transfer. */
interface SendResult {
  /** Bytes sent, all confirmed. */
  readonly bytes: number;
  /** Whether the receiver is a Sallyport end, which also confirmed that everything is in its final place. */
  readonly extended: boolean;
}

/** A multiple of the PDU size, large enough that reading a file isn't the bottleneck. */
const BUFFER_BYTES = 8 * PIPE_BODY_MAX_BYTES;

/**
 * Dials, authenticates and sends until the source ends. Resolves when the receiver has confirmed every byte; rejects
 * with a `SallyportError` otherwise. The source is closed in any case.
 */
export async function sendPipe(options: SendOptions): Promise<SendResult> {
  const { runtime, source, to, signal } = options;
  try {
    if (signal?.aborted) throw interrupted();
    checkSender(options);
    const conn = await runtime.dial({ host: to.host, port: to.port, timeoutMs: DIAL_TIMEOUT_MS });
    const pipe = new PipeConn(conn, runtime.clock);
    return await new Promise<SendResult>((resolve, reject) => {
      const transfer = new Transfer(options, pipe, resolve, reject);
      const abort = (): void => transfer.stop(interrupted());
      if (signal?.aborted) abort();
      else signal?.addEventListener("abort", abort, { once: true });
    });
  } finally {
    source.close();
  }
}

/** The error of a transfer aborted locally. */
export function interrupted(): SallyportError {
  return new SallyportError("aborted", "The transfer was interrupted", { side: "local" });
}

class Transfer {
  readonly #options: SendOptions;
  readonly #pipe: PipeConn;
  readonly #machine: PipeSender;
  /** One buffer is sent while the other is read into. */
  #sending: Bytes = new Uint8Array(BUFFER_BYTES);
  #reading: Bytes = new Uint8Array(BUFFER_BYTES);
  #from = 0;
  #until = 0;
  /** Bytes in #reading, −1 while it is being read into. */
  #ready = 0;
  #ended = false;
  #open = false;
  #extended = false;

  constructor(
    options: SendOptions,
    pipe: PipeConn,
    resolve: (result: SendResult) => void,
    reject: (error: SallyportError) => void,
  ) {
    this.#options = options;
    this.#pipe = pipe;
    const { sizeBytes } = options.source;
    const known = sizeBytes === undefined ? {} : { totalBytes: sizeBytes };
    this.#machine = new PipeSender(
      { ...options, ...known },
      {
        write: (bytes) => pipe.write(bytes),
        ready: (message, extended) => {
          this.#open = true;
          this.#extended = extended;
          options.ready?.(message, extended);
          this.#pump();
        },
        confirmed: (taken) => {
          options.progress?.(taken, sizeBytes);
          this.#pump();
        },
        done: () => {
          const result = { bytes: this.#machine.sentBytes, extended: this.#extended };
          void pipe.end().then(() => resolve(result));
        },
        failed: (error) => {
          this.#open = false;
          // A reason that was sent must arrive, as must the mark that tells version 1 this isn't the end; otherwise
          // there is nothing to wait for.
          const local = error.side === "local" || error.side === "config";
          if (local || (this.#machine.authenticated && !this.#extended)) {
            void pipe.end().then(() => reject(error));
          } else {
            pipe.drop();
            reject(error);
          }
        },
      },
      options.runtime.clock.nowMs(),
    );
    pipe.bind(this.#machine, () => this.#pump());
    this.#machine.start();
  }

  stop(error: SallyportError): void {
    this.#machine.giveUp(error);
  }

  #pump(): void {
    if (!this.#open) return;
    const machine = this.#machine;
    for (;;) {
      if (this.#from === this.#until && !this.#turn()) return;
      const size = Math.min(machine.sendable, this.#until - this.#from);
      if (size === 0 || this.#pipe.blocked) return;
      const chunk = this.#sending.subarray(this.#from, this.#from + size);
      this.#from += size;
      machine.send(chunk);
    }
  }

  /** Swaps buffers: sends the one just read, and reads into the other. False if none is ready. */
  #turn(): boolean {
    if (this.#ready < 0) return false;
    if (this.#ended) {
      this.#open = false;
      this.#machine.end();
      return false;
    }
    [this.#sending, this.#reading] = [this.#reading, this.#sending];
    this.#from = 0;
    this.#until = this.#ready;
    this.#ready = -1;
    this.#options.source.read(this.#reading, this.#read);
    return this.#until > 0;
  }

  readonly #read = (error: SallyportError | undefined, count: number): void => {
    if (error !== undefined) return this.#machine.giveUp(error);
    this.#ready = count;
    this.#ended = count === 0;
    this.#pump();
  };
}
