/**
 * The runtime port on Bun's native sockets.
 *
 * @module
 */

import {
  type Address,
  type Bytes,
  type ConnectHandler,
  type Connecting,
  type ConnectOptions,
  type DatagramOptions,
  type DatagramSocket,
  IGNORE_STREAM,
  type Listener,
  type ListenOptions,
  type ListenUnixOptions,
  type Runtime,
} from "../port.ts";
import { isIP } from "node:net";
import { setImmediate } from "node:timers";
import { SallyportError } from "../../errors.ts";
import { type BunConn, type NewSocket, socketHandlers, type SocketOwner } from "./bun_conn.ts";
import { bunQuic } from "./bun_quic.ts";
import { MemoryBudget } from "../../bytes/memory_budget.ts";
import { NO_SYSTEM_CIPHERS } from "../../crypto/system_ciphers.ts";
import { DescriptorGuard } from "../descriptors.ts";
import { ConnectAttempt, dialsOver } from "../connect.ts";
import { resolveHost } from "../dial_by_name.ts";
import { listenHttp } from "../http_server.ts";
import { listenOnDescriptor } from "./node_listener.ts";
import { BufferPool } from "../out_queue.ts";
import { BulkPace } from "../bulk_pace.ts";
import { ClosePace } from "../close_pace.ts";
import {
  createSystemClock,
  dialError,
  Faults,
  isExhausted,
  listenError,
  plainHost,
  removeStaleSocket,
  type Shared,
} from "../shared.ts";
import type { BunApi, BunUdpSocket } from "./bun_types.ts";

declare const Bun: BunApi;

/** SO_REUSEPORT as `Bun.udpSocket` takes it from node:dgram; not documented. */
const UDP_REUSE_PORT = 4;

/** Bytes moved in bulk between two rests: a read takes up to 512 KiB, and a short rest costs next to nothing. */
const PACE_BYTES = 1024 * 1024;

/** A long rest also leaves the processor to those who wait for it: the system's part of the visits, and their agents. */
function rest(done: () => void, long: boolean): void {
  if (long) setTimeout(done, 1);
  else setImmediate(done);
}

/** Opens the port on this process's sockets; each call has its own buffers. */
export function createBunRuntime(): Runtime {
  const memory = new MemoryBudget(soon);
  const clock = createSystemClock(soon);
  const shared: Shared = {
    pool: new BufferPool(memory),
    pace: new BulkPace(rest, PACE_BYTES, PACE_BYTES),
    closing: new ClosePace(clock.nowMs, setImmediate),
    memory,
    clock,
    descriptors: new DescriptorGuard(),
    faults: new Faults(),
  };
  return {
    name: "bun",
    version: Bun.version,
    capabilities: { reusePort: true, sharedDatagrams: "spread", hardClose: true, passedSockets: true },
    clock: shared.clock,
    descriptors: shared.descriptors,
    memory,
    faults: shared.faults,
    listen: (options) => listen(options, shared),
    resolve: resolveHost,
    ...dialsOver({
      clock,
      resolve: resolveHost,
      faults: shared.faults,
      connect: (options, handler) => new BunAttempt(options, handler, shared).start(),
    }),
    listenUnix: (options) => listenUnix(options, shared),
    bindDatagram: (options) => bindDatagram(options, shared),
    serveHttp: (options) => listenHttp(options, (at) => listen(at, shared), shared),
    quic: () => bunQuic(shared),
    systemCiphers: () => NO_SYSTEM_CIPHERS,
  };
}

/**
 * Bun drains microtasks after each event, so only `setImmediate` can batch the events of one turn: it runs after them
 * and before the next poll.
 */
function soon(run: () => void): void {
  setImmediate(run);
}

/** Bun reports the name it was given as the listener's address, so a name is resolved first. */
async function hostAddress(host: string): Promise<string> {
  if (isIP(host) !== 0) return host;
  const [found] = await Bun.dns.lookup(host);
  if (found === undefined) {
    throw new SallyportError("host_unknown", `Cannot find ${host}: no address`, { side: "config" });
  }
  return found.address;
}

async function listen(options: ListenOptions, shared: Shared): Promise<Listener> {
  try {
    if (options.descriptor !== undefined) {
      return await listenOnDescriptor(options.descriptor, options, shared);
    }
    const host = await hostAddress(options.host);
    const listener = Bun.listen<SocketOwner>({
      reusePort: options.reusePort ?? false,
      hostname: host,
      port: options.port,
      allowHalfOpen: true,
      data: {
        shared,
        accept(conn) {
          // One that the peer has reset has no address any more, so nobody could count it. And Bun accepts every
          // connection while it listens: excess ones are reset.
          if (conn.remote.host !== "" && shared.descriptors.accepted()) return options.accept(conn);
          conn.attach(IGNORE_STREAM);
          conn.abort();
        },
      },
      socket: socketHandlers,
    });
    return { address: { host, port: listener.port }, close: () => listener.stop(false) };
  } catch (error) {
    throw listenError(options, error);
  }
}

async function listenUnix(options: ListenUnixOptions, shared: Shared): Promise<Listener> {
  try {
    await removeStaleSocket(options.path);
    const listener = Bun.listen<SocketOwner>({
      unix: options.path,
      allowHalfOpen: true,
      data: { shared, accept: (conn) => options.accept(conn), unixPath: options.path },
      socket: socketHandlers,
    });
    return { address: { host: options.path, port: 0 }, close: () => listener.stop(false) };
  } catch (error) {
    throw listenError(options, error);
  }
}

/** What a socket's `data` slot holds until it is connected. Bun can't cancel: a late connection is reset. */
class BunAttempt extends ConnectAttempt implements NewSocket {
  readonly shared: Shared;
  readonly #options: ConnectOptions;
  #started = false;

  constructor(options: ConnectOptions, handler: ConnectHandler, shared: Shared) {
    super(handler, shared.faults);
    this.#options = options;
    this.shared = shared;
  }

  get unixPath(): string | undefined {
    return "path" in this.#options ? this.#options.path : undefined;
  }

  start(): Connecting {
    const options = this.#options;
    try {
      this.shared.descriptors.assertDialable(options);
      const [allowHalfOpen, socket] = [true, socketHandlers] as const;
      // Its promise isn't needed: `open` and `connectError` of the handlers tell the outcome, perhaps at once.
      if ("path" in options) {
        void Bun.connect<SocketOwner>({ unix: options.path, allowHalfOpen, data: this, socket });
      } else {
        const { host, port } = options;
        void Bun.connect<SocketOwner>({ hostname: host, port, allowHalfOpen, data: this, socket });
      }
    } catch (error) {
      this.failSoon(this.#translated(error));
    }
    this.#started = true;
    return this;
  }

  accept(conn: BunConn): void {
    if (this.#started) this.connected(conn);
    else this.#connectedSoon(conn);
  }

  #connectedSoon(conn: BunConn): void {
    queueMicrotask(() => this.connected(conn));
  }

  fail(error: unknown): void {
    if (this.isOver) return;
    if (this.#started) this.failed(this.#translated(error));
    else this.failSoon(this.#translated(error));
  }

  #translated(error: unknown): SallyportError {
    return isExhausted(error)
      ? this.shared.descriptors.dialError(this.#options, error)
      : dialError(this.#options, error);
  }
}

function sendAgain(socket: BunUdpSocket, data: Bytes, to: Address): boolean {
  try {
    return socket.send(data, to.port, to.host);
  } catch {
    return false;
  }
}

async function bindDatagram(options: DatagramOptions, shared: Shared): Promise<DatagramSocket> {
  try {
    const socket = await Bun.udpSocket({
      hostname: options.host,
      port: options.port,
      binaryType: "uint8array",
      ...options.shared === true ? { flags: UDP_REUSE_PORT } : {},
      socket: {
        data(_socket, data, port, address) {
          try {
            options.receive(data as Bytes, { host: plainHost(address), port });
          } catch (thrown) {
            shared.faults.report("datagram", thrown);
          }
        },
        // An ICMP error for an earlier datagram; without this method it would end the process.
        error() {},
      },
    });
    const send = (data: Bytes, to: Address): boolean => {
      if (socket.closed) return false;
      try {
        return socket.send(data, to.port, to.host);
      } catch (error) {
        // The ICMP error of an earlier datagram, reported in place of sending this one.
        return (error as { code?: string }).code === "ECONNREFUSED" && sendAgain(socket, data, to);
      }
    };
    const batch: (Bytes | number | string)[] = [];
    return {
      address: { host: plainHost(socket.hostname), port: socket.port },
      send,
      waiting: 0,
      sendMany(data, to, count) {
        if (socket.closed) return 0;
        batch.length = 3 * count;
        for (let i = 0; i < count; i++) {
          batch[3 * i] = data[i]!;
          batch[3 * i + 1] = to[i]!.port;
          batch[3 * i + 2] = to[i]!.host;
        }
        try {
          return socket.sendMany(batch);
        } catch {
          // Bun doesn't report which one failed; a duplicate datagram does no harm.
          let taken = 0;
          for (let i = 0; i < count; i++) if (send(data[i]!, to[i]!)) taken++;
          return taken;
        }
      },
      close: () => socket.close(),
    };
  } catch (error) {
    throw listenError(options, error);
  }
}
