/**
 * A listening TCP socket on Deno, on a TCP handle.
 *
 * @module
 */

import { clearInterval, setImmediate, setInterval, setTimeout } from "node:timers";
import type { Address, Listener, ListenOptions } from "../port.ts";
import { AcceptPace } from "./accept_pace.ts";
import { HandleConn, type HandleShared } from "./handle_conn.ts";
import { addressOf, systemError, type TcpHandle } from "./tcp_handles.ts";

/** Most connections that wait in the system, as Deno has it. A handle takes all of them at once. */
const BACKLOG_MAX = 511;
/**
 * Where fewer may wait, a handle is no good: it takes connections before there is a descriptor to spare for them, and
 * doesn't say when the system has none left.
 */
export const BACKLOG_MIN = 128;
/** How long accepting pauses when the process is out of file descriptors. */
const RETRY_MS = 100;
/** A handle to which the system has refused a connection doesn't look for others by itself; it is told to so often. */
export const LOOK_MS = 1_000;

/** Listens; throws the system's error. At most `aheadMax` connections are taken from the system before they fit. */
export function listenOnHandle(options: ListenOptions, shared: HandleShared, aheadMax: number): Listener {
  const backlog = Math.min(BACKLOG_MAX, aheadMax);
  const { handles } = shared;
  const handle = options.descriptor === undefined
    ? handles.bound(options, options.reusePort ?? false)
    : handles.opened(options.descriptor);
  const acceptor = new Acceptor(handle, options, shared, backlog);
  handle.onconnection = acceptor.accept;
  const status = handle.listen(backlog);
  if (status !== 0) {
    handle.close();
    throw systemError(status);
  }
  return acceptor.start();
}

class Acceptor implements Listener {
  address!: Address;
  readonly #handle: TcpHandle;
  readonly #options: ListenOptions;
  readonly #shared: HandleShared;
  readonly #backlog: number;
  readonly #pace = new AcceptPace();
  #looks: ReturnType<typeof setInterval> | undefined;
  #paused = false;
  #closed = false;

  constructor(handle: TcpHandle, options: ListenOptions, shared: HandleShared, backlog: number) {
    this.#handle = handle;
    this.#options = options;
    this.#shared = shared;
    this.#backlog = backlog;
  }

  start(): Listener {
    this.address = addressOf(this.#handle, "getsockname")!;
    this.#looks = setInterval(this.#look, LOOK_MS);
    this.#looks.unref();
    return this;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    clearInterval(this.#looks);
    this.#handle.close();
  }

  /** A connection waits. It goes on waiting in the handle if it isn't accepted, until the handle looks again. */
  readonly accept = (): void => {
    if (this.#closed || this.#paused) return;
    const { accept } = this.#options;
    const { handles, descriptors, clock, faults } = this.#shared;
    const handle = handles.socket();
    if (this.#handle.accept(handle) !== 0) return;
    const remote = addressOf(handle, "getpeername");
    // The peer has reset it meanwhile.
    if (remote === undefined) return handle.close();
    const conn = new HandleConn(handle, remote, this.#shared);
    try {
      accept(conn);
    } catch (thrown) {
      conn.abort(faults.report("accept", thrown));
    }
    if (!descriptors.accepted()) return this.#pause(RETRY_MS);
    const pauseMs = this.#pace.accepted(clock.nowMs);
    if (pauseMs > 0) this.#pause(pauseMs);
  };

  #pause(ms: number): void {
    this.#paused = true;
    setTimeout(() => {
      if (ms === RETRY_MS && !this.#shared.descriptors.accepted()) return this.#pause(RETRY_MS);
      this.#paused = false;
      // First at those it has, and once it has none, at the system's.
      this.#look();
      setImmediate(this.#look);
    }, ms);
  }

  readonly #look = (): void => {
    if (!this.#closed && !this.#paused) this.#handle.listen(this.#backlog);
  };
}
