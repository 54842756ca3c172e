/**
 * The system's own calls on the sockets of Deno's connections. Deno reads and writes with a promise for each call, which
 * its event loop settles a turn later; the system would answer at once. Where native code is permitted, bytes are sent by
 * `send` as far as the socket takes them, and what has arrived is read by `recv` once Deno has said that something has.
 * Waiting, connecting and closing stay with Deno.
 *
 * @module
 */
import { IDLE_BUFFER_BYTES } from "../out_queue.ts";
import type { Bytes } from "../port.ts";
import { parseIp } from "../../wire/ip/networks.ts";

/** The system's own functions. */
export const LIBRARY = "libc.so.6";

const FUNCTIONS = {
  send: { parameters: ["i32", "buffer", "usize", "i32"], result: "i32" },
  recv: { parameters: ["i32", "buffer", "usize", "i32"], result: "i32" },
  ioctl: { parameters: ["i32", "usize", "buffer"], result: "i32" },
  getsockname: { parameters: ["i32", "buffer", "buffer"], result: "i32" },
  getpeername: { parameters: ["i32", "buffer", "buffer"], result: "i32" },
  dup: { parameters: ["i32"], result: "i32" },
  close: { parameters: ["i32"], result: "i32" },
} as const;

/** Lengths are numbers: Deno's types ask for a `bigint`, which would be slower. */
export interface SocketLibrary {
  send(descriptor: number, bytes: Bytes, length: number, flags: number): number;
  recv(descriptor: number, into: Bytes, length: number, flags: number): number;
  ioctl(descriptor: number, request: number, result: Uint32Array<ArrayBuffer>): number;
  getsockname(descriptor: number, name: Bytes, length: Uint32Array<ArrayBuffer>): number;
  getpeername(descriptor: number, name: Bytes, length: Uint32Array<ArrayBuffer>): number;
  dup(descriptor: number): number;
  close(descriptor: number): number;
}

/** Of Linux, on all processors that Deno runs on: `MSG_DONTWAIT`, and `MSG_NOSIGNAL` with it. */
const DONT_WAIT = 0x40;
const SEND_FLAGS = DONT_WAIT | 0x4000;
const FIONREAD = 0x541b;
const AF_INET = 2;
const STANDARD_INPUT = 0;
/** The size of a `sockaddr_in6`. */
const NAME_BYTES = 28;
/** Most that {@link SystemSockets.receive} returns: what fits into a processor's cache. */
const RECEIVE_BYTES = 256 * 1024;

/** Where Deno keeps the descriptor of a connection that it has accepted. */
const DESCRIPTOR = "Deno.internal.fd";

/** Opens the system's library if there is one and native code is permitted without a prompt. */
export function openSystemSockets(): SystemSockets | undefined {
  if (Deno.build.os !== "linux") return undefined;
  try {
    if (Deno.permissions.querySync({ name: "ffi", path: LIBRARY }).state !== "granted") return undefined;
    return new SystemSockets(Deno.dlopen(LIBRARY, FUNCTIONS).symbols as unknown as SocketLibrary);
  } catch {
    return undefined;
  }
}

/** The calls. A descriptor comes from {@link find}, and must not be used once its connection has been closed. */
export class SystemSockets {
  readonly #library: SocketLibrary;
  /** What was received last; all connections share it, so that it stays in the processor's cache. */
  readonly #received: Bytes = new Uint8Array(RECEIVE_BYTES);
  readonly #room: Bytes = this.#received.subarray(IDLE_BUFFER_BYTES);
  readonly #name: Bytes = new Uint8Array(NAME_BYTES);
  /** Where the system writes a number. */
  readonly #number = new Uint32Array(1);

  constructor(library: SocketLibrary) {
    this.#library = library;
  }

  /** The descriptor that the next socket will have: the system takes the lowest that is free. */
  next(): number {
    const descriptor = this.#library.dup(STANDARD_INPUT);
    this.#library.close(descriptor);
    return descriptor;
  }

  /**
   * The descriptor of a connection. Deno says it of those that it has accepted; for a dialled one it is `expected`, provided
   * that this is a socket with the connection's addresses: bytes must never go to another connection.
   */
  find(conn: Deno.TcpConn | Deno.UnixConn, expected: number | undefined): number | undefined {
    const symbol = Object.getOwnPropertySymbols(conn).find(({ description }) => description === DESCRIPTOR);
    const accepted = symbol && (conn as unknown as Record<symbol, number | undefined>)[symbol];
    if (accepted !== undefined || expected === undefined) return accepted;
    const { getsockname, getpeername } = this.#library;
    const isFound = this.#isNamed(getsockname, expected, conn.localAddr) &&
      this.#isNamed(getpeername, expected, conn.remoteAddr);
    return isFound ? expected : undefined;
  }

  #isNamed(ask: SocketLibrary["getsockname"], descriptor: number, address: Deno.Addr): boolean {
    const name = this.#name;
    this.#number[0] = name.length;
    if (address.transport !== "tcp" || ask(descriptor, name, this.#number) !== 0) return false;
    const { hostname, port } = address;
    const host = parseIp(hostname);
    if (host === undefined || name[2] !== port >> 8 || name[3] !== (port & 255)) return false;
    // At the end of a sockaddr_in6, whose scope follows, also if it is an IPv4 address.
    const hostAt = name[0] === AF_INET ? 4 : 24 - host.length;
    return host.every((byte, index) => byte === name[hostAt + index]);
  }

  /** Sends as much as the socket takes now; returns how many bytes that was. An error is left to Deno's next write. */
  send(descriptor: number, bytes: Bytes): number {
    return Math.max(0, this.#library.send(descriptor, bytes, bytes.length, SEND_FLAGS));
  }

  /**
   * `first`, the {@link IDLE_BUFFER_BYTES} that Deno has read, with what has arrived after them: a view that stays valid
   * until the next call. An end or an error is left to Deno's next read, so nothing is received where nothing has arrived:
   * the call would take the error, and Deno would see a clean end.
   */
  receive(descriptor: number, first: Bytes): Bytes {
    const { ioctl, recv } = this.#library;
    if (ioctl(descriptor, FIONREAD, this.#number) !== 0 || this.#number[0] === 0) return first;
    const count = recv(descriptor, this.#room, this.#room.length, DONT_WAIT);
    if (count <= 0) return first;
    this.#received.set(first);
    return this.#received.subarray(0, first.length + count);
  }
}
