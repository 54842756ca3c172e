/**
 * A visitor's stream through another node. If the way to the agent is lost before the agent's first byte, because the
 * node has died or no longer holds the name, what the visitor has sent is sent again on another way.
 *
 * @module
 */
import type { Bytes } from "../bytes/bytes.ts";
import { SallyportError } from "../errors.ts";
import { type ByteStreamHandler, type Clock, IGNORE_STREAM, type Timer } from "../runtime/port.ts";
import type { Caller, SessionStream } from "../transport/port.ts";

/** How long another way to the agent is looked for: an agent whose node dies is at another one within half a second. */
export const FORWARD_AGAIN_MS = 3_000;
/** Interval of the attempts; the first one is made at once. */
export const FORWARD_AGAIN_PAUSE_MS = 250;
/** Bytes of a visitor kept until the agent answers; a visitor who sends more before is not tried again. */
export const FORWARD_KEPT_MAX_BYTES = 16 * 1024;

/** A stream to the agent: over a link, or in a session of this node. */
export interface Way {
  readonly stream: SessionStream;
  /** The stream is closed. */
  done?(): void;
}

/** Options of {@link ForwardedStream}. */
interface ForwardedStreamOptions {
  readonly clock: Clock;
  readonly caller: Caller;
  /** Opens another way; `cause` is why the last one was lost. Undefined if there is none now; rejects as `open` throws. */
  again(cause: SallyportError): Promise<Way | undefined>;
}

/** A stream whose way may change until the first byte comes back. */
export class ForwardedStream implements SessionStream, ByteStreamHandler {
  readonly #options: ForwardedStreamOptions;
  #handler: ByteStreamHandler = IGNORE_STREAM;
  #attached = false;
  #way: Way | undefined;
  /** What the visitor has sent; undefined once no other way is to be tried. */
  #kept: Bytes[] | undefined = [];
  #keptBytes = 0;
  #writeEnded = false;
  #paused = false;
  #closed = false;
  /** Why the last way was lost. */
  #cause: SallyportError | undefined;
  /** When looking for another way ends. */
  #untilMs: number | undefined;
  #timer: Timer | undefined;

  constructor(options: ForwardedStreamOptions, first: SessionStream) {
    this.#options = options;
    this.#way = { stream: first };
  }

  get caller(): Caller {
    return this.#options.caller;
  }

  get peerPaused(): boolean {
    return this.#way?.stream.peerPaused ?? false;
  }

  get bufferedBytes(): number {
    return this.#way?.stream.bufferedBytes ?? this.#keptBytes;
  }

  get heldBytes(): number {
    return (this.#way?.stream.heldBytes ?? 0) + this.#keptBytes;
  }

  attach(handler: ByteStreamHandler): void {
    this.#handler = handler;
    if (this.#attached) return;
    this.#attached = true;
    this.#way?.stream.attach(this);
  }

  write(chunk: Bytes): boolean {
    if (this.#writeEnded || this.#closed) return true;
    if (this.#way !== undefined && this.#keptBytes + chunk.length > FORWARD_KEPT_MAX_BYTES) this.#settle();
    if (this.#kept !== undefined) {
      this.#kept.push(chunk.slice());
      this.#keptBytes += chunk.length;
    }
    return this.#way?.stream.write(chunk) ?? false;
  }

  closeWrite(): void {
    this.#writeEnded = true;
    this.#way?.stream.closeWrite();
  }

  abort(error?: Error): void {
    this.#settle();
    if (this.#way !== undefined) this.#way.stream.abort(error);
    else this.#options.clock.soon(() => this.close(error));
  }

  release(): void {
    this.#writeEnded = true;
    this.#settle();
    if (this.#way !== undefined) this.#way.stream.release();
    else this.#options.clock.soon(() => this.close(this.#cause));
  }

  pause(): void {
    this.#paused = true;
    this.#way?.stream.pause();
  }

  resume(): void {
    this.#paused = false;
    this.#way?.stream.resume();
  }

  // From the way's stream (ByteStreamHandler).

  data(chunk: Bytes): void {
    this.#settle();
    this.#handler.data(chunk);
  }

  end(): void {
    this.#settle();
    this.#handler.end();
  }

  drain(): void {
    this.#handler.drain();
  }

  close(error?: Error): void {
    if (this.#closed) return;
    this.#way?.done?.();
    this.#way = undefined;
    if (this.#kept !== undefined && isLostWay(error)) return this.#seek(error);
    this.#settle();
    this.#closed = true;
    this.#handler.close(error);
  }

  /** No other way is tried from now on. */
  #settle(): void {
    this.#kept = undefined;
    this.#keptBytes = 0;
    this.#timer?.cancel();
  }

  // Looking for another way.

  #seek(cause: SallyportError): void {
    const { clock } = this.#options;
    const isFirst = this.#untilMs === undefined;
    this.#cause = cause;
    this.#untilMs ??= clock.nowMs() + FORWARD_AGAIN_MS;
    if (isFirst) return void this.#try(cause);
    if (clock.nowMs() + FORWARD_AGAIN_PAUSE_MS > this.#untilMs) {
      this.#settle();
      return this.close(cause);
    }
    this.#timer = clock.after(FORWARD_AGAIN_PAUSE_MS, () => void this.#try(cause));
  }

  async #try(cause: SallyportError): Promise<void> {
    let way: Way | undefined;
    try {
      way = await this.#options.again(cause);
    } catch (error) {
      return this.close(error as Error);
    }
    if (this.#kept === undefined) this.#refuse(way);
    else if (way === undefined) this.#seek(cause);
    else this.#take(way, this.#kept);
  }

  #take(way: Way, kept: readonly Bytes[]): void {
    this.#way = way;
    const { stream } = way;
    stream.attach(this);
    if (this.#paused) stream.pause();
    let goOn = true;
    for (const chunk of kept) goOn = stream.write(chunk);
    if (this.#writeEnded) stream.closeWrite();
    else if (goOn) this.#handler.drain();
  }

  /** The visitor has left while a way was looked for. */
  #refuse(way: Way | undefined): void {
    way?.stream.attach(IGNORE_STREAM);
    way?.stream.abort(this.#cause);
    way?.done?.();
  }
}

/** Whether the way to the agent was lost, so that the agent has not judged the visitor. */
function isLostWay(error: Error | undefined): error is SallyportError {
  if (!(error instanceof SallyportError)) return false;
  switch (error.code) {
    // Of a link; from the agent's node it may be the endpoint's.
    case "connection_lost":
      return error.side === "network";
    // The other node, or the agent's session there.
    case "unrecognized_name":
    case "replaced":
    case "shutdown":
    case "pong_missing":
    case "session_stalled":
      return true;
    default:
      return false;
  }
}
