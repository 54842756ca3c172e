/**
 * One TCP connection on Deno that sends and receives at once, by the system's own calls.
 *
 * @module
 */

import type { Bytes } from "../port.ts";
import type { Shared } from "../shared.ts";
import { DenoConn } from "./deno_conn.ts";
import type { SystemSockets } from "./system_sockets.ts";

/**
 * Deno waits, with the smallest buffer, until bytes arrive or the socket takes more of those queued. What is more than
 * that buffer holds is then received into one that all connections share, and what the socket takes at once is sent from
 * where it is: bytes are copied only if their receiver is slow.
 */
export class ReadyConn extends DenoConn {
  readonly #sockets: SystemSockets;
  readonly #descriptor: number;
  #first: Bytes | null = null;

  constructor(
    conn: Deno.TcpConn | Deno.UnixConn,
    shared: Shared,
    sockets: SystemSockets,
    descriptor: number,
  ) {
    super(conn, shared);
    this.#sockets = sockets;
    this.#descriptor = descriptor;
  }

  override get heldBytes(): number {
    return this.bufferedBytes;
  }

  protected override readBelow(): Promise<number | null> {
    this.#first ??= this.pool.takeIdle();
    return this.conn.read(this.#first);
  }

  protected override bytesOf(count: number | null): Bytes | null {
    const first = this.#first!;
    if (count === null) return null;
    if (count < first.length) return first.subarray(0, count);
    // What is kept for later mustn't be in the shared buffer.
    return this.flowing ? this.#sockets.receive(this.#descriptor, first) : first;
  }

  protected override readingPaused(): void {
    if (this.#first !== null) this.pool.give(this.#first);
    this.#first = null;
  }

  protected override writeNow(bytes: Bytes): number {
    return this.#sockets.send(this.#descriptor, bytes);
  }
}
