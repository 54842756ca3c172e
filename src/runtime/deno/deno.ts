/**
 * The runtime port on Deno's native sockets. `reusePort` and datagrams need `"unstable": ["net"]`.
 *
 * @module
 */

import { setImmediate } from "node:timers";
import type { Aead } from "../../crypto/aead.ts";
import { DenoConn } from "./deno_conn.ts";
import { denoQuic } from "./deno_quic.ts";
import { openOpensslAeads } from "./deno_openssl.ts";
import { MemoryBudget } from "../../bytes/memory_budget.ts";
import { DescriptorGuard } from "../descriptors.ts";
import { dialByName, resolveHost } from "../dial_by_name.ts";
import { listenHttp } from "../http_server.ts";
import { BufferPool } from "../out_queue.ts";
import type {
  Address,
  Bytes,
  Conn,
  DatagramOptions,
  DatagramSocket,
  DialOptions,
  DialUnixOptions,
  Listener,
  ListenOptions,
  ListenUnixOptions,
  Runtime,
  Timer,
} from "../port.ts";
import {
  createSystemClock,
  dialError,
  dialTimeoutError,
  Faults,
  isExhausted,
  listenError,
  plainHost,
  removeStaleSocket,
  type Shared,
} from "../shared.ts";

/** Out of file descriptors or memory, accepting pauses for this long. */
const ACCEPT_RETRY_MS = 100;
/** UDP payloads are at most 65,507 bytes over IPv4 (RFC 768). */
const DATAGRAM_MAX_BYTES = 65_535;
/** Datagrams that may be on their way into the socket at once; more are dropped. */
const DATAGRAMS_IN_FLIGHT_MAX = 256;

/** Opens the port on this process's sockets; each call has buffers of its own. */
export function createDenoRuntime(): Runtime {
  let aeads: readonly Aead[] | undefined;
  const turn = new Turn();
  const memory = new MemoryBudget(turn.soon);
  const shared: Shared = {
    pool: new BufferPool(memory),
    memory,
    clock: createSystemClock(turn.soon),
    descriptors: new DescriptorGuard(),
    faults: new Faults(),
  };
  return {
    name: "deno",
    version: Deno.version.deno,
    // Deno.Conn has neither SO_LINGER nor a reset.
    capabilities: { reusePort: true, hardClose: false },
    clock: shared.clock,
    descriptors: shared.descriptors,
    memory,
    faults: shared.faults,
    listen: (options) => listen(options, shared),
    resolve: resolveHost,
    dial: (options) =>
      dialByName(options, {
        clock: shared.clock,
        resolve: resolveHost,
        connect: (to) =>
          dial(to, shared, (signal) => Deno.connect({ hostname: to.host, port: to.port, signal })),
      }),
    dialUnix: (options) =>
      dial(options, shared, () => Deno.connect({ transport: "unix", path: options.path })),
    listenUnix: (options) => listenUnix(options, shared),
    bindDatagram: (options) => bindDatagram(options, turn, shared),
    serveHttp: (options) => listenHttp(options, (at) => listen(at, shared), shared),
    // deno-lint-ignore require-await -- what it throws must become a rejection
    quic: async () => denoQuic(shared),
    systemAeads: () => aeads ??= openOpensslAeads(),
  };
}

/**
 * Deno settles all that has come about in a turn before the first microtask runs, so one that such a microtask asks for
 * runs behind them all, without the further turn that `setImmediate` costs (a fifth of a new visitor's processor time).
 * Who asks again when called comes in the next turn, so that nobody keeps the IO out.
 */
class Turn {
  /** What is called now comes from `soon`, or has more of its kind behind it. */
  #calling = false;

  readonly soon = (run: () => void): void => {
    if (this.#calling) setImmediate(run);
    else queueMicrotask(() => this.within(run));
  };

  /** Calls `run`; what it wants to have called soon is called in the next turn. */
  within(run: () => void): void {
    this.#calling = true;
    try {
      run();
    } finally {
      this.#calling = false;
    }
  }
}

// deno-lint-ignore require-await -- what it throws must become a rejection
async function listen(options: ListenOptions, shared: Shared): Promise<Listener> {
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

async function listenUnix(options: ListenUnixOptions, shared: Shared): Promise<Listener> {
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
  shared: Shared,
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
  shared: Shared,
): Promise<void> {
  while (!state.closed) {
    let native: Deno.TcpConn | Deno.UnixConn;
    try {
      native = await listener.accept();
    } catch (error) {
      if (error instanceof Deno.errors.BadResource) return;
      // A connection that its peer has reset while it waited fails with ENOTCONN: that is no reason to let others wait.
      if (isExhausted(error)) {
        shared.descriptors.exhausted();
        await pause();
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
    // Those behind it wait in the system's queue.
    while (!state.closed && !shared.descriptors.accepted()) await pause();
  }
}

function pause(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ACCEPT_RETRY_MS));
}

/** Null if the peer has reset the connection meanwhile, which makes its options fail. */
function newConn(native: Deno.TcpConn | Deno.UnixConn, shared: Shared): DenoConn | null {
  try {
    return new DenoConn(native, shared);
  } catch {
    native.close();
    return null;
  }
}

/** Deno tries all addresses of a name by itself (RFC 8305). */
async function dial(
  options: DialOptions | DialUnixOptions,
  shared: Shared,
  connect: (signal: AbortSignal) => Promise<Deno.TcpConn | Deno.UnixConn>,
): Promise<Conn> {
  shared.descriptors.assertDialable(options);
  const abort = new AbortController();
  let late = false;
  let timer: Timer | undefined;
  const deadline = new Promise<never>((_resolve, reject) => {
    timer = shared.clock.after(options.timeoutMs, () => {
      late = true;
      reject(dialTimeoutError(options));
      abort.abort();
    });
  });
  const attempt = async () => {
    const native = await connect(abort.signal);
    if (late) native.close();
    return native;
  };
  try {
    return new DenoConn(await Promise.race([attempt(), deadline]), shared);
  } catch (error) {
    throw isExhausted(error) ? shared.descriptors.dialError(options, error) : dialError(options, error);
  } finally {
    timer?.cancel();
  }
}

// deno-lint-ignore require-await -- what it throws must become a rejection
async function bindDatagram(options: DatagramOptions, turn: Turn, shared: Shared): Promise<DatagramSocket> {
  let socket: Deno.DatagramConn;
  try {
    socket = Deno.listenDatagram({ transport: "udp", hostname: options.host, port: options.port });
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
      // An ICMP answer to something sent earlier; waiting a turn keeps repeated ones from taking the thread.
      if (!state.closed) await new Promise((resolve) => setTimeout(resolve, 1));
      continue;
    }
    if (state.closed) return;
    const from = received[1] as Deno.NetAddr;
    try {
      // Those that wait in the socket come in this turn still, each in a microtask of its own.
      turn.within(() => options.receive(received[0], { host: plainHost(from.hostname), port: from.port }));
    } catch (thrown) {
      shared.faults.report("datagram", thrown);
    }
  }
}
