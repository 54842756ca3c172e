/**
 * Both sides of a request at the start of a stream (docs/protocols/snocat.md, A request). The bytes after it are passed
 * to the service unchanged.
 *
 * @module
 */
import { type Bytes, concat } from "../../bytes/bytes.ts";
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
import { putBack } from "./unread_stream.ts";

/** Tunnels: deadline for the opener of a stream to send its request, which is one small packet. */
export const TUNNEL_REQUEST_DEADLINE_MS = 5_000;
/** Tunnels: how long the opener waits for the answer: as long as a service may take, plus the round trip. */
export const TUNNEL_ANSWER_DEADLINE_MS = 20_000;

const NOTHING: Bytes = new Uint8Array(0);

/** Options of both sides of a request. */
interface ExchangeOptions {
  readonly clock: Clock;
  /** The stream's reader threw on bytes that arrived with the request or the answer. */
  fault?(error: InternalError): void;
}

/** Options of {@link sendRequest}, besides stream and address. */
interface SendRequestOptions extends ExchangeOptions {
  /** Timeout for the answer. Defaults to {@link TUNNEL_ANSWER_DEADLINE_MS}. */
  readonly timeoutMs?: number;
  /** Cancels the request; the stream is aborted. */
  readonly signal?: AbortSignal;
}

/**
 * Requests an address at the start of a stream. Resolves with the stream to the service once it has accepted. Otherwise
 * the stream is closed, and it rejects with `request_refused` (by the other side), `request_invalid` (the other side
 * doesn't speak the protocol), `deadline_exceeded`, `address_invalid`, the stream's end reason, or the signal's reason.
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
      // Sent in one piece: there is only one version, so no need to await its answer.
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

/** A complete request awaiting its answer: one of the two methods must be called. */
export interface ReceivedRequest {
  /** The segments of the address. */
  readonly address: readonly string[];
  /** Aborted if the stream ends before the answer. */
  readonly signal: AbortSignal;
  /**
   * Accepts the request; the service then owns the stream, even if it is already over, of which its handler is
   * notified.
   */
  accept(): ByteStream;
  /** Refuses the request and closes the stream. */
  refuse(): void;
}

/**
 * Reads the request at the start of a stream that the other side has opened. Rejects with `request_invalid`,
 * `address_invalid`, `deadline_exceeded` or the stream's end reason; the stream has then been closed, with a refusal if
 * the other side could read one.
 */
export function receiveRequest(
  stream: ByteStream,
  options: ExchangeOptions,
): Promise<ReceivedRequest> {
  return new Promise((resolve, reject) => new Receiving(stream, options, resolve, reject).begin());
}

/** Code common to both sides: collecting bytes until a message is complete, and a deadline. */
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
      const why = `Cannot open tunnel stream: ${this.awaited} didn't arrive within ${timeoutMs / 1000} s`;
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
    this.collected = concat([this.collected, chunk]);
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

  /** Removes the peer's greeting and returns its version, once. */
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
    if (answer !== ANSWER_ACCEPTED) throw this.#refused("no service there accepts it");
    const rest = this.collected.subarray(1);
    this.succeed(
      putBack(this.stream, {
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
          `Cannot accept tunnel request: it is of version ${version}, needs ${TUNNEL_VERSION}`,
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
    // Only a peer that sent the greeting can read an answer; others get none.
    if (!this.greeted) super.fail(error);
    else super.fail(error, () => refuse(this.stream));
  }

  #received(address: readonly string[], rest: Bytes): ReceivedRequest {
    let leaving: AbortController | undefined;
    let over: Error | undefined;
    const stream = putBack(this.stream, {
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
    "Cannot open tunnel stream: it ended before the request was complete",
    { side: "network", retryable: true },
  );
}
