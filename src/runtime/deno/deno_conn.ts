/**
 * One TCP connection on Deno.
 *
 * @module
 */

import { BUFFER_SIZES } from "../out_queue.ts";
import type { Address, Bytes, Conn } from "../port.ts";
import { plainHost, type Shared } from "../shared.ts";
import { PromiseStream } from "../promise_stream.ts";

const KiB = 1024;
/**
 * The buffer of a connection without traffic: 5.6 KB per idle connection, where 16 KiB make 20.5 (docs/runtimes.md). An agent's
 * last words in the handshake don't fill it, with the first ping behind them.
 */
const IDLE_READ_BYTES = 128;
/** A read that waited this long found an idle connection; the next gets the small buffer again. */
const IDLE_READ_MS = 1_000;
const MARKS = { highBytes: 128 * KiB, lowBytes: 64 * KiB };

/** A TCP connection on a `Deno.Conn`. */
export class DenoConn extends PromiseStream<number | null> implements Conn {
  readonly remote: Address;
  readonly local: Address;
  /** Deno has one way to close: what has been handed on goes out, and FIN behind it. */
  protected override readonly closesAsEnd = true;
  readonly #conn: Deno.TcpConn | Deno.UnixConn;
  #readBuffer: Bytes | null = null;
  /** 0 for the idle buffer, else one more than the pool's index. Most begin with more than the idle one holds. */
  #readSize = 1;
  #hasRead = false;
  /** What the last read brought, and how long it waited. */
  #count = 0;
  #waitedMs = 0;

  constructor(conn: Deno.TcpConn | Deno.UnixConn, shared: Shared) {
    super(shared, MARKS);
    if ("setNoDelay" in conn) conn.setNoDelay(true);
    this.#conn = conn;
    this.remote = addressOf(conn.remoteAddr);
    this.local = addressOf(conn.localAddr);
  }

  keepAlive(): void {
    // Deno can't set the time: Linux begins after net.ipv4.tcp_keepalive_time, two hours by default.
    if ("setKeepAlive" in this.#conn && !this.dead) this.#conn.setKeepAlive(true);
  }

  get heldBytes(): number {
    return this.bufferedBytes + (this.#readSize === 0 ? 0 : this.#readBuffer?.length ?? 0);
  }

  writeAhead(byteLength: number): void {
    this.marks = { highBytes: byteLength, lowBytes: byteLength / 2 };
  }

  protected readBelow(): Promise<number | null> {
    // What the last read brought has been delivered.
    if (this.#readBuffer !== null) this.#fitReadBuffer(this.#readBuffer);
    this.#readBuffer ??= this.#takeReadBuffer();
    this.#waitedMs = -Date.now();
    return this.#conn.read(this.#readBuffer);
  }

  protected bytesOf(count: number | null): Bytes | null {
    if (count === null) return null;
    this.#count = count;
    this.#waitedMs += Date.now();
    const buffer = this.#readBuffer!;
    return count === buffer.length ? buffer : buffer.subarray(0, count);
  }

  protected writeBelow(bytes: Bytes): Promise<number> {
    return this.#conn.write(bytes);
  }

  protected closeWriteBelow(): Promise<void> {
    return this.#conn.closeWrite();
  }

  protected destroyBelow(): void {
    try {
      this.#conn.close();
    } catch {
      // Closed already.
    }
  }

  protected finishBelow(): void {
    this.destroy(false);
  }

  protected override readingPaused(): void {
    if (this.#readBuffer !== null) this.pool.give(this.#readBuffer);
    this.#readBuffer = null;
  }

  #takeReadBuffer(): Bytes {
    return this.#readSize === 0 ? new Uint8Array(IDLE_READ_BYTES) : this.pool.take(this.#readSize - 1);
  }

  /**
   * Full reads take a much larger buffer, so that a transfer is soon under way; small ones a smaller one; sparse traffic
   * ends at the idle one, which is also next behind the first read: an agent is idle once it's let in.
   */
  #fitReadBuffer(buffer: Bytes): void {
    const count = this.#count;
    let size = this.#readSize;
    if (count === buffer.length) {
      const { heldBytes, limitBytes } = this.pool.memory;
      // Where memory is short, speed is what is given up.
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
