/**
 * One TCP connection on Deno: one read loop and one write loop make callbacks of `read(buffer)` and `write(buffer)`.
 *
 * @module
 */

import { BUFFER_SIZES, type BufferPool, OutQueue } from "../out_queue.ts";
import type { Address, Bytes, Clock, Conn } from "../port.ts";
import { type Faults, lostError, plainHost, type Shared } from "../shared.ts";
import { StreamBase } from "../stream_base.ts";

const KiB = 1024;
/**
 * The buffer of a connection without traffic: 5.6 KB per idle connection, where 16 KiB make 20.5 (docs/runtimes.md). An agent's
 * last words in the handshake don't fill it, with the first ping behind them.
 */
const IDLE_READ_BYTES = 128;
/** A read that waited this long found an idle connection; the next gets the small buffer again. */
const IDLE_READ_MS = 1_000;
/** Waiting bytes at which `write` says false, and at which `drain` follows. */
const WRITE_HIGH_BYTES = 128 * KiB;
const WRITE_LOW_BYTES = 64 * KiB;

/** A TCP connection on a `Deno.Conn`. */
export class DenoConn extends StreamBase implements Conn {
  readonly remote: Address;
  readonly local: Address;
  protected readonly clock: Clock;
  protected readonly faults: Faults;
  #conn: Deno.TcpConn | Deno.UnixConn;
  #pool: BufferPool;
  #out: OutQueue | null = null;
  #writing = false;
  /** A write is under way in the runtime, which reads the queue's first buffer. */
  #writeInFlight = false;
  #drainWanted = false;
  #finSent = false;
  #readLooping = false;
  #readBuffer: Bytes | null = null;
  /** 0 for the idle buffer, else one more than the pool's index. Most begin with more than the idle one holds. */
  #readSize = 1;
  #hasRead = false;
  /** Bytes at the start of the read buffer that came while they couldn't be delivered. */
  #kept = 0;
  #endKept = false;

  constructor(conn: Deno.TcpConn | Deno.UnixConn, { pool, clock, faults }: Shared) {
    super();
    if ("setNoDelay" in conn) conn.setNoDelay(true);
    this.#conn = conn;
    this.#pool = pool;
    this.clock = clock;
    this.faults = faults;
    this.remote = addressOf(conn.remoteAddr);
    this.local = addressOf(conn.localAddr);
  }

  keepAlive(): void {
    // Deno can't set the time: Linux begins after net.ipv4.tcp_keepalive_time, two hours by default.
    if ("setKeepAlive" in this.#conn && !this.dead) this.#conn.setKeepAlive(true);
  }

  get bufferedBytes(): number {
    return this.#out === null ? 0 : this.#out.bytes;
  }

  write(chunk: Bytes): boolean {
    if (this.writeEnded || this.dead) return true;
    this.#out ??= new OutQueue(this.#pool);
    this.#out.push(chunk);
    this.#startWriting();
    if (this.#out.bytes < WRITE_HIGH_BYTES) return true;
    this.#drainWanted = true;
    return false;
  }

  closeWrite(): void {
    if (this.writeEnded || this.dead) return;
    this.writeEnded = true;
    this.#startWriting();
  }

  /** In a microtask, so that what is written in one turn leaves together. */
  #startWriting(): void {
    if (this.#writing) return;
    this.#writing = true;
    queueMicrotask(() => this.#writeLoop());
  }

  async #writeLoop(): Promise<void> {
    const out = this.#out;
    try {
      while (out !== null && out.bytes > 0) {
        this.#writeInFlight = true;
        const sent = await this.#conn.write(out.head());
        this.#writeInFlight = false;
        if (this.dead) return;
        out.consume(sent);
        if (this.#drainWanted && out.bytes <= WRITE_LOW_BYTES) {
          this.#drainWanted = false;
          if (!this.writeEnded) this.emitDrain();
        }
      }
      out?.release();
      this.#writing = false;
      if (!this.writeEnded || this.dead) return;
      if (this.endDelivered) return this.closeInOrder();
      // No further turn of this loop: writeEnded refuses new bytes.
      this.#writing = true;
      await this.#conn.closeWrite();
      this.#finSent = true;
      this.writingDone();
      this.#finishIfOver();
    } catch (error) {
      this.#lost(error);
    }
  }

  /** Deno has one way to close: what has been handed on goes out, and FIN behind it. */
  protected destroy(_hard: boolean): void {
    this.#out?.clear(this.#writeInFlight);
    if (!this.#readLooping) this.#releaseReadBuffer();
    this.#kept = 0;
    try {
      this.#conn.close();
    } catch {
      // Closed already.
    }
  }

  protected startFlow(): void {
    if (this.#readLooping) return;
    this.#readLooping = true;
    if (this.#kept > 0 || this.#endKept) queueMicrotask(() => this.#readLoop());
    else this.#readLoop();
  }

  protected stopFlow(): void {
    // The loop sees it behind the read under way.
  }

  async #readLoop(): Promise<void> {
    try {
      if (this.flowing && this.#kept > 0) this.#deliver(this.#readBuffer!, this.#kept);
      while (this.flowing && !this.#endKept && !this.endDelivered) {
        const buffer = this.#readBuffer ??= this.#takeReadBuffer();
        const since = Date.now();
        const count = await this.#conn.read(buffer);
        if (this.dead) break;
        if (count === null) {
          this.#endKept = true;
          break;
        }
        this.#kept = count;
        if (!this.flowing) break;
        this.#deliver(buffer, count);
        this.#fitReadBuffer(buffer, count, since);
      }
      if (this.#endKept && this.flowing) {
        this.#endKept = false;
        this.emitEnd();
      }
    } catch (error) {
      this.#lost(error);
    }
    this.#readLooping = false;
    if (this.#kept === 0) this.#releaseReadBuffer();
    this.#finishIfOver();
  }

  #deliver(buffer: Bytes, count: number): void {
    this.#kept = 0;
    if (count > 0) this.emitData(count === buffer.length ? buffer : buffer.subarray(0, count));
  }

  #takeReadBuffer(): Bytes {
    return this.#readSize === 0 ? new Uint8Array(IDLE_READ_BYTES) : this.#pool.take(this.#readSize - 1);
  }

  #releaseReadBuffer(): void {
    if (this.#readBuffer !== null) this.#pool.give(this.#readBuffer);
    this.#readBuffer = null;
  }

  /**
   * Full reads take the next larger buffer; small ones a smaller one; sparse traffic ends at the idle one, which is also
   * next behind the first read: an agent is idle once it's let in.
   */
  #fitReadBuffer(buffer: Bytes, count: number, since: number): void {
    let size = this.#readSize;
    if (count === buffer.length) {
      if (size < BUFFER_SIZES.length) size++;
    } else if (!this.#hasRead || (size > 0 && Date.now() - since > IDLE_READ_MS)) {
      size = 0;
    } else {
      while (size > 1 && count < buffer.length >> 2 && BUFFER_SIZES[size - 2]! >= count * 2) size--;
    }
    this.#hasRead = true;
    if (size === this.#readSize) return;
    this.#releaseReadBuffer();
    this.#readSize = size;
  }

  #finishIfOver(): void {
    if (this.dead || !this.#finSent || !this.endDelivered) return;
    this.dead = true;
    this.destroy(false);
    this.emitClose();
  }

  #lost(error: unknown): void {
    this.#writeInFlight = false;
    if (this.dead) return;
    this.dead = true;
    this.destroy(false);
    this.emitClose(lostError(error));
  }
}

function addressOf(address: Deno.NetAddr | Deno.UnixAddr): Address {
  if ("path" in address) return { host: address.path ?? "", port: 0 };
  return { host: plainHost(address.hostname), port: address.port };
}
