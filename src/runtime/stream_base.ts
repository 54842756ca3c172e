/**
 * The common part of byte streams: event delivery, and confining a handler's exception to its own connection.
 *
 * @module
 */

import type { Bytes } from "../bytes/bytes.ts";
import { SallyportError } from "../errors.ts";
import type { ByteStream, ByteStreamHandler, Clock, Timer } from "./port.ts";
import type { Faults } from "./shared.ts";
import { LINGER_MS } from "./port.ts";

/**
 * Base of the adapters' connections. Subclasses call the `emit` methods only from the runtime's callbacks or from
 * microtasks, never from within a method called by the stream's owner.
 */
export abstract class StreamBase implements ByteStream {
  #handler: ByteStreamHandler | null = null;
  #paused = false;
  #closed = false;
  /** Set once only `close` may still be delivered. */
  protected dead = false;
  /** `end` has been delivered. */
  protected endDelivered = false;
  /** `closeWrite` has been called. */
  protected writeEnded = false;
  #closeError: Error | undefined;
  #closePending = false;
  #released = false;
  #lingerTimer: Timer | null = null;
  /** Bytes queued when the linger timer was set. */
  #lingerBytes = 0;

  abstract write(chunk: Bytes): boolean;
  abstract closeWrite(): void;
  abstract readonly bufferedBytes: number;
  /** Clock for the linger timeout. */
  protected abstract readonly clock: Clock;
  /** How long a released stream waits for its peer's end once everything is written. */
  protected get lingerMs(): number {
    return LINGER_MS;
  }
  /** Receives exceptions thrown by handlers. */
  protected abstract readonly faults: Faults;
  /**
   * Closes the underlying connection at once; drops queued and held bytes. `hard` sends a reset, where possible;
   * otherwise bytes already handed on still reach the peer. Called once, with `dead` set.
   */
  protected abstract destroy(hard: boolean): void;
  /** The stream may deliver (again): called at the first attach, resume and release, from within the owner's call. */
  protected abstract startFlow(): void;
  /** The stream must stop delivering: called at pause, from within the owner's call. */
  protected abstract stopFlow(): void;

  /** Whether data and end may be delivered now. */
  protected get flowing(): boolean {
    return !this.dead && (this.#released || (!this.#paused && this.#handler !== null));
  }

  attach(handler: ByteStreamHandler): void {
    const first = this.#handler === null;
    this.#handler = handler;
    if (!first) return;
    if (this.#closePending) this.#closeSoon(this.#closeError);
    else if (this.flowing) this.startFlow();
  }

  pause(): void {
    if (this.#paused || this.#released) return;
    this.#paused = true;
    if (!this.dead) this.stopFlow();
  }

  resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    if (this.flowing) this.startFlow();
  }

  abort(error?: Error): void {
    if (this.dead) return;
    this.dead = true;
    this.destroy(true);
    this.#closeSoon(error);
  }

  // Apart, since a closure costs the call that contains it even where it isn't made.
  #closeSoon(error?: Error): void {
    queueMicrotask(() => this.emitClose(error));
  }

  release(): void {
    if (this.dead || this.#released) return;
    this.#released = true;
    this.closeWrite();
    if (this.dead) return;
    this.#linger();
    this.startFlow();
  }

  /**
   * The peer has ended, everything written is in flight, and our own end was requested: closing the connection sends
   * FIN and saves a separate call.
   */
  protected closeInOrder(): void {
    this.dead = true;
    this.destroy(false);
    this.#closeSoon();
  }

  /** FIN was sent, after everything written. */
  protected writingDone(): void {
    if (this.#released) this.#linger(this.bufferedBytes === 0 ? this.lingerMs : undefined);
  }

  #linger(waitMs = LINGER_MS): void {
    this.#lingerTimer?.cancel();
    this.#lingerBytes = this.bufferedBytes;
    this.#lingerTimer = this.clock.after(waitMs, () => this.#lingered());
  }

  #lingered(): void {
    if (this.dead) return;
    const left = this.bufferedBytes;
    // A slow reader gets more time as long as it reads.
    if (left !== this.#lingerBytes) {
      this.#linger();
      return;
    }
    this.dead = true;
    this.destroy(left > 0);
    if (left === 0) this.emitClose();
    else {
      const message = `Connection abandoned: the peer read none of ${left} bytes within ${LINGER_MS} ms`;
      this.emitClose(new SallyportError("deadline_exceeded", message, { side: "network" }));
    }
  }

  /** Delivers bytes; call it while {@link flowing}. */
  protected emitData(chunk: Bytes): void {
    if (this.#released) return;
    try {
      this.#handler!.data(chunk);
    } catch (thrown) {
      this.abort(this.faults.report("connection", thrown));
    }
  }

  /** Delivers the peer's end; call it while {@link flowing}, once. */
  protected emitEnd(): void {
    this.endDelivered = true;
    if (this.#released) return;
    try {
      this.#handler!.end();
    } catch (thrown) {
      this.abort(this.faults.report("connection", thrown));
    }
  }

  /** Reports that `write` accepts bytes again. */
  protected emitDrain(): void {
    if (this.dead || this.#released || this.#handler === null) return;
    try {
      this.#handler.drain();
    } catch (thrown) {
      this.abort(this.faults.report("connection", thrown));
    }
  }

  /** Delivers `close`, or keeps it for the first attach; later calls do nothing. */
  protected emitClose(error?: Error): void {
    this.dead = true;
    this.#lingerTimer?.cancel();
    this.#lingerTimer = null;
    if (this.#closed) return;
    if (this.#handler === null) {
      if (!this.#closePending) this.#closeError = error;
      this.#closePending = true;
      return;
    }
    this.#closed = true;
    try {
      this.#handler.close(error);
    } catch (thrown) {
      this.faults.report("connection", thrown);
    }
  }
}
