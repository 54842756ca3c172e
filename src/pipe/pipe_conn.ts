/**
 * Drives a pipe's state machine on a real connection: bytes, deadlines and closing.
 *
 * @module
 */
import type { Bytes } from "../bytes/bytes.ts";
import { errorMessage, SallyportError } from "../errors.ts";
import type { Clock, Conn, Timer } from "../runtime/port.ts";
import type { PipeEndpoint } from "./endpoint.ts";

/** How long the sender may take to read the receiver's last message before the connection is closed. */
export const PIPE_FAREWELL_MS = 2_000;

/** Drives one {@link PipeEndpoint} over one connection. */
export class PipeConn {
  readonly #conn: Conn;
  readonly #clock: Clock;
  #machine: PipeEndpoint | undefined;
  #writable = (): void => {};
  #timer: Timer | undefined;
  #farewell: Timer | undefined;
  #blocked = false;
  #closed = false;
  #onClosed: (() => void)[] = [];

  constructor(conn: Conn, clock: Clock) {
    this.#conn = conn;
    this.#clock = clock;
  }

  /** Starts passing bytes to `machine`; `writable` is called when {@link blocked} clears. */
  bind(machine: PipeEndpoint, writable: () => void = () => {}): void {
    this.#machine = machine;
    this.#writable = writable;
    this.#conn.attach({
      data: (chunk) => machine.receive(chunk, this.#clock.nowMs()),
      end: () => machine.peerEnded(this.#clock.nowMs()),
      drain: () => {
        this.#blocked = false;
        this.#writable();
      },
      close: (error) => this.#close(error),
    });
    this.#arm();
  }

  /** Whether the connection accepts no more bytes for now. */
  get blocked(): boolean {
    return this.#blocked;
  }

  /** The machine's `write`. */
  write(bytes: Bytes): void {
    if (!this.#conn.write(bytes)) this.#blocked = true;
  }

  /** Closes cleanly: written bytes arrive, unless the peer doesn't read them in time. Resolves when it is over. */
  end(): Promise<void> {
    this.#timer?.cancel();
    if (this.#closed) return Promise.resolve();
    this.#conn.closeWrite();
    this.#farewell ??= this.#clock.after(PIPE_FAREWELL_MS, () => this.#conn.abort());
    return new Promise((resolve) => this.#onClosed.push(resolve));
  }

  /** Drops the connection. */
  drop(): void {
    this.#timer?.cancel();
    if (!this.#closed) this.#conn.abort();
  }

  #arm(): void {
    this.#timer = undefined;
    const machine = this.#machine as PipeEndpoint;
    if (machine.deadlineMs === Infinity || this.#closed) return;
    const delayMs = Math.max(1, machine.deadlineMs - this.#clock.nowMs());
    // A deadline only ever moves later: a timer that fires early checks again.
    this.#timer = this.#clock.after(delayMs, () => {
      machine.tick(this.#clock.nowMs());
      this.#arm();
    });
  }

  #close(error?: Error): void {
    this.#closed = true;
    this.#timer?.cancel();
    this.#farewell?.cancel();
    const machine = this.#machine as PipeEndpoint;
    if (error === undefined) machine.peerEnded(this.#clock.nowMs());
    // An unnoticed end is a loss too: either `over` is set by now, or the transfer can't finish.
    machine.lost(
      error instanceof SallyportError ? error : new SallyportError(
        "connection_lost",
        `The connection was lost${error === undefined ? "" : `: ${errorMessage(error)}`}`,
        { side: "network", retryable: true, cause: error },
      ),
    );
    for (const resolve of this.#onClosed.splice(0)) resolve();
  }
}
