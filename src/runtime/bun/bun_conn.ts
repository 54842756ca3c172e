/**
 * One TCP connection on Bun. All sockets share one set of handlers; a connection's state is in its socket's `data`
 * slot.
 *
 * @module
 */

import { type BufferPool, OutQueue } from "../out_queue.ts";
import type { BulkPace } from "../bulk_pace.ts";
import type { ClosePace, PacedClose } from "../close_pace.ts";
import { type Address, type Bytes, type Clock, type Conn, KEEP_ALIVE_MS } from "../port.ts";
import { type Faults, lostError, plainHost, type Shared } from "../shared.ts";
import { StreamBase } from "../stream_base.ts";
import type { BunSocket, BunSocketHandler } from "./bun_types.ts";

/** Shared by all connections without kept chunks; never modified. */
const NOTHING: Bytes[] = [];
/**
 * Chunks of at least this size are freed as soon as they have been delivered; for smaller ones that costs more than it
 * saves.
 */
const FREED_MIN_BYTES = 8 * 1024;

/** Content of a socket's `data` slot before the connection is established. */
export interface NewSocket {
  readonly shared: Shared;
  /** The path of the dialled Unix socket; its connections have no other address. */
  readonly unixPath?: string | undefined;
  /** Accepts the new connection; an exception aborts it. */
  accept(conn: BunConn): void;
  /** A dial has failed. */
  fail?(error: unknown): void;
}

/** Content of a socket's `data` slot: its connection, once established. */
export type SocketOwner = NewSocket | BunConn;

/** A TCP connection on a Bun socket. */
export class BunConn extends StreamBase implements Conn, PacedClose {
  protected readonly clock: Clock;
  protected readonly faults: Faults;
  #socket: BunSocket<SocketOwner>;
  #pool: BufferPool;
  readonly #pace: BulkPace;
  readonly #closing: ClosePace;
  #out: OutQueue | null = null;
  #remote: Address | undefined;
  #local: Address | undefined;
  #drainWanted = false;
  /** Chunks received while they couldn't be delivered. Bun allocates a new buffer for each, so no copy is needed. */
  #kept: Bytes[] = NOTHING;
  #keptBytes = 0;
  #socketPaused = false;
  /** Whether reading waits for other connections to have their turn. */
  #resting = false;
  /** This connection, if it carries a session. */
  #session: BunConn | undefined;
  /** Whether the peer's FIN arrived while it couldn't be delivered. */
  #endKept = false;
  /** Whether Bun has closed the socket. */
  #gone = false;
  /** Whether it is to be closed with a reset. */
  #hardClose = false;
  /** Whether one of our methods is running; socket events meanwhile must wait until it returns. */
  #inMethod = false;

  constructor(
    socket: BunSocket<SocketOwner>,
    { pool, pace, closing, clock, faults }: Shared,
    unixPath?: string,
  ) {
    super();
    if (unixPath !== undefined) this.#remote = this.#local = { host: unixPath, port: 0 };
    this.#socket = socket;
    this.#pool = pool;
    this.#pace = pace;
    this.#closing = closing;
    this.clock = clock;
    this.faults = faults;
  }

  /** Read on demand, since each part is a system call. Cached, since a closed socket no longer has it. */
  get remote(): Address {
    const socket = this.#socket;
    return this.#remote ??= { host: plainHost(socket.remoteAddress ?? ""), port: socket.remotePort };
  }

  get local(): Address {
    const socket = this.#socket;
    return this.#local ??= { host: plainHost(socket.localAddress ?? ""), port: socket.localPort };
  }

  keepAlive(): void {
    if (!this.#gone) this.#socket.setKeepAlive(true, KEEP_ALIVE_MS);
  }

  /** Bun writes at once: nothing is written ahead. */
  carrySession(): void {
    this.#session = this;
  }

  get bufferedBytes(): number {
    return this.#out === null ? 0 : this.#out.bytes;
  }

  get heldBytes(): number {
    return this.bufferedBytes + this.#keptBytes;
  }

  write(chunk: Bytes): boolean {
    if (this.writeEnded || this.dead || this.#gone) return true;
    if (this.#out !== null && this.#out.bytes > 0) {
      this.#out.push(chunk);
      return false;
    }
    if (chunk.length === 0) return true;
    this.#inMethod = true;
    const sent = this.#socket.write(chunk);
    this.#inMethod = false;
    if (sent === chunk.length) return true;
    // Negative: the socket is closed or about to be; `close` follows.
    if (sent < 0) return true;
    this.#out ??= new OutQueue(this.#pool);
    this.#out.push(chunk, sent);
    this.#drainWanted = true;
    return false;
  }

  closeWrite(): void {
    if (this.writeEnded || this.dead) return;
    this.writeEnded = true;
    if (this.bufferedBytes === 0) this.#shutdown();
  }

  #shutdown(): void {
    if (this.#gone) return;
    if (this.endDelivered) return this.closeInOrder();
    this.#inMethod = true;
    this.#socket.shutdown();
    this.#inMethod = false;
    this.writingDone();
  }

  protected destroy(hard: boolean): void {
    this.#out?.clear();
    this.#dropKept();
    if (this.#gone) return;
    this.#hardClose = hard;
    this.#closing.soon(this);
  }

  closeNow(): void {
    if (this.#gone) return;
    if (this.#hardClose) this.#socket.terminate();
    else this.#socket.close();
  }

  protected startFlow(): void {
    if (this.#kept.length > 0 || this.#endKept || this.#gone) this.#deliverKeptSoon();
    else this.#resumeSocket();
  }

  #deliverKeptSoon(): void {
    queueMicrotask(() => this.#deliverKept());
  }

  protected stopFlow(): void {
    if (this.#socketPaused || this.#gone) return;
    this.#socketPaused = true;
    this.#socket.pause();
  }

  #resumeSocket(): void {
    if (!this.#socketPaused || this.#resting || this.#gone) return;
    this.#socketPaused = false;
    this.#inMethod = true;
    this.#socket.resume();
    this.#inMethod = false;
  }

  #restReading(byteLength: number): void {
    // Bytes may come while it rests: an error delivers them.
    if (this.#resting) return;
    this.#resting = true;
    this.stopFlow();
    this.#pace.wait(byteLength, this.#session, () => {
      this.#resting = false;
      if (this.flowing) this.startFlow();
    });
  }

  #deliverKept(): void {
    while (this.flowing && this.#kept.length > 0) {
      const chunk = this.#kept.shift()!;
      this.#keptBytes -= chunk.length;
      this.#pool.memory.letGo(chunk.length);
      this.#deliver(chunk);
    }
    if (!this.flowing) return;
    if (this.#endKept) {
      this.#endKept = false;
      if (!this.endDelivered) this.emitEnd();
    }
    if (this.#gone) {
      if (!this.dead) this.emitClose();
    } else if (this.flowing) this.#resumeSocket();
  }

  /** Bytes arrived. Even a paused socket delivers them if an error follows. */
  received(chunk: Bytes): void {
    if (this.dead) return;
    if (this.flowing && this.#kept.length === 0) {
      const byteLength = chunk.length;
      this.#deliver(chunk);
      if (!this.dead && !this.#pace.mayGoOn(byteLength, this.#session)) this.#restReading(byteLength);
      return;
    }
    if (this.#kept === NOTHING) this.#kept = [];
    this.#kept.push(chunk);
    this.#keptBytes += chunk.length;
    this.#pool.memory.hold(chunk.length);
    this.stopFlow();
  }

  #dropKept(): void {
    this.#kept = NOTHING;
    this.#pool.memory.letGo(this.#keptBytes);
    this.#keptBytes = 0;
  }

  /**
   * Bun allocates a new buffer for each chunk. Left to the garbage collector, megabytes of them are returned to the
   * system and faulted in again page by page, which took a third of a transfer's CPU time; if detached, the next chunk
   * gets the same warm memory.
   */
  #deliver(chunk: Bytes): void {
    this.emitData(chunk);
    if (chunk.length >= FREED_MIN_BYTES) chunk.buffer.transfer(0);
  }

  /** The peer's FIN arrived. */
  peerEnded(): void {
    if (this.dead || this.endDelivered) return;
    if (this.flowing && this.#kept.length === 0) this.emitEnd();
    else this.#endKept = true;
  }

  /** The socket accepts bytes again; Bun also reports this when nothing is queued. */
  drained(): void {
    const out = this.#out;
    if (out === null || this.dead) return;
    while (out.bytes > 0) {
      const head = out.head();
      const sent = this.#socket.write(head);
      if (sent < 0) {
        out.clear();
        return;
      }
      out.consume(sent);
      if (sent < head.length) return;
    }
    out.release();
    if (this.writeEnded) this.#shutdown();
    if (!this.#drainWanted) return;
    this.#drainWanted = false;
    if (!this.writeEnded) this.emitDrain();
  }

  /** The socket is closed. */
  socketClosed(error: Error | undefined): void {
    if (this.#gone) return;
    this.#gone = true;
    if (this.dead) return;
    if (this.#inMethod) this.#finishSoon(error);
    else this.#finish(error);
  }

  #finishSoon(error: Error | undefined): void {
    queueMicrotask(() => this.#finish(error));
  }

  #finish(error: Error | undefined): void {
    if (this.dead) return;
    // Unless our own FIN was sent after all written bytes, a close isn't clean even without an error.
    if (error !== undefined || !this.writeEnded || this.bufferedBytes > 0) {
      this.#out?.clear();
      this.#dropKept();
      this.emitClose(lostError(error));
      return;
    }
    if (this.endDelivered) {
      this.emitClose();
      return;
    }
    // After our own shutdown, Bun reports the peer's FIN as close, without `end`.
    this.#endKept = true;
    this.#deliverKept();
  }
}

/** The handlers shared by all sockets. */
export const socketHandlers: BunSocketHandler<SocketOwner> = Object.freeze({
  // A Buffer's `slice` is a view, a Uint8Array's a copy: handlers get a Uint8Array on both runtimes.
  binaryType: "uint8array",
  open(socket: BunSocket<SocketOwner>) {
    const fresh = socket.data as NewSocket;
    // No setNoDelay: Bun sets TCP_NODELAY itself, and setting it again costs a system call per connection.
    const conn = new BunConn(socket, fresh.shared, fresh.unixPath);
    socket.data = conn;
    try {
      fresh.accept(conn);
    } catch (thrown) {
      conn.abort(fresh.shared.faults.report("accept", thrown));
    }
  },
  data(socket: BunSocket<SocketOwner>, chunk: Uint8Array) {
    if (socket.data instanceof BunConn) socket.data.received(chunk as Bytes);
  },
  end(socket: BunSocket<SocketOwner>) {
    if (socket.data instanceof BunConn) socket.data.peerEnded();
  },
  drain(socket: BunSocket<SocketOwner>) {
    if (socket.data instanceof BunConn) socket.data.drained();
  },
  close(socket: BunSocket<SocketOwner>, error?: Error) {
    if (socket.data instanceof BunConn) socket.data.socketClosed(error);
  },
  error(socket: BunSocket<SocketOwner>, error: Error) {
    if (socket.data instanceof BunConn) socket.data.abort(error);
  },
  // With this method Bun doesn't report the rejection of the dial's promise as unhandled.
  connectError(socket: BunSocket<SocketOwner>, error: Error) {
    (socket.data as NewSocket).fail?.(error);
  },
});
