/**
 * The runtime port: what Sallyport needs of the machine below it. `deno.ts`, `bun.ts` and `memory.ts` implement it,
 * one conformance suite (`tests/conformance/`) holds them to the same behaviour, and nothing else in the project
 * touches `Deno.*` or `Bun.*`.
 *
 * @module
 */

import type { MemoryBudget } from "../bytes/memory_budget.ts";
import type { Bytes } from "../bytes/bytes.ts";
import type { InternalError, SallyportError } from "../errors.ts";
import type { Quic } from "./quic_port.ts";
import type { SystemCiphers } from "../crypto/system_ciphers.ts";

/** How long a released connection waits for the peer's FIN once everything is written. */
export const LINGER_MS = 5_000;
/** Idle time before the first TCP keep-alive probe. */
export const KEEP_ALIVE_MS = 60_000;
/** Timeout for establishing a TCP connection to an edge or an endpoint. */
export const DIAL_TIMEOUT_MS = 10_000;
/**
 * Connections that haven't been routed or admitted yet; further ones are dropped. Large enough for every agent to
 * reconnect at once, and close to a process's usual file limit.
 */
export const PENDING_CONNECTIONS_MAX = 16_384;
/**
 * Pending connections from one address (an IPv6 /64 counts as one), so that a single source can't keep the others out.
 */
export const PENDING_PER_SOURCE_MAX = 256;
export type { Bytes };

/** A socket address: `host` is an IP address in text (IPv6 without brackets), `port` 0–65535. */
export interface Address {
  /** An IP address in text, IPv6 without brackets. */
  readonly host: string;
  /** 0–65535. */
  readonly port: number;
}

/** Events of a {@link ByteStream}. Callbacks are never invoked from within a call to the stream's methods. */
export interface ByteStreamHandler {
  /**
   * Bytes arrived. `chunk` is a view that is valid until the call returns; copy it to keep it. Not called while the
   * stream is paused, nor after `end`.
   */
  data(chunk: Bytes): void;
  /** The peer closed its writing direction cleanly: every byte it sent has been delivered. Called at most once. */
  end(): void;
  /** The stream accepts bytes again after `write` returned false. */
  drain(): void;
  /**
   * Both directions are closed; the last callback, called exactly once. Without `error` the close was clean: both sides
   * had ended, or this side aborted without a reason.
   */
  close(error?: Error): void;
}

/** A handler that ignores all events: received bytes are dropped. */
export const IGNORE_STREAM: ByteStreamHandler = { data() {}, end() {}, drain() {}, close() {} };

/**
 * A full-duplex stream of bytes with back-pressure: a socket, or one visitor's stream inside a session. Nothing is
 * delivered before the first `attach`.
 */
export interface ByteStream {
  /** Sets the event handler. May be called again to hand the stream on, even from within a callback. */
  attach(handler: ByteStreamHandler): void;
  /**
   * Sends all of `chunk`. Bytes that can't be sent at once are copied, so the caller may reuse its buffer on return.
   * Returns true to continue, false to wait for `drain` (the bytes are accepted all the same). After `closeWrite`,
   * `abort` or `close` the bytes are dropped and the result is true.
   */
  write(chunk: Bytes): boolean;
  /** Closes the writing direction after everything written so far (TCP: FIN). Reading goes on. */
  closeWrite(): void;
  /** Closes both directions at once and drops queued bytes (TCP: RST where the runtime can); `close` follows. */
  abort(error?: Error): void;
  /**
   * Closes the stream gracefully: written bytes are still sent and followed by FIN, and received bytes are read and
   * dropped, so that no reset destroys the last bytes. `close` follows when the peer has ended too, or `LINGER_MS`
   * after the last byte was sent.
   */
  release(): void;
  /** Stops `data` and `end` until `resume`; back-pressure reaches the peer. `close` may still be called. */
  pause(): void;
  /** Undoes `pause`. */
  resume(): void;
  /** Bytes that `write` accepted and that haven't been handed on yet. */
  readonly bufferedBytes: number;
  /** Bytes of memory held by the stream, in both directions; absent if it buffers none itself. */
  readonly heldBytes?: number;
  /** Makes the system probe a silent peer, first after {@link KEEP_ALIVE_MS}; absent if the stream is no TCP connection. */
  keepAlive?(): void;
}

/** A TCP connection. TCP_NODELAY is set on every one. */
export interface Conn extends ByteStream {
  /** The peer's address. */
  readonly remote: Address;
  /** The local address. */
  readonly local: Address;
  /**
   * The connection carries a session from now on: idle most of the time, and shared by many streams when it isn't. It
   * counts among the sessions that may crowd. Where the runtime writes asynchronously, up to `writeAheadBytes` may then be
   * queued before `write` returns false: otherwise each large write would have to wait for the one before it.
   */
  carrySession?(writeAheadBytes: number): void;
}

/** A listening socket. `close` stops accepting and leaves accepted connections alone. */
export interface Listener {
  /** The listening address, with the actual port if 0 was requested. */
  readonly address: Address;
  /** Stops accepting. */
  close(): void;
}

/** Options of {@link Runtime.listen}. */
export interface ListenOptions {
  /** An IP address in text, IPv6 without brackets. */
  readonly host: string;
  /** 0 takes any free port. */
  readonly port: number;
  /** Called for each connection, which must be attached to a handler before the call returns. */
  accept(conn: Conn): void;
  /**
   * The peer sends something before it ends its direction, as in TLS and HTTP; a connection whose peer doesn't may be lost.
   * Lets Deno use a faster kind of socket (docs/runtimes.md).
   */
  readonly peerSpeaks?: boolean;
  /** Lets several processes share the port (SO_REUSEPORT), where the runtime can. */
  readonly reusePort?: boolean;
  /** File descriptor of a socket that already listens, to accept on instead; host and port are then ignored. */
  readonly descriptor?: number;
}

/** Options of {@link Runtime.dial}. `host` may be a name. */
export interface DialOptions {
  /** An IP address in text, IPv6 without brackets. */
  readonly host: string;
  /** 0–65535. */
  readonly port: number;
  /** Connect timeout; on expiry the dial rejects with `deadline_exceeded`. */
  readonly timeoutMs: number;
  /**
   * The peer sends something before it ends its direction, as in TLS and HTTP; a connection whose peer doesn't may be lost.
   * Lets Deno use a faster kind of socket (docs/runtimes.md).
   */
  readonly peerSpeaks?: boolean;
  /** Which addresses of a name may be dialled; `access_denied` if there is none. Defaults to all. */
  readonly permits?: AddressJudge | undefined;
}

/** Options of {@link Runtime.connect}: those of a dial without its timeout, which is up to the caller. */
export type ConnectOptions = Omit<DialOptions, "timeoutMs"> | Pick<DialUnixOptions, "path">;

/** Takes the outcome of {@link Runtime.connect}: one of the two is called once, later than the call itself. */
export interface ConnectHandler {
  /** The connection must be attached before the call returns. */
  connected(conn: Conn): void;
  /** Errors as of {@link Runtime.dial}. */
  failed(error: SallyportError): void;
}

/** A connection that is being established. */
export interface Connecting {
  /** Its handler isn't called any more; a connection that is established all the same is reset. */
  giveUp(): void;
}

/** Whether an IP address in text may be dialled. */
export type AddressJudge = (address: string) => boolean;

/** Options of {@link Runtime.dialUnix}. */
export interface DialUnixOptions {
  /** The path of the socket. */
  readonly path: string;
  /** Connect timeout; on expiry the dial rejects with `deadline_exceeded`. */
  readonly timeoutMs: number;
}

/** Options of {@link Runtime.listenUnix}. */
export interface ListenUnixOptions {
  /** The path of the socket. A stale socket at this path is replaced. */
  readonly path: string;
  /** Called for each connection, which must be attached to a handler before the call returns. */
  accept(conn: Conn): void;
}

/** A UDP socket. */
export interface DatagramSocket {
  /** The bound address, with the actual port if 0 was requested. */
  readonly address: Address;
  /**
   * Sends one datagram (`data` may be reused on return). Returns false if the socket can't take it now: the datagram is
   * dropped, as the network may do with any.
   */
  send(data: Bytes, to: Address): boolean;
  /**
   * Sends the first `count` of `data`, each to the address at its index, in as few system calls as the runtime can.
   * Returns how many the socket took; the others are dropped.
   */
  sendMany(data: readonly Bytes[], to: readonly Address[], count: number): number;
  /** Datagrams accepted by the socket but not yet by the system; later ones may overtake them. */
  readonly waiting: number;
  /** Stops accepting. */
  close(): void;
}

/** Options of {@link Runtime.bindDatagram}. */
export interface DatagramOptions {
  /** An IP address in text, IPv6 without brackets. */
  readonly host: string;
  /** 0–65535. */
  readonly port: number;
  /** Several sockets, also of several processes, may bind the port if all of them set this. */
  readonly shared?: boolean;
  /** A datagram arrived; the view is valid until the call returns. */
  receive(data: Bytes, from: Address): void;
}

/** A running HTTP server. */
export interface HttpServer {
  /** The bound address, with the actual port if 0 was requested. */
  readonly address: Address;
  /** Stops accepting; resolves when requests in progress have been answered, or after `graceMs`. */
  close(graceMs: number): Promise<void>;
}

/** Options of {@link Runtime.serveHttp}; `remote` is the peer's address. */
export interface HttpOptions {
  /** An IP address in text, IPv6 without brackets. */
  readonly host: string;
  /** 0–65535. */
  readonly port: number;
  /** File descriptor of a socket that already listens, to accept on instead; host and port are then ignored. */
  readonly descriptor?: number;
  /** Answers one request. */
  fetch(request: Request, remote: Address): Response | Promise<Response>;
}

/** Sends an HTTP request, as the global `fetch` does. */
export type Fetch = (request: Request) => Promise<Response>;

/** A pending call; `cancel` is idempotent. */
export interface Timer {
  /** Cancels the call if it hasn't run yet. */
  cancel(): void;
}

/** Time. Deadlines and durations use `nowMs`; only tokens and logs use the date. */
export interface Clock {
  /** Monotonic milliseconds since an arbitrary point. */
  nowMs(): number;
  /** Milliseconds since 1970, by the system clock. */
  wallMs(): number;
  /** Calls `run` once, `delayMs` from now. */
  after(delayMs: number, run: () => void): Timer;
  /**
   * Calls `run` soon, in request order, after the events that are already being handled: at the end of this turn, or in
   * the next one if requested from within such a call.
   */
  soon(run: () => void): void;
}

/**
 * Handles exceptions that a callback of this program, or of an embedder, throws to the runtime. By then its connection
 * or request has ended; all others continue.
 */
export interface RuntimeFaults {
  /** Sets the handler. Without one, exceptions are printed to standard error with their stacks. */
  handle(handler: ((error: InternalError) => void) | undefined): void;
}

/** Optional capabilities of the runtime; using one that is false fails with `not_supported`. */
export interface Capabilities {
  /** Several processes can share a port. */
  readonly reusePort: boolean;
  /**
   * What becomes of datagrams to a shared port: the system spreads their senders over the sockets (`spread`), or gives
   * all of them to the one that was bound last (`last`).
   */
  readonly sharedDatagrams: "spread" | "last";
  /** `abort` sends RST, so the peer can tell it from an orderly end. */
  readonly hardClose: boolean;
  /** It accepts on sockets that already listen. */
  readonly passedSockets: boolean;
}

/** The process's file descriptor usage. */
export interface DescriptorState {
  /** Accepting is paused until other connections have ended. */
  readonly paused: boolean;
  /** Approximate number of open files and sockets. */
  readonly open: number;
  /** Maximum number of open files; undefined if the system doesn't report it. */
  readonly limit: number | undefined;
}

/**
 * The file descriptors of this process. Every connection takes one, so listeners pause before they run out. Where the
 * runtime can't leave new connections in the backlog (Bun), they are reset meanwhile.
 */
export interface Descriptors {
  /** Maximum number of open files and sockets; undefined if the system doesn't report it. */
  readonly limit: number | undefined;
  /** Connections that fit beside the descriptors the process needs itself; undefined if `limit` is. */
  readonly connectionsMax: number | undefined;
  /** How many are open; undefined if the system doesn't report it. */
  open(): number | undefined;
  /** How many times accepting was paused. */
  readonly acceptPauses: number;
  /** Sets the callback for when accepting pauses and resumes. */
  watch(watcher: (state: DescriptorState) => void): void;
}

/** The runtime. All methods reject with a {@link SallyportError}, never with a runtime's own error. */
export interface Runtime {
  /** The runtime's name. */
  readonly name: "deno" | "bun" | "memory";
  /** Its version. */
  readonly version: string;
  /** Its optional capabilities. */
  readonly capabilities: Capabilities;
  /** Its clock. */
  readonly clock: Clock;
  /** The process's file descriptors. */
  readonly descriptors: Descriptors;
  /** Accounts for the bytes buffered in the process. */
  readonly memory: MemoryBudget;
  /** Handles exceptions thrown by callbacks. */
  readonly faults: RuntimeFaults;
  /** Rejects with `address_in_use` or `connection_refused` (address unavailable). */
  listen(options: ListenOptions): Promise<Listener>;
  /**
   * Connects. A name is resolved anew each time, and all its addresses are tried, with address families raced (RFC
   * 8305). Rejects with `connection_refused`, `host_unknown`, `deadline_exceeded`, `connection_lost`,
   * `access_denied` if no address is permitted, and `limit_exceeded` when out of file descriptors.
   */
  dial(options: DialOptions): Promise<Conn>;
  /**
   * Connects as {@link dial} and {@link dialUnix} do, without a promise and a timer, for those who connect for each
   * visitor. A name that has to be resolved is given up after {@link DIAL_TIMEOUT_MS}.
   */
  connect(options: ConnectOptions, handler: ConnectHandler): Connecting;
  /** The current addresses of a name, families alternating; at least one. Rejects with `host_unknown`. */
  resolve(host: string): Promise<readonly string[]>;
  /**
   * Connects to a Unix socket; the connection's addresses are its path and port 0. Rejects as `dial`, and with
   * `not_supported` where Unix sockets are unavailable.
   */
  dialUnix(options: DialUnixOptions): Promise<Conn>;
  /**
   * Accepts connections at a Unix socket. The permissions of its directory decide who may connect. Rejects as `listen`,
   * and with `not_supported` where Unix sockets are unavailable.
   */
  listenUnix(options: ListenUnixOptions): Promise<Listener>;
  /** Opens a UDP socket; rejects as `listen`. */
  bindDatagram(options: DatagramOptions): Promise<DatagramSocket>;
  /** Starts an HTTP server; rejects as `listen`. */
  serveHttp(options: HttpOptions): Promise<HttpServer>;
  /** The runtime's QUIC; rejects with `not_supported` if it has none. */
  quic(): Promise<Quic>;
  /**
   * Ciphers from a system library, if the runtime's own are slow and such a library can be loaded; else none. Loaded at
   * the first call.
   */
  systemCiphers(): SystemCiphers;
  /**
   * Returns the memory that loading a program has left unused to the system; it takes some tens of milliseconds. Absent
   * if the runtime does so by itself.
   */
  releaseMemory?(): void;
}
