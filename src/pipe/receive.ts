/**
 * Receives one transfer through a pipe.
 *
 * @module
 */
import { type Address, type Conn, IGNORE_STREAM, type Listener, type Runtime } from "../runtime/port.ts";
import { errorMessage, SallyportError } from "../errors.ts";
import { FailureLimiter } from "../wire/ip/failure_limiter.ts";
import { PipeConn } from "./pipe_conn.ts";
import { PipeReceiver, type PipeReceiverOptions } from "./receiver.ts";
import { interrupted } from "./send.ts";
import type { PipeSink, SinkHost } from "./sink.ts";
import { PIPE_FAILURES_PER_MINUTE_MAX } from "./gate.ts";

/** Unauthenticated connections of a pipe's receiver; further ones are dropped. */
export const PIPE_PENDING_MAX = 64;

/** Options of {@link receivePipe}. */
export interface ReceiveOptions extends PipeReceiverOptions {
  readonly runtime: Runtime;
  readonly listen: Address;
  /** Creates the sink; called before listening. */
  sink(host: SinkHost): Promise<PipeSink>;
  /** Stops waiting and receiving; the client is notified. */
  readonly signal?: AbortSignal;
  /** Called once listening at this address. */
  listening?(address: Address): void;
  /** A client has authenticated. */
  accepted?(from: Address): void;
  /** A client was closed without an answer. `limited`: its next connections are dropped unread for a while. */
  refused?(from: Address, error: SallyportError, limited: boolean): void;
  /** Called as bytes are stored, with the total in `stored`. */
  progress?(stored: number, totalBytes: number | undefined): void;
}

/** The result of a transfer. */
export interface ReceiveResult {
  /** Bytes received and stored. */
  readonly bytes: number;
  /** Whether the client confirmed that this is everything. Version 1 has no such mark: a forged end looks the same. */
  readonly certain: boolean;
}

/**
 * Listens until a client with the right credentials has sent everything. Clients that fail to authenticate are closed
 * silently and change nothing. Rejects with a `SallyportError` when the transfer fails; it then leaves no half-written
 * file.
 */
export async function receivePipe(options: ReceiveOptions): Promise<ReceiveResult> {
  if (options.signal?.aborted) throw interrupted();
  return await new Reception(options).run();
}

interface Active {
  readonly pipe: PipeConn;
  readonly machine: PipeReceiver;
}

class Reception {
  readonly #options: ReceiveOptions;
  readonly #limiter = new FailureLimiter(PIPE_FAILURES_PER_MINUTE_MAX);
  readonly #pending = new Set<PipeConn>();
  /** The transfer in progress. */
  #active: Active | undefined;
  #total: number | undefined;
  #sink!: PipeSink;
  #listener: Listener | undefined;
  #settle!: { resolve(result: ReceiveResult): void; reject(error: SallyportError): void };
  #settled = false;

  constructor(options: ReceiveOptions) {
    this.#options = options;
  }

  async run(): Promise<ReceiveResult> {
    const { runtime, listen, signal } = this.#options;
    const over = new Promise<ReceiveResult>((resolve, reject) => this.#settle = { resolve, reject });
    // Invalid settings fail here, not with the first client.
    this.#machine(undefined as never, () => {});
    this.#sink = await this.#options.sink({
      stored: (bytes) => this.#stored(bytes),
      failed: (error) => this.#stop(error),
    });
    try {
      this.#listener = await runtime.listen({
        host: listen.host,
        port: listen.port,
        accept: (conn) => this.#accept(conn),
      });
    } catch (error) {
      await this.#sink.discard();
      throw error;
    }
    const abort = (): void => this.#stop(interrupted());
    if (signal?.aborted) abort();
    signal?.addEventListener("abort", abort, { once: true });
    this.#options.listening?.(this.#listener.address);
    try {
      return await over;
    } finally {
      signal?.removeEventListener("abort", abort);
      this.#listener.close();
      for (const pipe of this.#pending) pipe.drop();
    }
  }

  #accept(conn: Conn): void {
    const { runtime } = this.#options;
    const now = runtime.clock.nowMs();
    const source = conn.remote.host;
    if (this.#settled || this.#pending.size >= PIPE_PENDING_MAX || this.#limiter.over(source, now)) {
      conn.attach(IGNORE_STREAM);
      conn.abort();
      return;
    }
    const pipe = new PipeConn(conn, runtime.clock);
    const machine = this.#machine(pipe, (error) => {
      this.#pending.delete(pipe);
      if (this.#active?.pipe === pipe) return this.#failed(error, pipe);
      pipe.drop();
      // A connection that opens and closes (a port scan, a health check) isn't a guess.
      const guess = error.code === "credential_refused" || error.code === "cipher_failed";
      const limited = guess && this.#limiter.failed(source, runtime.clock.nowMs());
      this.#options.refused?.(conn.remote, error, limited);
    }, () => {
      if (this.#active !== undefined || this.#settled) return false;
      this.#pending.delete(pipe);
      this.#active = { pipe, machine };
      this.#options.accepted?.(conn.remote);
      return true;
    });
    this.#pending.add(pipe);
    pipe.bind(machine);
  }

  #machine(
    pipe: PipeConn,
    failed: (error: SallyportError) => void,
    admit: () => boolean = () => false,
  ): PipeReceiver {
    return new PipeReceiver(this.#options, {
      write: (bytes) => pipe.write(bytes),
      admit,
      announced: (total) => {
        this.#total = total;
        this.#options.progress?.(0, total);
      },
      data: (body) => this.#sink.write(body),
      ended: (certain) => void this.#complete(certain),
      failed,
    }, this.#options.runtime.clock.nowMs());
  }

  #stored(bytes: number): void {
    const active = this.#active;
    if (active === undefined || active.machine.over) return;
    active.machine.stored(bytes);
    this.#options.progress?.(active.machine.storedBytes, this.#total);
  }

  async #complete(certain: boolean): Promise<void> {
    const { pipe, machine } = this.#active as Active;
    try {
      await this.#sink.finish();
    } catch (error) {
      return this.#stop(asError(error));
    }
    if (this.#settled) return;
    machine.finished();
    this.#settled = true;
    await pipe.end();
    this.#settle.resolve({ bytes: machine.receivedBytes, certain });
  }

  /** Ends the transfer from this side; a Sallyport client is told why. */
  #stop(error: SallyportError): void {
    if (this.#active === undefined || this.#active.machine.over) this.#failed(error, this.#active?.pipe);
    else this.#active.machine.giveUp(error);
  }

  #failed(error: SallyportError, pipe: PipeConn | undefined): void {
    if (this.#settled) return;
    this.#settled = true;
    const told = pipe === undefined
      ? Promise.resolve()
      : error.side === "local" || error.side === "config"
      ? pipe.end()
      : Promise.resolve(pipe.drop());
    void Promise.allSettled([told, this.#sink.discard()]).then(() => this.#settle.reject(error));
  }
}

function asError(error: unknown): SallyportError {
  return error instanceof SallyportError
    ? error
    : new SallyportError("aborted", errorMessage(error), { side: "local", cause: error });
}
