/**
 * Code common to the adapters of both native runtimes: addresses, errors and time.
 *
 * @module
 */

import { stat, unlink } from "node:fs/promises";
import { connect } from "node:net";
import { type Boundary, errorMessage, InternalError, internalError, SallyportError } from "../errors.ts";
import type { MemoryBudget } from "../bytes/memory_budget.ts";
import type { DescriptorGuard } from "./descriptors.ts";
import type { BufferPool } from "./out_queue.ts";
import type { BulkPace } from "./bulk_pace.ts";
import type { ClosePace } from "./close_pace.ts";
import type {
  Clock,
  ConnectOptions,
  DialOptions,
  DialUnixOptions,
  ListenOptions,
  RuntimeFaults,
} from "./port.ts";
import { Timers } from "./timers.ts";
import { formatHostPort } from "../wire/ip/host_port.ts";

/** Probe timeout for a Unix socket: a live server accepts at once; otherwise the socket is stale. */
const STALE_PROBE_MS = 500;

/** State shared by the connections of one runtime. */
export interface Shared {
  readonly pool: BufferPool;
  readonly pace: BulkPace;
  readonly closing: ClosePace;
  readonly clock: Clock;
  readonly descriptors: DescriptorGuard;
  readonly memory: MemoryBudget;
  readonly faults: Faults;
}

/** `host` with an IPv4-mapped IPv6 address as plain IPv4 (`::ffff:192.0.2.1` → `192.0.2.1`). */
export function plainHost(host: string): string {
  return host.length > 7 && host.startsWith("::ffff:") && host.includes(".") ? host.slice(7) : host;
}

/** Converts any thrown value to an Error. */
export function asError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error(String(thrown));
}

/** The system's error code (`ECONNRESET`...) of a thrown value, "" if it has none. */
function systemCode(error: unknown): string {
  const code = (error as { code?: unknown } | null)?.code;
  return typeof code === "string" ? code : "";
}

/** Whether the system is out of descriptors or of memory for one. */
export function isExhausted(error: unknown): boolean {
  return EXHAUSTED.has(systemCode(error));
}

/** System errors after which the same call would fail again at once. Others affect only one connection. */
const EXHAUSTED: ReadonlySet<string> = new Set(["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM"]);

/** The error of an established connection that was lost. */
export function lostError(cause?: unknown): SallyportError {
  const code = systemCode(cause);
  const why = code === "ECONNRESET"
    ? "reset by the peer"
    : code === "EPIPE"
    ? "the peer no longer reads"
    : code || "it ended early";
  return new SallyportError("connection_lost", `Connection lost: ${why}`, {
    side: "network",
    retryable: true,
    cause,
  });
}

/** The dialled address, for messages. */
export function dialledText(options: ConnectOptions): string {
  if ("path" in options) return `unix:${options.path}`;
  // Port 0 stands for no port, where only the name is resolved.
  return options.port === 0 ? options.host : formatHostPort(options);
}

/** The error of a dial that timed out. */
export function dialTimeoutError(options: DialOptions | DialUnixOptions): SallyportError {
  return new SallyportError(
    "deadline_exceeded",
    `Cannot connect to ${dialledText(options)}: no answer within ${options.timeoutMs} ms`,
    { side: "network", retryable: true },
  );
}

/** Translates a runtime's dial error. */
export function dialError(options: ConnectOptions, cause: unknown): SallyportError {
  if (cause instanceof SallyportError) return cause;
  const code = systemCode(cause);
  const what = `Cannot connect to ${dialledText(options)}: `;
  if ("path" in options && code === "ENOENT") {
    return new SallyportError("connection_refused", what + "there is no such socket", {
      side: "config",
      retryable: true,
      cause,
    });
  }
  if (code === "ECONNREFUSED") {
    return new SallyportError("connection_refused", what + "connection refused", {
      side: "network",
      retryable: true,
      cause,
    });
  }
  if (code === "ETIMEDOUT") {
    return new SallyportError("deadline_exceeded", what + "no answer", {
      side: "network",
      retryable: true,
      cause,
    });
  }
  const message = asError(cause).message;
  // Deno has neither a class nor a code for this one.
  if (code === "ENOTFOUND" || code.startsWith("EAI_") || message.startsWith("failed to lookup address")) {
    const retryable = code === "EAI_AGAIN" || message.includes("Temporary failure");
    return new SallyportError("host_unknown", what + "the name has no address", {
      side: "config",
      retryable,
      cause,
    });
  }
  return new SallyportError("connection_lost", what + (code || message), {
    side: "network",
    retryable: true,
    cause,
  });
}

/** The error of a runtime that can't accept on a socket that already listens. */
export function noPassedSockets(why: string): SallyportError {
  const message = `Cannot listen on a socket of the service manager: ${why}`;
  return new SallyportError("not_supported", message, { side: "config" });
}

/** The error for a file descriptor on which no TCP connections can be accepted. */
export function notListening(descriptor: number, cause: unknown): SallyportError {
  const why = `Cannot listen on file descriptor ${descriptor}: it isn't a TCP socket that listens`;
  return new SallyportError("config_invalid", `${why} (${errorMessage(cause)})`, { side: "config", cause });
}

/** Translates a runtime's listen or bind error. */
export function listenError(
  options: Pick<ListenOptions, "host" | "port"> | { readonly path: string },
  cause: unknown,
): SallyportError {
  if (cause instanceof SallyportError) return cause;
  const code = systemCode(cause);
  const what = `Cannot listen on ${"path" in options ? `unix:${options.path}` : formatHostPort(options)}: `;
  if (code === "EADDRINUSE") {
    return new SallyportError("address_in_use", what + "the address is in use", {
      side: "config",
      retryable: true,
      cause,
    });
  }
  const why = code === "EADDRNOTAVAIL"
    ? "this machine doesn't have the address"
    : code || asError(cause).message;
  return new SallyportError("connection_refused", what + why, { side: "config", cause });
}

/** Collects exceptions of callbacks and passes them to the handler. */
export class Faults implements RuntimeFaults {
  #handler: (error: InternalError) => void = printFault;

  handle(handler: ((error: InternalError) => void) | undefined): void {
    this.#handler = handler ?? printFault;
  }

  /**
   * Reports an exception thrown by a callback, unless it is a typed error; returns the error to end its connection
   * with.
   */
  report(where: Boundary, thrown: unknown): SallyportError {
    const error = internalError(where, thrown);
    if (error instanceof InternalError) this.#handler(error);
    return error;
  }
}

function printFault(error: InternalError): void {
  console.error(`sallyport: ${error.message}`, error.cause);
}

/** The system's clock. The runtime defines "soon": as early as possible after the events handled in this turn. */
export function createSystemClock(soon: (run: () => void) => void): Clock {
  const timers = new Timers();
  return {
    nowMs: () => performance.now(),
    wallMs: () => Date.now(),
    after: (delayMs, run) => timers.after(delayMs, run),
    soon,
  };
}

/** Removes a stale Unix socket at `path`; anything else is left alone. */
export async function removeStaleSocket(path: string): Promise<void> {
  const found = await stat(path).catch(() => undefined);
  if (found === undefined || !found.isSocket()) return;
  const served = await new Promise<boolean>((resolve) => {
    const socket = connect(path);
    socket.once("connect", () => resolve(true)).once("error", () => resolve(false));
    socket.once("close", () => resolve(false));
    setTimeout(() => socket.destroy(), STALE_PROBE_MS).unref?.();
  });
  if (!served) await unlink(path).catch(() => {});
}
