/**
 * The runtime port: what Sallyport needs of the machine below it. `deno.ts`, `bun.ts` and `memory.ts` implement it,
 * one conformance suite (`tests/conformance/`) holds them to the same behaviour, and nothing else in the project
 * touches `Deno.*` or `Bun.*`.
 *
 * @module
 */

import type { MemoryBudget } from "../bytes/memory_budget.ts";
import type { Bytes } from "../bytes/bytes.ts";
import type { InternalError } from "../errors.ts";
import type { Quic } from "./quic_port.ts";
import type { Aead } from "../crypto/aead.ts";

/** A connection of which nothing more is wanted waits this long for the peer's end, once everything is written. */
export const LINGER_MS = 5_000;
/** A quiet peer is asked whether it is still there after this time, where the runtime can set it. */
export const KEEP_ALIVE_MS = 60_000;
/** Until a TCP connection to an edge or an endpoint stands. */
export const DIAL_TIMEOUT_MS = 10_000;
/**
 * Connections that haven't been routed or admitted yet; beyond it new ones are dropped. A reconnect storm of every agent
 * fits, and a process may have about this many files.
 */
export const PENDING_CONNECTIONS_MAX = 16_384;
/** Of those, from one address (an IPv6 /64 counts as one): a single source can't keep the others out. */
export const PENDING_PER_SOURCE_MAX = 256;
export type { Bytes };

/** A socket address: `host` is an IP address in text (IPv6 without brackets), `port` 0–65535. */
export interface Address {
  /** An IP address in text, IPv6 without brackets. */
  readonly host: string;
  /** 0–65535. */
  readonly port: number;
}

/** What happens on a {@link ByteStream}. Callbacks are never called from within a call of the stream's methods. */
export interface ByteStreamHandler {
  /**
   * Bytes arrived. `chunk` is a view that is valid until the call returns; who keeps bytes copies them. Not called
   * while the stream is paused, nor after `end`.
   */
  data(chunk: Bytes): void;
  /** The peer ended its writing direction in order: every byte it sent has been delivered. Called at most once. */
  end(): void;
  /** `write` said false earlier, and the stream takes bytes again. */
  drain(): void;
  /**
   * Both directions are over; the last callback, called exactly once. Without `error` the end was in order: both
   * sides had ended, or this side aborted without a reason.
   */
  close(error?: Error): void;
}

/** A handler for a stream whose events interest nobody: received bytes are dropped. */
export const IGNORE_STREAM: ByteStreamHandler = { data() {}, end() {}, drain() {}, close() {} };

/**
 * A full-duplex stream of bytes with back-pressure: a socket, or one visitor's stream inside a session. Nothing is
 * delivered before the first `attach`.
 */
export interface ByteStream {
  /** Sets who hears of what happens; may be called again to hand the stream on, from within a callback too. */
  attach(handler: ByteStreamHandler): void;
  /**
   * Sends `chunk`, all of it: what can't go out at once is copied, so the caller may reuse its buffer on return.
   * Says true to go on, false to wait for `drain` (the bytes are accepted all the same). After `closeWrite`, `abort`
   * or `close` the bytes are dropped and the answer is true.
   */
  write(chunk: Bytes): boolean;
  /** Ends the writing direction behind everything written (TCP: FIN). Reading goes on. */
  closeWrite(): void;
  /** Ends both directions at once and drops what is queued (TCP: RST where the runtime can); `close` follows. */
  abort(error?: Error): void;
  /**
   * Nothing more is wanted of the stream: what was written still goes out and ends in order, what comes in is read and
   * dropped, so that no reset takes the last bytes along; `close` follows when the peer has ended too, or
   * `LINGER_MS` after the last byte went out.
   */
  release(): void;
  /** Stops `data` and `end` until `resume`; back-pressure reaches the peer. `close` may still come. */
  pause(): void;
  /** Undoes `pause`. */
  resume(): void;
  /** Bytes that `write` accepted and that haven't been handed on yet. */
  readonly bufferedBytes: number;
  /** Bytes of memory that it holds, in both directions; absent where it keeps none itself. */
  readonly heldBytes?: number;
}

/** A TCP connection. TCP_NODELAY is set on every one. */
export interface Conn extends ByteStream {
  /** The peer's address. */
  readonly remote: Address;
  /** This end. */
  readonly local: Address;
  /**
   * Has the system ask a quiet peer whether it is still there (TCP keep-alive): after {@link KEEP_ALIVE_MS} where the
   * runtime can set it, else after the system's own time.
   */
  keepAlive?(): void;
  /**
   * Lets so many bytes wait before `write` says false. There where the runtime writes behind the caller's back, so that
   * each large write would have to wait for the one before it.
   */
  writeAhead?(byteLength: number): void;
}

/** Something that accepts: `close` stops accepting and leaves accepted connections alone. */
export interface Listener {
  /** Where it listens, with the actual port where 0 was asked for. */
  readonly address: Address;
  /** Stops accepting. */
  close(): void;
}

/** What {@link Runtime.listen} takes. */
export interface ListenOptions {
  /** An IP address in text, IPv6 without brackets. */
  readonly host: string;
  /** 0 takes any free port. */
  readonly port: number;
  /** Called for each connection, which must be attached to a handler before the call returns. */
  accept(conn: Conn): void;
  /** Lets several processes share the port (SO_REUSEPORT), where the runtime can. */
  readonly reusePort?: boolean;
}

/** What {@link Runtime.dial} takes. `host` may be a name. */
export interface DialOptions {
  /** An IP address in text, IPv6 without brackets. */
  readonly host: string;
  /** 0–65535. */
  readonly port: number;
  /** Until the connection stands; beyond it the dial rejects with `deadline_exceeded`. */
  readonly timeoutMs: number;
}

/** What {@link Runtime.dialUnix} takes. */
export interface DialUnixOptions {
  /** The path of the socket. */
  readonly path: string;
  /** Until the connection stands; beyond it the dial rejects with `deadline_exceeded`. */
  readonly timeoutMs: number;
}

/** What {@link Runtime.listenUnix} takes. */
export interface ListenUnixOptions {
  /** The path of the socket. A socket that was left there and that nobody serves is replaced. */
  readonly path: string;
  /** Called for each connection, which must be attached to a handler before the call returns. */
  accept(conn: Conn): void;
}

/** A UDP socket. */
export interface DatagramSocket {
  /** Where it is, with the actual port where 0 was asked for. */
  readonly address: Address;
  /**
   * Sends one datagram (`data` may be reused on return). False when the socket can't take it now: it is dropped, as
   * the network may do with any datagram.
   */
  send(data: Bytes, to: Address): boolean;
  /**
   * Sends the first `count` of `data`, each to the address at its index, in as few system calls as the runtime can.
   * Says how many the socket took; the others are dropped.
   */
  sendMany(data: readonly Bytes[], to: readonly Address[], count: number): number;
  /** Datagrams that the socket took and the system hasn't yet: who goes on sending meanwhile may see them change places. */
  readonly waiting: number;
  /** Stops accepting. */
  close(): void;
}

/** What {@link Runtime.bindDatagram} takes. */
export interface DatagramOptions {
  /** An IP address in text, IPv6 without brackets. */
  readonly host: string;
  /** 0–65535. */
  readonly port: number;
  /** A datagram arrived; the view is valid until the call returns. */
  receive(data: Bytes, from: Address): void;
}

/** A running HTTP server. */
export interface HttpServer {
  /** Where it is, with the actual port where 0 was asked for. */
  readonly address: Address;
  /** Stops accepting and resolves when requests under way have been answered, or after `graceMs`. */
  close(graceMs: number): Promise<void>;
}

/** What {@link Runtime.serveHttp} takes; `remote` is the peer's address. */
export interface HttpOptions {
  /** An IP address in text, IPv6 without brackets. */
  readonly host: string;
  /** 0–65535. */
  readonly port: number;
  /** Answers one request. */
  fetch(request: Request, remote: Address): Response | Promise<Response>;
}

/** A pending call; `cancel` is idempotent. */
export interface Timer {
  /** Takes the call back, if it is still to come. */
  cancel(): void;
}

/** Time. Deadlines and durations use `nowMs`; only tokens and logs know the date. */
export interface Clock {
  /** Monotonic milliseconds since an arbitrary point. */
  nowMs(): number;
  /** Milliseconds since 1970, as the system's clock has them. */
  wallMs(): number;
  /** Calls `run` once, `delayMs` from now. */
  after(delayMs: number, run: () => void): Timer;
  /**
   * Calls `run` soon, in the order asked for, behind the events that are already being handled: the end of this turn, or
   * the next one where it is asked for by what is called so.
   */
  soon(run: () => void): void;
}

/**
 * What becomes of exceptions that a callback of this program, or of an embedder, throws to the runtime. The connection or
 * request that it was called for has ended by then; all others go on.
 */
export interface RuntimeFaults {
  /** Says who hears of them from now on; where nobody does they go to standard error, with their stacks. */
  handle(handler: ((error: InternalError) => void) | undefined): void;
}

/** What the runtime below can do beyond the port's minimum; what is false answers with `not_supported`. */
export interface Capabilities {
  /** Several processes can share a port. */
  readonly reusePort: boolean;
  /** `abort` sends RST, so the peer can tell it from an orderly end. */
  readonly hardClose: boolean;
}

/** How the process stands with its file descriptors. */
export interface DescriptorState {
  /** No connection is accepted until others have ended. */
  readonly paused: boolean;
  /** Files and sockets that are open, about. */
  readonly open: number;
  /** What may be open; undefined where the system doesn't tell. */
  readonly limit: number | undefined;
}

/**
 * The file descriptors of this process. Every connection takes one, so listeners pause before the last ones are gone:
 * where the runtime can't let new connections wait (Bun), they are reset meanwhile.
 */
export interface Descriptors {
  /** Files and sockets that the process may have open; undefined where the system doesn't tell. */
  readonly limit: number | undefined;
  /** Connections for which there is room beside what the process needs for itself; undefined with the limit. */
  readonly connectionsMax: number | undefined;
  /** How many are open; undefined where the system doesn't tell. */
  open(): number | undefined;
  /** How many times accepting was paused. */
  readonly acceptPauses: number;
  /** Sets who hears when accepting pauses, and when it goes on. */
  watch(watcher: (state: DescriptorState) => void): void;
}

/** The runtime below. All methods reject with a {@link SallyportError}, never with a runtime's own error. */
export interface Runtime {
  /** Which one it is. */
  readonly name: "deno" | "bun" | "memory";
  /** Its version. */
  readonly version: string;
  /** What it can do beyond the minimum. */
  readonly capabilities: Capabilities;
  /** Its time. */
  readonly clock: Clock;
  /** The file descriptors that it has. */
  readonly descriptors: Descriptors;
  /** The bytes that wait in the process. */
  readonly memory: MemoryBudget;
  /** Where exceptions of callbacks go. */
  readonly faults: RuntimeFaults;
  /** Rejects with `address_in_use` or `connection_refused` (address not to be had). */
  listen(options: ListenOptions): Promise<Listener>;
  /**
   * Connects; of a name every address is tried, families raced (RFC 8305), and it is looked up anew each time. Rejects
   * with `connection_refused`, `host_unknown`, `deadline_exceeded`, `connection_lost`, and `limit_exceeded` where there
   * are no file descriptors left.
   */
  dial(options: DialOptions): Promise<Conn>;
  /** The addresses of a name as it is known now, families in turn; at least one. Rejects with `host_unknown`. */
  resolve(host: string): Promise<readonly string[]>;
  /**
   * Connects to a unix socket, whose path and port 0 are the connection's addresses. Rejects as `dial`, and with
   * `not_supported` where there are none.
   */
  dialUnix(options: DialUnixOptions): Promise<Conn>;
  /**
   * Accepts connections at a unix socket. Who may connect is up to the permissions of its folder. Rejects as `listen`, and
   * with `not_supported` where there are no unix sockets.
   */
  listenUnix(options: ListenUnixOptions): Promise<Listener>;
  /** Opens a UDP socket; rejects as `listen`. */
  bindDatagram(options: DatagramOptions): Promise<DatagramSocket>;
  /** Starts an HTTP server; rejects as `listen`. */
  serveHttp(options: HttpOptions): Promise<HttpServer>;
  /** Its QUIC; rejects with `not_supported` where it has none. */
  quic(): Promise<Quic>;
  /**
   * Ciphers of a library of the system, where the runtime's own are slow and there is one to be opened; none else.
   * Opened at the first call.
   */
  systemAeads(): readonly Aead[];
}
