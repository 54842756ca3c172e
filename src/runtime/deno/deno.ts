/**
 * The runtime port on Deno's native sockets. `reusePort` and datagrams need `"unstable": ["net"]`.
 *
 * @module
 */

import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { setImmediate } from "node:timers";
import type { SallyportError } from "../../errors.ts";
import type { SystemCiphers } from "../../crypto/system_ciphers.ts";
import { AcceptPace } from "./accept_pace.ts";
import { DenoConn, type DenoShared } from "./deno_conn.ts";
import { HandleConn, type HandleShared } from "./handle_conn.ts";
import { BACKLOG_MIN, listenOnHandle } from "./handle_listener.ts";
import { openSystemSockets, type SystemSockets } from "./system_sockets.ts";
import { openTcpHandles, systemError, type TcpHandle, type TcpHandles } from "./tcp_handles.ts";
import { denoQuic } from "./deno_quic.ts";
import { openOpenssl } from "./deno_openssl.ts";
import { MemoryBudget } from "../../bytes/memory_budget.ts";
import { DescriptorGuard, procSystem } from "../descriptors.ts";
import { openSystemDescriptors } from "./system_descriptors.ts";
import { ConnectAttempt, dialsOver } from "../connect.ts";
import { resolveHost } from "../dial_by_name.ts";
import { listenHttp } from "../http_server.ts";
import { BufferPool } from "../out_queue.ts";
import { BulkPace } from "../bulk_pace.ts";
import { ClosePace } from "../close_pace.ts";
import type {
  Address,
  Bytes,
  ConnectHandler,
  Connecting,
  ConnectOptions,
  DatagramOptions,
  DatagramSocket,
  Listener,
  ListenOptions,
  ListenUnixOptions,
  Runtime,
} from "../port.ts";
import {
  createSystemClock,
  dialError,
  Faults,
  isExhausted,
  listenError,
  lostError,
  noPassedSockets,
  notListening,
  plainHost,
  removeStaleSocket,
  type Shared,
} from "../shared.ts";

/** How long accepting pauses when out of file descriptors or memory. */
const ACCEPT_RETRY_MS = 100;
/** UDP payloads are at most 65,507 bytes over IPv4 (RFC 768). */
const DATAGRAM_MAX_BYTES = 65_535;
/** Datagram sends that may be in progress at once; more are dropped. */
const DATAGRAMS_IN_FLIGHT_MAX = 256;

/** What a Deno runtime uses if it is there; null does without. */
interface DenoParts {
  readonly handles?: TcpHandles | null;
  readonly sockets?: SystemSockets | null;
}

/** Opens the port on this process's sockets; each call has its own buffers. */
export function createDenoRuntime(
  { handles = openTcpHandles(), sockets = openSystemSockets() }: DenoParts = {},
): Runtime {
  let ciphers: SystemCiphers | undefined;
  const turn = new Turn();
  const memory = new MemoryBudget(turn.soon);
  const clock = createSystemClock(turn.soon);
  const shared: DenoShared = {
    handles: handles ?? undefined,
    pool: new BufferPool(memory),
    pace: new BulkPace(lookForEvents),
    // Not the next turn, since turns in a row keep Deno from looking for events.
    closing: new ClosePace(clock.nowMs, (run) => void setTimeout(run, 1)),
    memory,
    clock,
    descriptors: new DescriptorGuard(procSystem.limit() === undefined ? openSystemDescriptors() : procSystem),
    faults: new Faults(),
  };
  const onHandles = handles ? { ...shared, handles, sockets: sockets ?? undefined } : undefined;
  return {
    name: "deno",
    version: Deno.version.deno,
    // Deno.Conn has neither SO_LINGER nor a reset. Datagram sockets have SO_REUSEADDR, not SO_REUSEPORT.
    capabilities: {
      reusePort: true,
      sharedDatagrams: "last",
      hardClose: false,
      passedSockets: onHandles !== undefined,
    },
    clock: shared.clock,
    descriptors: shared.descriptors,
    memory,
    faults: shared.faults,
    listen: (options) => listen(options, shared, onHandles),
    resolve: resolveHost,
    ...dialsOver({
      clock,
      resolve: resolveHost,
      faults: shared.faults,
      connect: (options, handler) =>
        onHandles !== undefined && !("path" in options) && options.peerSpeaks
          ? new HandleAttempt(options, handler, onHandles).start()
          : new DenoAttempt(options, handler, shared).start(),
    }),
    listenUnix: (options) => listenUnix(options, shared),
    bindDatagram: (options) => bindDatagram(options, turn, shared),
    serveHttp: (options) =>
      listenHttp(options, (at) => listen({ ...at, peerSpeaks: true }, shared, onHandles), shared),
    // deno-lint-ignore require-await -- exceptions must become rejections
    quic: async () => denoQuic(shared),
    systemCiphers: () => ciphers ??= openOpenssl(),
    releaseMemory,
  };
}

/**
 * Loading a program makes V8's young generation grow to 16 MB, which it keeps. Only a collection "of last resort" shrinks
 * it, and V8 offers that one only as a function of a context that is made after its flag is set.
 */
function releaseMemory(): void {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("globalThis.gc") as
    | ((options: Readonly<Record<string, string>>) => void)
    | undefined;
  setFlagsFromString("--no-expose-gc");
  collect?.({ type: "major", execution: "sync", flavor: "last-resort" });
}

const NOTHING = new Uint8Array(0);

/**
 * Deno looks for events of the network only when nothing is ready to run, or once in 61 turns. So this waits for another
 * thread's answer, which takes microseconds, or for a timer, which takes a millisecond or two.
 */
function lookForEvents(done: () => void, long: boolean): void {
  if (long) setTimeout(done, 1);
  else void crypto.subtle.digest("SHA-1", NOTHING).then(done);
}

/**
 * Deno settles all events of a turn before the first microtask runs, so a microtask queued by one of those runs after
 * them all, without the extra turn that `setImmediate` costs (a fifth of a new visitor's CPU time). A callback that
 * asks again runs in the next turn, so that none can starve I/O.
 */
class Turn {
  /** Whether callbacks from `soon` or `within` are running. */
  #calling = false;

  readonly soon = (run: () => void): void => {
    if (this.#calling) setImmediate(run);
    else queueMicrotask(() => this.within(run));
  };

  /** Calls `run`; callbacks it passes to `soon` run in the next turn. */
  within(run: () => void): void {
    this.#calling = true;
    try {
      run();
    } finally {
      this.#calling = false;
    }
  }
}

// deno-lint-ignore require-await -- exceptions must become rejections
async function listen(
  options: ListenOptions,
  shared: DenoShared,
  onHandles: HandleShared | undefined,
): Promise<Listener> {
  const aheadMax = shared.descriptors.takenAheadMax;
  if (options.descriptor !== undefined) {
    if (onHandles === undefined) throw noPassedSockets("this Deno has no TCP handles");
    try {
      // Deno itself accepts only on sockets that it has opened.
      return listenOnHandle(options, onHandles, Math.max(aheadMax, BACKLOG_MIN));
    } catch (cause) {
      throw notListening(options.descriptor, cause);
    }
  }
  if (onHandles !== undefined && options.peerSpeaks && aheadMax >= BACKLOG_MIN) {
    try {
      return listenOnHandle(options, onHandles, aheadMax);
    } catch (error) {
      throw listenError(options, error);
    }
  }
  let listener: Deno.TcpListener;
  try {
    listener = Deno.listen({
      hostname: options.host,
      port: options.port,
      reusePort: options.reusePort ?? false,
    });
  } catch (error) {
    throw listenError(options, error);
  }
  return accepting(listener, { host: listener.addr.hostname, port: listener.addr.port }, options, shared);
}

async function listenUnix(options: ListenUnixOptions, shared: DenoShared): Promise<Listener> {
  try {
    await removeStaleSocket(options.path);
    const listener = Deno.listen({ transport: "unix", path: options.path });
    return accepting(listener, { host: options.path, port: 0 }, options, shared);
  } catch (error) {
    throw listenError(options, error);
  }
}

function accepting(
  listener: Deno.TcpListener | Deno.UnixListener,
  address: Address,
  options: Pick<ListenOptions, "accept">,
  shared: DenoShared,
): Listener {
  const state = { closed: false };
  acceptLoop(listener, state, options, shared);
  return {
    address,
    close() {
      if (state.closed) return;
      state.closed = true;
      listener.close();
    },
  };
}

async function acceptLoop(
  listener: Deno.TcpListener | Deno.UnixListener,
  state: { closed: boolean },
  options: Pick<ListenOptions, "accept">,
  shared: DenoShared,
): Promise<void> {
  const pace = new AcceptPace();
  while (!state.closed) {
    let native: Deno.TcpConn | Deno.UnixConn;
    try {
      native = await listener.accept();
    } catch (error) {
      if (error instanceof Deno.errors.BadResource) return;
      // A connection reset by its peer while in the backlog fails with ENOTCONN: no reason to delay others.
      if (isExhausted(error)) {
        shared.descriptors.exhausted();
        await pause(ACCEPT_RETRY_MS);
      }
      continue;
    }
    const conn = newConn(native, shared);
    if (conn === null) continue;
    if (state.closed) {
      conn.abort();
      continue;
    }
    try {
      options.accept(conn);
    } catch (thrown) {
      conn.abort(shared.faults.report("accept", thrown));
    }
    // Later connections wait in the system's backlog.
    while (!state.closed && !shared.descriptors.accepted()) await pause(ACCEPT_RETRY_MS);
    const pauseMs = pace.accepted(shared.clock.nowMs);
    if (pauseMs > 0) await pause(pauseMs);
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Null if the peer has reset the connection meanwhile, which makes setting its options fail. */
function newConn(native: Deno.TcpConn | Deno.UnixConn, shared: DenoShared): DenoConn | null {
  try {
    return new DenoConn(native, shared);
  } catch {
    native.close();
    return null;
  }
}

/** An attempt on a handle, and its request. */
class HandleAttempt extends ConnectAttempt {
  readonly #options: Address;
  readonly #shared: HandleShared;
  #handle: TcpHandle | undefined;

  constructor(options: Address, handler: ConnectHandler, shared: HandleShared) {
    super(handler, shared.faults);
    this.#options = options;
    this.#shared = shared;
  }

  start(): Connecting {
    const { host, port } = this.#options;
    try {
      this.#shared.descriptors.assertDialable(this.#options);
      this.#handle = this.#shared.handles.socket();
      const status = this.#handle.connect(this, host, port);
      if (status === 0) return this;
      this.#close();
      throw systemError(status);
    } catch (error) {
      this.failSoon(dialFault(this.#options, error, this.#shared));
    }
    return this;
  }

  /** Called by the handle, once; closing it completes the request as well. */
  oncomplete(status: number): void {
    if (this.isOver) return;
    if (status === 0) {
      const remote = { host: plainHost(this.#options.host), port: this.#options.port };
      return this.connected(new HandleConn(this.#handle!, remote, this.#shared));
    }
    this.#close();
    this.failed(dialFault(this.#options, systemError(status), this.#shared));
  }

  override giveUp(): void {
    if (this.isOver) return;
    super.giveUp();
    this.#close();
  }

  #close(): void {
    this.#handle?.close();
    this.#handle = undefined;
  }
}

/** An attempt by `Deno.connect`. */
class DenoAttempt extends ConnectAttempt {
  readonly #options: ConnectOptions;
  readonly #shared: DenoShared;
  readonly #abort = new AbortController();

  constructor(options: ConnectOptions, handler: ConnectHandler, shared: DenoShared) {
    super(handler, shared.faults);
    this.#options = options;
    this.#shared = shared;
  }

  start(): Connecting {
    const options = this.#options;
    this.#connect().then((native) => {
      if (this.isOver) return native.close();
      const conn = newConn(native, this.#shared);
      if (conn === null) this.failed(lostError({ code: "ECONNRESET" }));
      else this.connected(conn);
    }, (error) => this.failed(dialFault(options, error, this.#shared)));
    return this;
  }

  override giveUp(): void {
    super.giveUp();
    this.#abort.abort();
  }

  // deno-lint-ignore require-await -- exceptions must become rejections
  async #connect(): Promise<Deno.TcpConn | Deno.UnixConn> {
    const options = this.#options;
    this.#shared.descriptors.assertDialable(options);
    return "path" in options
      ? Deno.connect({ transport: "unix", path: options.path })
      : Deno.connect({ hostname: options.host, port: options.port, signal: this.#abort.signal });
  }
}

function dialFault(options: ConnectOptions, error: unknown, { descriptors }: Shared): SallyportError {
  return isExhausted(error) ? descriptors.dialError(options, error) : dialError(options, error);
}

// deno-lint-ignore require-await -- exceptions must become rejections
async function bindDatagram(options: DatagramOptions, turn: Turn, shared: Shared): Promise<DatagramSocket> {
  let socket: Deno.DatagramConn;
  try {
    socket = Deno.listenDatagram({
      transport: "udp",
      hostname: options.host,
      port: options.port,
      reuseAddress: options.shared ?? false,
    });
  } catch (error) {
    throw listenError(options, error);
  }
  const state = { closed: false };
  receiveLoop(socket, state, options, turn, shared);
  const addr = socket.addr as Deno.NetAddr;
  let inFlight = 0;
  const done = () => void inFlight--;
  const send = (data: Bytes, to: Address): boolean => {
    if (state.closed || inFlight >= DATAGRAMS_IN_FLIGHT_MAX) return false;
    inFlight++;
    // Copied: when the socket is full the runtime reads the bytes after this call has returned.
    socket.send(data.slice(), { transport: "udp", hostname: to.host, port: to.port }).then(done, done);
    return true;
  };
  return {
    address: { host: plainHost(addr.hostname), port: addr.port },
    send,
    get waiting() {
      return inFlight;
    },
    sendMany(data, to, count) {
      let taken = 0;
      for (let i = 0; i < count; i++) if (send(data[i]!, to[i]!)) taken++;
      return taken;
    },
    close() {
      if (state.closed) return;
      state.closed = true;
      socket.close();
    },
  };
}

async function receiveLoop(
  socket: Deno.DatagramConn,
  state: { closed: boolean },
  options: DatagramOptions,
  turn: Turn,
  shared: Shared,
): Promise<void> {
  const buffer = new Uint8Array(DATAGRAM_MAX_BYTES);
  while (!state.closed) {
    let received: [Uint8Array<ArrayBuffer>, Deno.Addr];
    try {
      received = await socket.receive(buffer);
    } catch {
      // An ICMP error for an earlier datagram; the delay keeps repeated errors from monopolizing the thread.
      if (!state.closed) await new Promise((resolve) => setTimeout(resolve, 1));
      continue;
    }
    if (state.closed) return;
    const from = received[1] as Deno.NetAddr;
    try {
      // Datagrams queued in the socket still arrive in this turn, each in its own microtask.
      turn.within(() => options.receive(received[0], { host: plainHost(from.hostname), port: from.port }));
    } catch (thrown) {
      shared.faults.report("datagram", thrown);
    }
  }
}
