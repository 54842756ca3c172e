/**
 * A request at the start of a stream, both sides of it (docs/protocols/snocat.md, A request). What comes behind it is the
 * service's, raw.
 *
 * @module
 */
import type { Bytes } from "../../bytes/bytes.ts";
import { type InternalError, SallyportError } from "../../errors.ts";
import type { ByteStream, ByteStreamHandler, Clock, Timer } from "../../runtime/port.ts";
import { printableName } from "../../wire/hostname.ts";
import { formatTunnelAddress, parseTunnelAddress } from "../../wire/snocat/tunnel_address.ts";
import {
  ANSWER_ACCEPTED,
  ANSWER_REFUSED,
  decodeAddress,
  decodeGreeting,
  encodeAddress,
  encodeGreeting,
  GREETING_BYTES,
  TUNNEL_VERSION,
} from "../../wire/snocat/tunnel_request.ts";
import { UnreadStream } from "./unread_stream.ts";

/** Tunnels: the opener of a stream must have sent its request by then; it is one small packet. */
export const TUNNEL_REQUEST_DEADLINE_MS = 5_000;
/** Tunnels: the opener waits so long for the answer: as long as a service may take, and the way there and back. */
export const TUNNEL_ANSWER_DEADLINE_MS = 20_000;

const NOTHING: Bytes = new Uint8Array(0);

/** What both sides of a request take. */
interface ExchangeOptions {
  readonly clock: Clock;
  /** The stream's reader has thrown at the bytes that came with the request or the answer. */
  fault?(error: InternalError): void;
}

/** What {@link sendRequest} takes besides stream and address. */
interface SendRequestOptions extends ExchangeOptions {
  /** Until the answer; {@link TUNNEL_ANSWER_DEADLINE_MS} when absent. */
  readonly timeoutMs?: number;
  /** Gives up; the stream is aborted. */
  readonly signal?: AbortSignal;
}

/**
 * Asks for an address at the start of a stream. Resolves with the stream as the service's once it has accepted.
 * Otherwise the stream is ended, and it rejects with `request_refused` (by the other side), `request_invalid` (it
 * doesn't speak the protocol), `deadline_exceeded`, `address_invalid`, what the stream ended with, or the signal's
 * reason.
 */
export function sendRequest(
  stream: ByteStream,
  address: readonly string[],
  options: SendRequestOptions,
): Promise<ByteStream> {
  return new Promise((resolve, reject) => {
    try {
      const text = formatTunnelAddress(address);
      const request = encodeAddress(text);
      const opening = new Opening(stream, text, options, resolve, reject);
      // In one piece: there is one version, so its answer needn't be waited for.
      const bytes = new Uint8Array(GREETING_BYTES + request.length);
      bytes.set(encodeGreeting());
      bytes.set(request, GREETING_BYTES);
      opening.begin(bytes);
    } catch (error) {
      stream.abort();
      reject(error);
    }
  });
}

/** A request that has come whole and waits for its answer: one of the two methods must be called. */
export interface ReceivedRequest {
  /** The segments of the address. */
  readonly address: readonly string[];
  /** Aborted where the stream ends before the answer. */
  readonly signal: AbortSignal;
  /** Accepts; the stream is the service's from here on, even where it is over already, of which its handler hears. */
  accept(): ByteStream;
  /** Refuses, and ends the stream. */
  refuse(): void;
}

/**
 * Reads the request at the start of a stream that the other side has opened. Rejects with `request_invalid`,
 * `address_invalid`, `deadline_exceeded` or what the stream ended with; the stream has been ended then, refused where
 * the other side could read that.
 */
export function receiveRequest(
  stream: ByteStream,
  options: ExchangeOptions,
): Promise<ReceivedRequest> {
  return new Promise((resolve, reject) => new Receiving(stream, options, resolve, reject).begin());
}

/** What both sides have in common: bytes that are collected until a message is whole, and a deadline. */
abstract class Exchange<Outcome> implements ByteStreamHandler {
  protected readonly stream: ByteStream;
  protected readonly options: ExchangeOptions;
  protected collected: Bytes = NOTHING;
  protected greeted = false;
  readonly #resolve: (outcome: Outcome) => void;
  readonly #reject: (error: unknown) => void;
  readonly #timer: Timer;
  #over = false;

  constructor(
    stream: ByteStream,
    options: ExchangeOptions,
    timeoutMs: number,
    resolve: (outcome: Outcome) => void,
    reject: (error: unknown) => void,
  ) {
    this.stream = stream;
    this.options = options;
    this.#resolve = resolve;
    this.#reject = reject;
    this.#timer = options.clock.after(timeoutMs, () => {
      const why = `Cannot open tunnel stream: ${this.awaited} didn't come in ${timeoutMs / 1000} s`;
      this.fail(new SallyportError("deadline_exceeded", why, { side: "network", retryable: true }));
    });
  }

  protected abstract readonly awaited: string;
  protected abstract read(): void;

  begin(first: Bytes = NOTHING): void {
    this.stream.attach(this);
    if (first.length > 0) this.stream.write(first);
  }

  data(chunk: Bytes): void {
    if (this.#over) return;
    const bytes = new Uint8Array(this.collected.length + chunk.length);
    bytes.set(this.collected);
    bytes.set(chunk, this.collected.length);
    this.collected = bytes;
    try {
      this.read();
    } catch (error) {
      this.fail(error);
    }
  }

  end(): void {
    this.fail(lost());
  }

  drain(): void {}

  close(error?: Error): void {
    this.fail(error ?? lost());
  }

  /** The version of the peer's greeting, once; it is taken off. */
  protected takeGreeting(): number | undefined {
    const version = decodeGreeting(this.collected);
    if (version === undefined) return undefined;
    this.greeted = true;
    this.collected = this.collected.subarray(GREETING_BYTES);
    return version;
  }

  protected succeed(outcome: Outcome): void {
    this.finish();
    this.#resolve(outcome);
  }

  fail(error: unknown, end: () => void = () => this.stream.abort()): void {
    if (this.#over) return;
    this.finish();
    end();
    this.#reject(error);
  }

  protected finish(): void {
    this.#over = true;
    this.#timer.cancel();
  }
}

class Opening extends Exchange<ByteStream> {
  protected readonly awaited = "the answer";
  readonly #address: string;
  readonly #signal: AbortSignal | undefined;
  readonly #giveUp = () => this.fail(this.#signal?.reason);

  constructor(
    stream: ByteStream,
    address: string,
    options: SendRequestOptions,
    resolve: (stream: ByteStream) => void,
    reject: (error: unknown) => void,
  ) {
    super(stream, options, options.timeoutMs ?? TUNNEL_ANSWER_DEADLINE_MS, resolve, reject);
    this.#address = address;
    this.#signal = options.signal;
    this.#signal?.addEventListener("abort", this.#giveUp, { once: true });
  }

  override begin(first: Bytes): void {
    if (this.#signal?.aborted) return this.#giveUp();
    super.begin(first);
  }

  protected read(): void {
    if (!this.greeted) {
      const version = this.takeGreeting();
      if (version === undefined) return;
      if (version !== TUNNEL_VERSION) throw this.#refused(`it speaks version ${version}`);
    }
    const answer = this.collected[0];
    if (answer === undefined) return;
    if (answer !== ANSWER_ACCEPTED) throw this.#refused("nothing there takes it");
    const rest = this.collected.subarray(1);
    this.succeed(
      new UnreadStream(this.stream, {
        rest,
        fault: (error) => this.options.fault?.(error),
      }),
    );
  }

  protected override finish(): void {
    super.finish();
    this.#signal?.removeEventListener("abort", this.#giveUp);
  }

  #refused(why: string): SallyportError {
    return new SallyportError(
      "request_refused",
      `Cannot open tunnel stream to "${printableName(this.#address)}": the other side refused: ${why}`,
      { side: "peer" },
    );
  }
}

class Receiving extends Exchange<ReceivedRequest> {
  protected readonly awaited = "the request";

  constructor(
    stream: ByteStream,
    options: ExchangeOptions,
    resolve: (request: ReceivedRequest) => void,
    reject: (error: unknown) => void,
  ) {
    super(stream, options, TUNNEL_REQUEST_DEADLINE_MS, resolve, reject);
  }

  protected read(): void {
    if (!this.greeted) {
      const version = this.takeGreeting();
      if (version === undefined) return;
      this.stream.write(encodeGreeting());
      if (version !== TUNNEL_VERSION) {
        throw new SallyportError(
          "request_invalid",
          `Cannot take tunnel request: it is of version ${version}, needs ${TUNNEL_VERSION}`,
          { side: "peer" },
        );
      }
    }
    const request = decodeAddress(this.collected);
    if (request === undefined) return;
    const address = parseTunnelAddress(request.address);
    this.succeed(this.#received(address, this.collected.subarray(request.size)));
  }

  override fail(error: unknown): void {
    // A peer that has greeted can read an answer; all others get none.
    if (!this.greeted) super.fail(error);
    else super.fail(error, () => refuse(this.stream));
  }

  #received(address: readonly string[], rest: Bytes): ReceivedRequest {
    let leaving: AbortController | undefined;
    let over: Error | undefined;
    const stream = new UnreadStream(this.stream, {
      rest,
      fault: (error) => this.options.fault?.(error),
      lost: (error) => {
        over = error ?? lost();
        leaving?.abort(over);
      },
    });
    return {
      address,
      get signal() {
        leaving ??= new AbortController();
        if (over !== undefined) leaving.abort(over);
        return leaving.signal;
      },
      accept() {
        stream.write(new Uint8Array([ANSWER_ACCEPTED]));
        return stream;
      },
      refuse: () => refuse(stream),
    };
  }
}

function refuse(stream: ByteStream): void {
  stream.write(new Uint8Array([ANSWER_REFUSED]));
  stream.release();
}

function lost(): SallyportError {
  return new SallyportError(
    "connection_lost",
    "Cannot open tunnel stream: it ended before the request was through",
    { side: "network", retryable: true },
  );
}
