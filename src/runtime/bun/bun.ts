/**
 * The runtime port on Bun's native sockets.
 *
 * @module
 */

import {
  type Address,
  type Bytes,
  type Conn,
  type DatagramOptions,
  type DatagramSocket,
  type DialOptions,
  type DialUnixOptions,
  IGNORE_STREAM,
  type Listener,
  type ListenOptions,
  type ListenUnixOptions,
  type Runtime,
} from "../port.ts";
import { isIP } from "node:net";
import { setImmediate } from "node:timers";
import { SallyportError } from "../../errors.ts";
import { type BunConn, socketHandlers, type SocketOwner } from "./bun_conn.ts";
import { bunQuic } from "./bun_quic.ts";
import { MemoryBudget } from "../../bytes/memory_budget.ts";
import { NO_SYSTEM_CIPHERS } from "../../crypto/system_ciphers.ts";
import { DescriptorGuard } from "../descriptors.ts";
import { dialByName, resolveHost } from "../dial_by_name.ts";
import { listenHttp } from "../http_server.ts";
import { listenOnDescriptor } from "./node_listener.ts";
import { BufferPool } from "../out_queue.ts";
import { BulkPace } from "../bulk_pace.ts";
import { ClosePace } from "../close_pace.ts";
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
    dial: (options) =>
      dialByName(options, {
        clock: shared.clock,
        resolve: resolveHost,
        connect: (to) => dial(to, shared, { hostname: to.host, port: to.port }),
      }),
    dialUnix: (options) => dial(options, shared, { unix: options.path }),
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
          // Bun accepts every connection while it listens: excess ones are reset.
          if (shared.descriptors.accepted()) return options.accept(conn);
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

/** A dial can't be cancelled, so one that completes too late is reset at once. */
function dial(
  options: DialOptions | DialUnixOptions,
  shared: Shared,
  to: { readonly hostname: string; readonly port: number } | { readonly unix: string },
): Promise<Conn> {
  return new Promise((resolve, reject) => {
    shared.descriptors.assertDialable(options);
    let late = false;
    const timer = shared.clock.after(options.timeoutMs, () => {
      late = true;
      reject(dialTimeoutError(options));
    });
    const accept = (conn: BunConn) => {
      timer.cancel();
      if (late) conn.abort();
      else resolve(conn);
    };
    const fail = (error: unknown) => {
      timer.cancel();
      reject(
        isExhausted(error) ? shared.descriptors.dialError(options, error) : dialError(options, error),
      );
    };
    try {
      Bun.connect<SocketOwner>({
        ...to,
        allowHalfOpen: true,
        data: { shared, accept, fail, ..."unix" in to ? { unixPath: to.unix } : {} },
        socket: socketHandlers,
      }).catch(fail);
    } catch (error) {
      fail(error);
    }
  });
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
