/**
 * The TCP handles below Deno's `node:net`. A `Deno.Conn` takes a promise and an operation for each read and each write,
 * which the event loop settles a turn later; a handle writes at once and calls back with what has arrived. They are
 * Node's internals (`process.binding`), so they are used only if all that is needed is there.
 *
 * @module
 */
import process from "node:process";
import { getSystemErrorName } from "node:util";
import type { Address, Bytes } from "../port.ts";
import { plainHost } from "../shared.ts";

/** A socket. Calls that return a number return 0, or the negated error of the system. */
export interface TcpHandle {
  /** Called with what the last read brought: see {@link TcpHandles.readResult}. `this` is the handle. */
  onread: (this: TcpHandle) => void;
  /** Whom {@link onread} is for. */
  owner?: unknown;
  /** Called for each connection that waits to be accepted. */
  onconnection: () => void;
  /** Reads go into `buffer`, not into a new one each. */
  useUserBuffer(buffer: Bytes): void;
  readStart(): number;
  readStop(): number;
  /** Writes what the socket takes; the rest stays in `bytes` until `request.oncomplete`, see {@link TcpHandles.isWriting}. */
  writeBuffer(request: TcpRequest, bytes: Bytes): number;
  shutdown(request: TcpRequest): number;
  /** Makes `close` send a reset. */
  reset(): number;
  close(): void;
  setNoDelay(on: boolean): number;
  setKeepAlive(on: boolean, afterSeconds: number): number;
  getpeername(name: SocketName): number;
  getsockname(name: SocketName): number;
  connect(request: TcpRequest, address: string, port: number): number;
  bindWithFlags(address: string, port: number, flags: number): number;
  /** Takes a socket over by its descriptor. */
  open(descriptor: number): number;
  /** Listens; on a handle that already does, looks for connections again. */
  listen(backlog: number): number;
  accept(into: TcpHandle): number;
  /** Takes a connection of Deno's by the number of its resource, on a duplicate of its descriptor. */
  openFromRid(resource: number): number;
  /** Duplicates the descriptor for the caller, who closes it; negative if that fails. */
  fdForIpc(): number;
}

/** Something that ends later. */
export interface TcpRequest {
  /** What is written: the handle reads it until the end without keeping it from the collector. */
  buffer?: Bytes | undefined;
  oncomplete(status: number): void;
}

/** What `getpeername` and `getsockname` fill in. */
interface SocketName {
  address?: string;
  port?: number;
}

interface TcpBinding {
  readonly TCP: new (type: number) => TcpHandle;
  readonly constants: { readonly SOCKET: number; readonly SERVER: number; readonly UV_TCP_REUSEPORT: number };
}

interface StreamBinding {
  readonly streamBaseState: Int32Array;
  readonly kReadBytesOrError: number;
  readonly kLastWriteWasAsync: number;
}

const METHODS = [
  ...["useUserBuffer", "readStart", "readStop", "writeBuffer", "shutdown", "reset", "close", "setNoDelay"],
  ...[
    "setKeepAlive",
    "getpeername",
    "getsockname",
    "connect",
    "bindWithFlags",
    "open",
    "listen",
    "accept",
    "openFromRid",
    "fdForIpc",
  ],
];

/** The handles, if this Deno has them. */
export function openTcpHandles(): TcpHandles | undefined {
  try {
    const binding = (process as unknown as { binding(name: string): unknown }).binding;
    const tcp = binding("tcp_wrap") as TcpBinding;
    const stream = binding("stream_wrap") as StreamBinding;
    const { constants, TCP } = tcp;
    const numbers = [
      ...[constants.SOCKET, constants.SERVER, constants.UV_TCP_REUSEPORT],
      ...[stream.kReadBytesOrError, stream.kLastWriteWasAsync],
    ];
    const isComplete = METHODS.every((name) => name in TCP.prototype) &&
      numbers.every((number) => Number.isInteger(number)) && stream.streamBaseState instanceof Int32Array;
    return isComplete ? new TcpHandles(tcp, stream) : undefined;
  } catch {
    return undefined;
  }
}

/** Deno's symbol for the number of a connection's resource. */
const RESOURCE = "Deno.internal.rid";
/** Most that one read returns: what fits into a processor's cache. */
const RECEIVE_BYTES = 256 * 1024;

/** Makes handles. */
export class TcpHandles {
  readonly #tcp: TcpBinding;
  readonly #stream: StreamBinding;
  /** What was read last; all connections share it, so that it stays in the processor's cache. */
  readonly received: Bytes = new Uint8Array(RECEIVE_BYTES);

  constructor(tcp: TcpBinding, stream: StreamBinding) {
    this.#tcp = tcp;
    this.#stream = stream;
  }

  /** A handle to connect, or to accept into. */
  socket(): TcpHandle {
    const handle = new this.#tcp.TCP(this.#tcp.constants.SOCKET);
    handle.setNoDelay(true);
    return handle;
  }

  /** A handle that is bound to an address. */
  bound({ host, port }: Address, reusePort: boolean): TcpHandle {
    const { SERVER, UV_TCP_REUSEPORT } = this.#tcp.constants;
    const handle = new this.#tcp.TCP(SERVER);
    const status = handle.bindWithFlags(host, port, reusePort ? UV_TCP_REUSEPORT : 0);
    if (status === 0) return handle;
    handle.close();
    throw systemError(status);
  }

  /** A handle on a socket that is bound already. Throws the system's error. */
  opened(descriptor: number): TcpHandle {
    const handle = new this.#tcp.TCP(this.#tcp.constants.SERVER);
    const status = handle.open(descriptor) || handle.getsockname({});
    if (status === 0) return handle;
    handle.close();
    throw systemError(status);
  }

  /** Sets the time of TCP keep-alive, for which a `Deno.Conn` has no method; returns whether it could. */
  keepAlive(conn: Deno.TcpConn, afterSeconds: number): boolean {
    const symbol = Object.getOwnPropertySymbols(conn).find(({ description }) => description === RESOURCE);
    if (symbol === undefined) return false;
    const handle = this.socket();
    try {
      const resource = (conn as unknown as Record<symbol, number>)[symbol]!;
      return handle.openFromRid(resource) === 0 && handle.setKeepAlive(true, afterSeconds) === 0;
    } catch {
      return false;
    } finally {
      handle.close();
    }
  }

  /** Within {@link TcpHandle.onread}: how many bytes are in {@link received}, or {@link END}, or another error. */
  get readResult(): number {
    return this.#stream.streamBaseState[this.#stream.kReadBytesOrError]!;
  }

  /** Right after {@link TcpHandle.writeBuffer}: whether it is still writing. */
  get isWriting(): boolean {
    return this.#stream.streamBaseState[this.#stream.kLastWriteWasAsync] !== 0;
  }
}

/** The result of a read at the end of what the peer sends. */
export const END = -4095;

/** The error of a call that returned `status`. */
export function systemError(status: number): Error {
  const code = status < 0 ? getSystemErrorName(status) : "EUNKNOWN";
  return Object.assign(new Error(code), { code });
}

/** The address that `ask` returns; undefined if the socket has none, because the peer has reset it. */
export function addressOf(handle: TcpHandle, ask: "getpeername" | "getsockname"): Address | undefined {
  const name: SocketName = {};
  if (handle[ask](name) !== 0) return undefined;
  return { host: plainHost(name.address!), port: name.port! };
}
