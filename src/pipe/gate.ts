/**
 * Receives transfers of version 1 at the sealed transport's listener, which speaks version 2 of the same protocol
 * (docs/protocols/pipe.md, At the edge). Each transfer gets its own sink.
 *
 * @module
 */
import type { Bytes } from "../bytes/bytes.ts";
import { SEAL_BYTES } from "../crypto/sodium.ts";
import { errorMessage, SallyportError } from "../errors.ts";
import type { Address, Clock, Conn } from "../runtime/port.ts";
import type { FallbackProtocol } from "../transport/sealed/accept.ts";
import { CLIENT_AUTH_BYTES } from "../wire/sodium/sodium_pdu.ts";
import { FailureLimiter } from "../wire/ip/failure_limiter.ts";
import { PipeConn } from "./pipe_conn.ts";
import type { ReceiveResult } from "./receive.ts";
import { PipeReceiver, type PipeReceiverOptions } from "./receiver.ts";
import type { PipeSink, SinkHost } from "./sink.ts";

/**
 * Failed authentications per minute from one address (an IPv6 /64 counts as one) before its connections are dropped
 * unread.
 */
export const PIPE_FAILURES_PER_MINUTE_MAX = 20;

/** Concurrent transfers received by an edge: each may hold a window of 8 MiB. */
export const PIPE_TRANSFERS_MAX = 16;

/** Options of {@link PipeGate}. */
export interface PipeGateOptions extends PipeReceiverOptions {
  readonly clock: Clock;
  /** Creates the sink of a transfer whose client has authenticated. */
  sink(host: SinkHost): Promise<PipeSink>;
  /** A transfer is complete and in its final place. */
  received?(from: Address, name: string, result: ReceiveResult): void;
  /** A transfer in progress failed. */
  failed?(from: Address, error: SallyportError): void;
  /** A client that knows the key was closed without an answer. */
  refused?(from: Address, error: SallyportError): void;
}

/** Handles version 1 connections from a listener for version 2. */
export class PipeGate implements FallbackProtocol {
  readonly firstBytes: number = CLIENT_AUTH_BYTES + SEAL_BYTES;
  readonly #options: PipeGateOptions;
  readonly #limiter = new FailureLimiter(PIPE_FAILURES_PER_MINUTE_MAX);
  readonly #transfers = new Set<Transfer>();
  #closing: SallyportError | undefined;
  #emptied = (): void => {};

  /** Throws `config_invalid` for a login or passphrase that can't be one. */
  constructor(options: PipeGateOptions) {
    this.#options = options;
    new PipeReceiver(options, IDLE_HOST, 0);
  }

  /** Number of transfers in progress. */
  get transfers(): number {
    return this.#transfers.size;
  }

  take(conn: Conn, first: Bytes, remote: Address): boolean {
    const { sodium, keys, clock } = this.#options;
    if (this.#closing !== undefined || this.#limiter.over(remote.host, clock.nowMs())) return false;
    const plain = sodium.openBox(first.subarray(0, this.firstBytes), keys);
    if (plain === undefined) return false;
    plain.fill(0);
    const transfer: Transfer = new Transfer(this.#options, conn, remote, {
      // Includes this transfer: it is already in the set.
      room: () => this.#transfers.size <= PIPE_TRANSFERS_MAX,
      guessed: () => this.#limiter.failed(remote.host, clock.nowMs()),
      over: () => {
        this.#transfers.delete(transfer);
        if (this.#transfers.size === 0) this.#emptied();
      },
    });
    this.#transfers.add(transfer);
    transfer.start(first);
    return true;
  }

  async close(graceMs: number): Promise<void> {
    const over = new SallyportError("shutdown", "The receiver is shutting down", { side: "local" });
    this.#closing ??= over;
    if (this.#transfers.size === 0) return;
    const emptied = new Promise<void>((resolve) => this.#emptied = resolve);
    const timer = this.#options.clock.after(graceMs, () => {
      for (const transfer of this.#transfers) transfer.giveUp(over);
    });
    await emptied;
    timer.cancel();
  }
}

const IDLE_HOST = { write() {}, failed() {}, admit: () => false, announced() {}, data() {}, ended() {} };

interface TransferHost {
  /** Whether another transfer may start. */
  room(): boolean;
  /** The client's credentials were wrong. */
  guessed(): void;
  over(): void;
}

/** One connection's transfer. */
class Transfer {
  readonly #options: PipeGateOptions;
  readonly #remote: Address;
  readonly #host: TransferHost;
  readonly #pipe: PipeConn;
  readonly #machine: PipeReceiver;
  #admitted = false;
  #sink: PipeSink | undefined;
  /** Bytes received before the sink was ready; bounded by the window. */
  #waiting: Bytes[] = [];
  #ended: boolean | undefined;
  #spoken = false;
  /** Why there is no sink. */
  #unusable: SallyportError | undefined;

  constructor(options: PipeGateOptions, conn: Conn, remote: Address, host: TransferHost) {
    this.#options = options;
    this.#remote = remote;
    this.#host = host;
    this.#pipe = new PipeConn(conn, options.clock);
    this.#machine = new PipeReceiver(options, {
      write: (bytes) => this.#pipe.write(bytes),
      admit: () => this.#admit(),
      announced: () => this.#speak(),
      data: (body) => {
        this.#speak();
        if (this.#sink === undefined) this.#waiting.push(body.slice());
        else this.#sink.write(body);
      },
      ended: (certain) => {
        this.#ended = certain;
        this.#speak();
        if (this.#sink !== undefined) void this.#complete(this.#sink, certain);
      },
      failed: (error) => void this.#fail(error),
    }, options.clock.nowMs());
  }

  start(received: Bytes): void {
    this.#pipe.bind(this.#machine);
    this.#machine.receive(received, this.#options.clock.nowMs());
  }

  giveUp(error: SallyportError): void {
    this.#machine.giveUp(error);
  }

  #admit(): boolean {
    if (!this.#host.room()) return false;
    this.#admitted = true;
    const opened = this.#options.sink({
      stored: (bytes) => {
        if (!this.#machine.over) this.#machine.stored(bytes);
      },
      failed: (error) => this.#machine.giveUp(error),
    });
    opened.then((sink) => this.#begin(sink), (error) => this.#noSink(asError(error)));
    return true;
  }

  /** A Sallyport client is told why once it has changed keys, which it does at once. */
  #noSink(error: SallyportError): void {
    this.#unusable = error;
    if (this.#spoken) this.#machine.giveUp(error);
  }

  /** The client has started: with a key change, bytes, or its end. */
  #speak(): void {
    this.#spoken = true;
    if (this.#unusable !== undefined) this.#machine.giveUp(this.#unusable);
  }

  #begin(sink: PipeSink): void {
    if (this.#machine.over) return void discard(sink);
    this.#sink = sink;
    for (const body of this.#waiting.splice(0)) sink.write(body);
    if (this.#ended !== undefined) void this.#complete(sink, this.#ended);
  }

  async #complete(sink: PipeSink, certain: boolean): Promise<void> {
    try {
      await sink.finish();
    } catch (error) {
      return this.#machine.giveUp(asError(error));
    }
    if (this.#machine.over) return;
    this.#machine.finished();
    this.#options.received?.(this.#remote, sink.name, { bytes: this.#machine.receivedBytes, certain });
    await this.#pipe.end();
    this.#host.over();
  }

  async #fail(error: SallyportError): Promise<void> {
    if (!this.#admitted) {
      this.#pipe.drop();
      if (error.code === "credential_refused") this.#host.guessed();
      this.#options.refused?.(this.#remote, error);
      return this.#host.over();
    }
    this.#options.failed?.(this.#remote, error);
    // A reason that was sent must arrive; otherwise there is nothing to wait for.
    if (error.side === "local" || error.side === "config") await this.#pipe.end();
    else this.#pipe.drop();
    if (this.#sink !== undefined) await discard(this.#sink);
    this.#host.over();
  }
}

/** Failure to remove a file must neither keep the transfer's slot nor end the edge. */
function discard(sink: PipeSink): Promise<void> {
  return sink.discard().catch(() => {});
}

function asError(error: unknown): SallyportError {
  return error instanceof SallyportError
    ? error
    : new SallyportError("io_failed", errorMessage(error), { side: "local", cause: error });
}
