/**
 * One TCP connection on Deno, on a TCP handle.
 *
 * @module
 */

import type { BulkPace } from "../bulk_pace.ts";
import type { ClosePace, PacedClose } from "../close_pace.ts";
import type { DescriptorGuard } from "../descriptors.ts";
import { type BufferPool, OutQueue } from "../out_queue.ts";
import { type Address, type Bytes, type Clock, type Conn, KEEP_ALIVE_MS } from "../port.ts";
import { type Faults, lostError, type Shared } from "../shared.ts";
import { StreamBase } from "../stream_base.ts";
import type { WriteMarks } from "../promise_stream.ts";
import { writeMarks } from "./write_marks.ts";
import type { DirectWriter, SystemSockets } from "./system_sockets.ts";
import {
  addressOf,
  END,
  systemError,
  type TcpHandle,
  type TcpHandles,
  type TcpRequest,
} from "./tcp_handles.ts";

/** After a read of so many bytes others have their turn: a handle goes on reading as long as bytes arrive. */
const YIELD_BYTES = 4 * 1024;
/** Chunks of at least this size are worth a descriptor of their own. */
const DIRECT_MIN_BYTES = 16 * 1024;
/** The address of a connection that is already over. */
const NOWHERE: Address = { host: "", port: 0 };

/** What connections on handles share. */
export interface HandleShared extends Shared {
  readonly handles: TcpHandles;
  readonly sockets: SystemSockets | undefined;
}

/** A TCP connection on a {@link TcpHandle}. */
export class HandleConn extends StreamBase implements Conn, PacedClose {
  readonly remote: Address;
  protected readonly clock: Clock;
  protected readonly faults: Faults;
  readonly #handle: TcpHandle;
  readonly #handles: TcpHandles;
  readonly #pool: BufferPool;
  readonly #pace: BulkPace;
  readonly #closing: ClosePace;
  #local: Address | undefined;
  readonly #sockets: SystemSockets | undefined;
  readonly #descriptors: DescriptorGuard;
  #direct: DirectWriter | undefined;
  #out: OutQueue | null = null;
  /** Bytes of the queue's head that are being written; the handle reads them from there. */
  #writingBytes = 0;
  #drainWanted = false;
  #sessionMarks: WriteMarks | undefined;
  #reading = false;
  #hasRead = false;
  /** Whether reading waits for other connections to have their turn. */
  #resting = false;
  #finSent = false;
  /** The handle's request: one write at a time. */
  readonly #request = new WriteRequest(this);

  constructor(handle: TcpHandle, remote: Address, shared: HandleShared) {
    super();
    this.remote = remote;
    this.#handle = handle;
    this.#handles = shared.handles;
    this.#sockets = shared.sockets;
    this.#descriptors = shared.descriptors;
    this.#pool = shared.pool;
    this.#pace = shared.pace;
    this.#closing = shared.closing;
    this.clock = shared.clock;
    this.faults = shared.faults;
    handle.owner = this;
    handle.onread = onRead;
  }

  get local(): Address {
    return this.#local ??= (this.dead ? undefined : addressOf(this.#handle, "getsockname")) ?? NOWHERE;
  }

  keepAlive(): void {
    if (!this.dead) this.#handle.setKeepAlive(true, KEEP_ALIVE_MS / 1000);
  }

  carrySession(writeAheadBytes: number): void {
    this.#sessionMarks = { highBytes: writeAheadBytes, lowBytes: writeAheadBytes / 2 };
  }

  get bufferedBytes(): number {
    return this.#out === null ? 0 : this.#out.bytes;
  }

  get heldBytes(): number {
    return this.bufferedBytes;
  }

  write(chunk: Bytes): boolean {
    if (this.writeEnded || this.dead || chunk.length === 0) return true;
    const sent = chunk.length < DIRECT_MIN_BYTES || this.bufferedBytes > 0 ? 0 : this.#sendDirectly(chunk);
    if (sent === chunk.length) return true;
    const out = this.#out ??= new OutQueue(this.#pool);
    // Copied first: what the socket doesn't take at once is read from there later.
    out.push(chunk, sent);
    if (this.#writingBytes === 0) this.#writeOut(out);
    if (out.bytes < writeMarks(this.#sessionMarks, this.#pool.memory).highBytes) return true;
    this.#drainWanted = true;
    return false;
  }

  #sendDirectly(chunk: Bytes): number {
    if (this.#direct === undefined) {
      if (this.#sockets === undefined || !this.#descriptors.spare()) return 0;
      this.#direct = this.#sockets.open(this.#handle);
    }
    const sent = this.#direct.send(chunk);
    if (sent > 0) this.#pace.mayGoOn(sent, this.#session);
    return sent;
  }

  closeWrite(): void {
    if (this.writeEnded || this.dead) return;
    this.writeEnded = true;
    if (this.bufferedBytes === 0) this.#shutdown();
  }

  /** Writes until the socket is full. An error is reported later, since this may be the owner's call. */
  #writeOut(out: OutQueue): void {
    while (out.bytes > 0) {
      const head = out.head();
      const status = this.#handle.writeBuffer(this.#request, head);
      if (status !== 0) return this.#breakSoon(status);
      // The reader of these bytes waits for them.
      this.#pace.mayGoOn(head.length, this.#session);
      if (this.#handles.isWriting) {
        this.#request.buffer = head;
        this.#writingBytes = head.length;
        return;
      }
      out.consume(head.length);
    }
    out.release();
  }

  /** Called by the handle. */
  written(status: number): void {
    const byteLength = this.#writingBytes;
    this.#writingBytes = 0;
    this.#request.buffer = undefined;
    if (this.dead) return;
    if (status !== 0) return this.#broken(status);
    const out = this.#out!;
    out.consume(byteLength);
    this.#writeOut(out);
    if (this.dead) return;
    if (this.writeEnded) {
      if (out.bytes === 0) this.#shutdown();
      return;
    }
    if (!this.#drainWanted || out.bytes > writeMarks(this.#sessionMarks, this.#pool.memory).lowBytes) return;
    this.#drainWanted = false;
    this.emitDrain();
  }

  #shutdown(): void {
    if (this.endDelivered) return this.closeInOrder();
    const status = this.#handle.shutdown(new ShutdownRequest(this));
    if (status !== 0) this.#breakSoon(status);
  }

  /** Called by the handle. */
  shutDown(status: number): void {
    if (this.dead) return;
    if (status !== 0) return this.#broken(status);
    this.#finSent = true;
    this.writingDone();
    this.#finishIfOver();
  }

  #breakSoon(status: number): void {
    queueMicrotask(() => this.#broken(status));
  }

  /** Must not be called from within a call by the owner. */
  #broken(status: number): void {
    if (this.dead) return;
    this.dead = true;
    this.destroy(false);
    this.emitClose(lostError(systemError(status)));
  }

  protected destroy(hard: boolean): void {
    // The handle may still read what is being written.
    this.#out?.clear(this.#writingBytes > 0);
    this.stopFlow();
    if (hard) this.#handle.reset();
    this.#closing.soon(this);
  }

  closeNow(): void {
    this.#direct?.close();
    this.#handle.close();
  }

  protected startFlow(): void {
    if (this.#reading || this.#resting || this.endDelivered) return;
    this.#reading = true;
    if (!this.#hasRead) this.#handle.useUserBuffer(this.#handles.received);
    this.#hasRead = true;
    this.#handle.readStart();
  }

  protected stopFlow(): void {
    if (!this.#reading) return;
    this.#reading = false;
    this.#handle.readStop();
  }

  /** Something arrived: bytes, the end, or an error. */
  received(): void {
    const count = this.#handles.readResult;
    if (this.dead || !this.#reading) return;
    if (count > 0) {
      this.emitData(this.#handles.received.subarray(0, count));
      if (this.dead || !this.#reading) return;
      if (!this.#pace.mayGoOn(count, this.#session)) this.#restForOthers(count);
      else if (count >= YIELD_BYTES) this.#rest(queueMicrotask);
    } else if (count === END) {
      this.#reading = false;
      this.emitEnd();
      this.#finishIfOver();
    } else if (count < 0) this.#broken(count);
  }

  #restForOthers(count: number): void {
    this.#rest((goOn) => this.#pace.wait(count, this.#session, goOn));
  }

  #rest(until: (goOn: () => void) => void): void {
    this.stopFlow();
    this.#resting = true;
    until(() => {
      this.#resting = false;
      if (this.flowing) this.startFlow();
    });
  }

  get #session(): object | undefined {
    return this.#sessionMarks === undefined ? undefined : this;
  }

  #finishIfOver(): void {
    if (this.dead || !this.#finSent || !this.endDelivered) return;
    this.dead = true;
    this.destroy(false);
    this.emitClose();
  }
}

/** A connection's request to write: one at a time. */
class WriteRequest implements TcpRequest {
  readonly #conn: HandleConn;
  buffer: Bytes | undefined;

  constructor(conn: HandleConn) {
    this.#conn = conn;
  }

  oncomplete(status: number): void {
    this.#conn.written(status);
  }
}

class ShutdownRequest implements TcpRequest {
  readonly #conn: HandleConn;

  constructor(conn: HandleConn) {
    this.#conn = conn;
  }

  oncomplete(status: number): void {
    this.#conn.shutDown(status);
  }
}

/** Shared by all handles. */
function onRead(this: TcpHandle): void {
  (this.owner as HandleConn).received();
}
