/**
 * One TCP connection on Deno.
 *
 * @module
 */

import { part } from "../../bytes/bytes.ts";
import type { ClosePace, PacedClose } from "../close_pace.ts";
import { BUFFER_SIZES } from "../out_queue.ts";
import { type Address, type Bytes, type Conn, KEEP_ALIVE_MS } from "../port.ts";
import { plainHost, type Shared } from "../shared.ts";
import { PromiseStream, type WriteMarks } from "../promise_stream.ts";
import type { TcpHandles } from "./tcp_handles.ts";
import { writeMarks } from "./write_marks.ts";

/** A read that waited this long marks the connection as idle; the next one uses the small buffer again. */
const IDLE_READ_MS = 1_000;

/** What connections on Deno share. */
export interface DenoShared extends Shared {
  readonly handles?: TcpHandles | undefined;
}

/** A TCP connection on a `Deno.Conn`. */
export class DenoConn extends PromiseStream<number | null> implements Conn, PacedClose {
  readonly remote: Address;
  readonly local: Address;
  /** Deno has one way to close: bytes already handed on are sent, followed by FIN. */
  protected override readonly closesAsEnd = true;
  protected readonly conn: Deno.TcpConn | Deno.UnixConn;
  readonly #closing: ClosePace;
  readonly #handles: TcpHandles | undefined;
  #sessionMarks: WriteMarks | undefined;
  #readBuffer: Bytes | null = null;
  /**
   * 0 for the idle buffer, else the pool's index plus one. Most connections start with more than the idle buffer holds.
   */
  #readSize = 1;
  #hasRead = false;
  /** Bytes of the last read, and how long it waited. */
  #count = 0;
  #waitedMs = 0;

  constructor(conn: Deno.TcpConn | Deno.UnixConn, shared: DenoShared) {
    super(shared);
    if ("setNoDelay" in conn) conn.setNoDelay(true);
    this.conn = conn;
    this.#closing = shared.closing;
    this.#handles = shared.handles;
    this.remote = addressOf(conn.remoteAddr);
    this.local = addressOf(conn.localAddr);
  }

  keepAlive(): void {
    if (!("setKeepAlive" in this.conn) || this.dead) return;
    // Deno itself can't set the time: Linux uses net.ipv4.tcp_keepalive_time, two hours by default.
    if (this.#handles?.keepAlive(this.conn, KEEP_ALIVE_MS / 1000) !== true) this.conn.setKeepAlive(true);
  }

  get heldBytes(): number {
    return this.bufferedBytes + (this.#readSize === 0 ? 0 : this.#readBuffer?.length ?? 0);
  }

  carrySession(writeAheadBytes: number): void {
    this.isSession = true;
    this.#sessionMarks = { highBytes: writeAheadBytes, lowBytes: writeAheadBytes / 2 };
    // An agent is idle once admitted: the bytes of its handshake say nothing about what follows.
    this.#hasRead = false;
    if (this.#readBuffer === null) this.#readSize = 0;
  }

  protected get marks(): WriteMarks {
    return writeMarks(this.#sessionMarks, this.pool.memory);
  }

  protected readBelow(): Promise<number | null> {
    // The last read's bytes have been delivered.
    if (this.#readBuffer !== null) this.#fitReadBuffer(this.#readBuffer);
    this.#readBuffer ??= this.#takeReadBuffer();
    this.#waitedMs = -Date.now();
    return this.conn.read(this.#readBuffer);
  }

  protected bytesOf(count: number | null): Bytes | null {
    if (count === null) return null;
    this.#count = count;
    this.#waitedMs += Date.now();
    return part(this.#readBuffer!, 0, count);
  }

  protected writeBelow(bytes: Bytes): Promise<number> {
    return this.conn.write(bytes);
  }

  protected closeWriteBelow(): Promise<void> {
    return this.conn.closeWrite();
  }

  protected destroyBelow(): void {
    this.#closing.soon(this);
  }

  closeNow(): void {
    try {
      this.conn.close();
    } catch {
      // Already closed.
    }
  }

  protected finishBelow(): void {
    this.destroy(false);
  }

  protected override readingPaused(): void {
    if (this.#readBuffer !== null) this.pool.takeBack(this.#readBuffer);
    this.#readBuffer = null;
  }

  #takeReadBuffer(): Bytes {
    return this.#readSize === 0 ? this.pool.takeIdle() : this.pool.lend(this.#readSize - 1);
  }

  /**
   * A full read switches to a much larger buffer, so that transfers speed up quickly; a small one to a smaller buffer.
   * Sparse traffic ends with the idle buffer, which also follows the first read.
   */
  #fitReadBuffer(buffer: Bytes): void {
    const count = this.#count;
    let size = this.#readSize;
    if (count === buffer.length) {
      const { heldBytes, limitBytes } = this.pool.memory;
      // When memory is short, speed is sacrificed.
      if (heldBytes < limitBytes / 2) size = Math.min(size + 2, BUFFER_SIZES.length);
    } else if (!this.#hasRead || (size > 0 && this.#waitedMs > IDLE_READ_MS)) {
      size = 0;
    } else {
      while (size > 1 && count < buffer.length >> 2 && BUFFER_SIZES[size - 2]! >= count * 2) size--;
    }
    this.#hasRead = true;
    if (size === this.#readSize) return;
    this.readingPaused();
    this.#readSize = size;
  }
}

function addressOf(address: Deno.NetAddr | Deno.UnixAddr): Address {
  if ("path" in address) return { host: address.path ?? "", port: 0 };
  return { host: plainHost(address.hostname), port: address.port };
}
