/**
 * The system's own `send`, where native code is permitted: it takes bytes from where they are. A handle keeps what the
 * socket doesn't take, so they would have to be copied for it first.
 *
 * @module
 */
import type { Bytes } from "../port.ts";
import { openSystemLibrary } from "./system_library.ts";
import type { TcpHandle } from "./tcp_handles.ts";

const FUNCTIONS = {
  send: { parameters: ["i32", "buffer", "usize", "i32"], result: "i32" },
  close: { parameters: ["i32"], result: "i32" },
} as const;

/** Lengths are numbers: Deno's types ask for a `bigint`, which would be slower. */
interface SocketLibrary {
  send(descriptor: number, bytes: Bytes, length: number, flags: number): number;
  close(descriptor: number): number;
}

/** `MSG_DONTWAIT` and `MSG_NOSIGNAL` of Linux, on all processors that Deno runs on. */
const SEND_FLAGS = 0x4040;

/** Opens the calls; undefined where native code isn't permitted or the system is another. */
export function openSystemSockets(): SystemSockets | undefined {
  const library = openSystemLibrary(FUNCTIONS);
  return library && new SystemSockets(library as unknown as SocketLibrary);
}

/** The calls. */
export class SystemSockets {
  readonly #library: SocketLibrary;

  constructor(library: SocketLibrary) {
    this.#library = library;
  }

  /** Opens another way to write to a handle's connection. */
  open(handle: TcpHandle): DirectWriter {
    return new DirectWriter(handle.fdForIpc(), this.#library);
  }
}

/**
 * Writes to a connection by a descriptor of its own, which the handle has duplicated: no other connection can have its
 * number before it is closed here.
 */
export class DirectWriter {
  #descriptor: number;
  readonly #library: SocketLibrary;

  constructor(descriptor: number, library: SocketLibrary) {
    this.#descriptor = descriptor;
    this.#library = library;
  }

  /** Sends as much as the socket takes now; returns how many bytes that was. An error is left to the next write. */
  send(bytes: Bytes): number {
    if (this.#descriptor < 0) return 0;
    return Math.max(0, this.#library.send(this.#descriptor, bytes, bytes.length, SEND_FLAGS));
  }

  /** The connection ends only once this is closed as well. */
  close(): void {
    if (this.#descriptor >= 0) this.#library.close(this.#descriptor);
    this.#descriptor = -1;
  }
}
