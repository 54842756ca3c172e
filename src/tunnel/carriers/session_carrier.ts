/**
 * A session as a carrier: SniTun, sealed and curve sessions, whose other streams belong to visitors.
 *
 * @module
 */
import { type Caller, UNKNOWN_CALLER } from "../../protocol/mux/host.ts";
import type { Bytes } from "../../bytes/bytes.ts";
import { type InternalError, SallyportError } from "../../errors.ts";
import type { Address, ByteStream, ByteStreamHandler, Clock, Timer } from "../../runtime/port.ts";
import type { Session, SessionStream } from "../../transport/port.ts";
import { REQUEST_FIRST_BYTE } from "../../wire/snocat/tunnel_request.ts";
import type { Carrier, CarrierHandler } from "./carrier.ts";
import { putBack } from "../requests/unread_stream.ts";
import { HELLO_DEADLINE_MS } from "../../wire/tls/client_hello.ts";

/**
 * The streams of a session that are not visitors'. Its owner handles the session's events and passes on those for the
 * carrier.
 */
export class SessionCarrier implements Carrier {
  readonly #session: Session;
  readonly #opened: (() => void) | undefined;
  #handler: CarrierHandler | undefined;
  #waiting: SessionStream[] = [];
  #quiet: (() => void)[] = [];
  #ended: SallyportError | undefined;

  /** `opened` is called for each stream that this side opens. */
  constructor(session: Session, opened?: () => void) {
    this.#session = session;
    this.#opened = opened;
  }

  get transport(): string {
    return this.#session.transport;
  }
  get remote(): Address {
    return this.#session.remote;
  }

  attach(handler: CarrierHandler): void {
    this.#handler = handler;
    for (const stream of this.#waiting.splice(0)) handler.stream(stream);
    if (this.#ended !== undefined) handler.ended(this.#ended);
  }

  // deno-lint-ignore require-await -- exceptions become rejections
  async open(caller: Caller = UNKNOWN_CALLER): Promise<ByteStream> {
    const stream = this.#session.open(caller);
    this.#opened?.();
    return stream;
  }

  goAway(reason: SallyportError): void {
    this.#session.goAway(reason);
  }

  async quiet(): Promise<void> {
    if (this.#session.streams === 0 || this.#ended !== undefined) return;
    await new Promise<void>((resolve) => void this.#quiet.push(resolve));
  }

  close(reason: SallyportError): void {
    this.#session.close(reason);
  }

  /** From the session's owner: a stream is over. */
  streamClosed(): void {
    if (this.#quiet.length > 0 && this.#session.streams === 0) this.#tellQuiet();
  }

  /** From the session's owner: a stream that begins a request. */
  offer(stream: SessionStream): void {
    if (this.#handler === undefined) this.#waiting.push(stream);
    else this.#handler.stream(stream);
  }

  /** From the session's owner: it is over. */
  ended(error: SallyportError): void {
    this.#ended = error;
    this.#waiting = [];
    this.#tellQuiet();
    this.#handler?.ended(error);
  }

  #tellQuiet(): void {
    for (const resolve of this.#quiet.splice(0)) resolve();
  }
}

/** Routes a stream by its first byte. */
interface FirstByteChoice {
  /** It begins a tunnel request. */
  request(stream: SessionStream): void;
  /** It is a visitor's. */
  visitor(stream: SessionStream): void;
  /** The stream's reader threw on the first bytes. */
  fault?(error: InternalError): void;
}

/**
 * Waits for a stream's first byte: a visitor's begins with TLS, a request with its magic. A stream that is silent for
 * {@link HELLO_DEADLINE_MS} is closed.
 */
export function chooseByFirstByte(stream: SessionStream, clock: Clock, choice: FirstByteChoice): void {
  stream.attach(new FirstByte(stream, clock, choice));
}

class FirstByte implements ByteStreamHandler {
  readonly #stream: SessionStream;
  readonly #choice: FirstByteChoice;
  readonly #timer: Timer;

  constructor(stream: SessionStream, clock: Clock, choice: FirstByteChoice) {
    this.#stream = stream;
    this.#choice = choice;
    this.#timer = clock.after(HELLO_DEADLINE_MS, () => {
      stream.abort(
        new SallyportError("deadline_exceeded", "Cannot serve stream: it sends nothing", { side: "peer" }),
      );
    });
  }

  data(chunk: Bytes): void {
    this.#timer.cancel();
    const isRequest = chunk[0] === REQUEST_FIRST_BYTE;
    const stream = putBack(this.#stream, {
      rest: chunk.slice(),
      fault: (error) => this.#choice.fault?.(error),
    });
    if (isRequest) this.#choice.request(stream);
    else this.#choice.visitor(stream);
  }

  end(): void {
    this.#timer.cancel();
    this.#stream.abort();
  }

  drain(): void {}

  close(): void {
    this.#timer.cancel();
  }
}
