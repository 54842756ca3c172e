/**
 * One end of a TCP-like connection in memory.
 *
 * @module
 */

import { part } from "../../bytes/bytes.ts";
import type { SallyportError } from "../../errors.ts";
import type { Direction, MemoryLink } from "./memory_link.ts";
import type { Address, Bytes, Clock, Conn } from "../port.ts";
import { type Faults, lostError } from "../shared.ts";
import { StreamBase } from "../stream_base.ts";

/** Delivered bytes are overwritten with this when the handler returns, to expose handlers that keep a view. */
const POISON = 0xee;

/** One end of a connection. */
export class MemoryConn extends StreamBase implements Conn {
  readonly remote: Address;
  readonly local: Address;
  /** Called once, when no more events will follow. */
  over: (() => void) | undefined;
  protected readonly clock: Clock;
  protected readonly faults: Faults;
  #link: MemoryLink;
  #direction: Direction;
  #peer: MemoryConn | null = null;
  /** Written bytes beyond the window. */
  #out: Bytes[] = [];
  #outBytes = 0;
  #drainWanted = false;
  /** Bytes sent but not yet consumed by the other end's handler. */
  #unacknowledged = 0;
  /** Arrival time of the last bytes sent: later ones can't overtake them. */
  #lastArrivalMs = 0;
  #finSent = false;
  #received: Bytes[] = [];
  #finReceived = false;
  #deliveryDue = false;

  private constructor(link: MemoryLink, direction: Direction, local: Address, remote: Address) {
    super();
    this.clock = link.time.clock;
    this.faults = link.time.faults;
    this.#link = link;
    this.#direction = direction;
    this.local = local;
    this.remote = remote;
    link.conns.add(this);
  }

  /** Two connected ends: the dialler's, which sends in `direction`, and the listener's. */
  static pair(
    link: MemoryLink,
    direction: Direction,
    dialler: Address,
    listener: Address,
  ): [MemoryConn, MemoryConn] {
    const near = new MemoryConn(link, direction, dialler, listener);
    const far = new MemoryConn(link, direction === 0 ? 1 : 0, listener, dialler);
    near.#peer = far;
    far.#peer = near;
    return [near, far];
  }

  get bufferedBytes(): number {
    return this.#outBytes;
  }

  write(chunk: Bytes): boolean {
    if (this.writeEnded || this.dead) return true;
    if (chunk.length > 0) {
      this.#out.push(chunk.slice());
      this.#outBytes += chunk.length;
      this.#pump();
    }
    if (this.#outBytes === 0) return true;
    this.#drainWanted = true;
    return false;
  }

  closeWrite(): void {
    if (this.writeEnded || this.dead) return;
    this.writeEnded = true;
    this.#pump();
  }

  /** Sends as much as the window allows, and FIN after the last byte. */
  #pump(): void {
    const peer = this.#peer!;
    for (;;) {
      const room = this.#link.settings.windowBytes - this.#unacknowledged;
      const first = this.#out[0];
      if (first === undefined || room <= 0) break;
      const piece = part(first, 0, Math.min(first.length, room));
      if (piece === first) this.#out.shift();
      else this.#out[0] = first.subarray(room);
      this.#outBytes -= piece.length;
      this.#unacknowledged += piece.length;
      this.#send(piece.length, () => peer.#arrived(piece));
    }
    if (!this.writeEnded || this.#finSent || this.#outBytes > 0) return;
    this.#finSent = true;
    this.writingDone();
    this.#send(0, () => peer.#ended());
    this.#link.time.soon(() => this.#finishIfOver());
  }

  #send(bytes: number, arrive: () => void): void {
    this.#lastArrivalMs = this.#link.carry(this.#direction, bytes, this.#lastArrivalMs, arrive);
  }

  #arrived(piece: Bytes): void {
    if (this.dead) {
      // The receiver is gone, which TCP answers with RST.
      this.#send(0, () => this.#peer!.breakOff());
      return;
    }
    this.#received.push(piece);
    this.#deliverSoon();
  }

  #ended(): void {
    if (this.dead) return;
    this.#finReceived = true;
    this.#deliverSoon();
  }

  /** Each piece is a separate event, like each readiness of a socket. */
  #deliverSoon(): void {
    if (this.#deliveryDue) return;
    this.#deliveryDue = true;
    this.#link.time.soon(() => this.#deliverNext());
  }

  #deliverNext(): void {
    this.#deliveryDue = false;
    if (!this.flowing) return;
    const first = this.#received[0];
    if (first !== undefined) {
      const { pieceMaxBytes } = this.#link.settings;
      const length = Math.min(first.length, 1 + Math.floor(this.#link.random() * pieceMaxBytes));
      const piece = first.subarray(0, length);
      if (length === first.length) this.#received.shift();
      else this.#received[0] = first.subarray(length);
      this.emitData(piece);
      piece.fill(POISON);
      this.#acknowledge(length);
      this.#deliverSoon();
    } else if (this.#finReceived && !this.endDelivered) {
      this.emitEnd();
      this.#finishIfOver();
    }
  }

  #acknowledge(bytes: number): void {
    if (this.dead) return;
    const peer = this.#peer!;
    this.#send(0, () => peer.#acknowledged(bytes));
  }

  #acknowledged(bytes: number): void {
    if (this.dead) return;
    this.#unacknowledged -= bytes;
    this.#pump();
    if (!this.#drainWanted || this.#outBytes > 0) return;
    this.#drainWanted = false;
    if (!this.writeEnded) this.emitDrain();
  }

  protected destroy(hard: boolean): void {
    const peer = this.#peer!;
    this.#forget();
    if (hard) this.#send(0, () => peer.breakOff());
  }

  #forget(): void {
    this.#out = [];
    this.#outBytes = 0;
    this.#received = [];
    this.#link.conns.delete(this);
    this.over?.();
  }

  /** A reset arrived, or the network broke the connection. */
  breakOff(): void {
    this.lost(lostError({ code: "ECONNRESET" }));
  }

  /** The connection's carrier is lost. */
  lost(error: SallyportError): void {
    if (this.dead) return;
    this.dead = true;
    this.#forget();
    this.emitClose(error);
  }

  protected startFlow(): void {
    this.#deliverSoon();
  }

  protected stopFlow(): void {
    // Deliveries check whether they may proceed.
  }

  #finishIfOver(): void {
    if (this.dead || !this.#finSent || !this.endDelivered) return;
    this.dead = true;
    this.#forget();
    this.emitClose();
  }
}
