/**
 * Code common to the QUIC adapters: a connection's bookkeeping, and errors.
 *
 * @module
 */
import type { Bytes } from "../bytes/bytes.ts";
import { SallyportError } from "../errors.ts";
import type { Address, ByteStream } from "./port.ts";
import type { QuicConn, QuicConnHandler, QuicDialOptions } from "./quic_port.ts";
import { asError, dialTimeoutError, type Faults } from "./shared.ts";
import { QUIC_STREAMS_MAX } from "./quic_port.ts";
import { formatHostPort } from "../wire/ip/host_port.ts";

/** QUIC: maximum length shown of a peer's reason for closing. */
export const QUIC_REASON_MAX_LENGTH = 128;

/** A stream as seen by its connection, which notifies it when the connection is over. */
interface QuicConnStream extends ByteStream {
  lost(error: SallyportError): void;
}

/** Base of the adapters' connections. */
export abstract class QuicConnBase implements QuicConn {
  abstract readonly remote: Address;
  abstract readonly alpn: string;
  abstract readonly peerFingerprint: Bytes | undefined;
  #handler: QuicConnHandler | undefined;
  readonly #streams = new Set<QuicConnStream>();
  /** The peer's streams, before a handler is attached. */
  readonly #waiting: ByteStream[] = [];
  /** Local streams that the peer hasn't allowed yet. */
  #opening = 0;
  #endedWith: SallyportError | undefined;
  #told = false;

  /** Receives exceptions thrown by handlers. */
  readonly #faults: Faults;

  constructor(faults: Faults) {
    this.#faults = faults;
  }

  /** Opens a stream in the runtime and registers it with {@link keep}. */
  protected abstract openBelow(): Promise<ByteStream>;
  /** Closes the connection in the runtime. Called once, at the end, whichever side caused it. */
  protected abstract closeBelow(reason: SallyportError): void;

  attach(handler: QuicConnHandler): void {
    const first = this.#handler === undefined;
    this.#handler = handler;
    if (!first) return;
    queueMicrotask(() => {
      for (const stream of this.#waiting.splice(0)) this.#tell(stream);
      this.#tellEnded();
    });
  }

  async open(): Promise<ByteStream> {
    if (this.#endedWith !== undefined) throw this.#endedWith;
    // Abandoned openings still count here: the runtime can't cancel them.
    if (this.#opening >= QUIC_STREAMS_MAX) {
      const why = `Cannot open stream: ${this.#opening} already wait for the peer to allow them`;
      throw new SallyportError("limit_exceeded", why, { side: "peer", retryable: true });
    }
    this.#opening++;
    try {
      const stream = await this.openBelow();
      if (this.#endedWith === undefined) return stream;
    } catch (error) {
      throw this.#endedWith ?? closedError(error);
    } finally {
      this.#opening--;
    }
    throw this.#endedWith;
  }

  close(reason: SallyportError): void {
    if (this.#endedWith !== undefined) return;
    this.#endedWith = reason;
    this.closeBelow(reason);
    queueMicrotask(() => this.#finish(reason));
  }

  /** Whether it has ended. */
  protected get over(): boolean {
    return this.#endedWith !== undefined;
  }

  /** Why it has ended. */
  protected get endedWith(): SallyportError | undefined {
    return this.#endedWith;
  }

  /** Remembers a stream until {@link forget}. */
  protected keep<S extends QuicConnStream>(stream: S): S {
    this.#streams.add(stream);
    return stream;
  }

  /** A stream is over. */
  protected forget(stream: QuicConnStream): void {
    this.#streams.delete(stream);
  }

  /** The peer opened a stream. */
  protected came(stream: QuicConnStream): void {
    if (this.#handler === undefined) this.#waiting.push(stream);
    else this.#tell(stream);
  }

  /** The runtime reports that the connection is over. */
  protected lost(error: SallyportError): void {
    if (this.#endedWith !== undefined) return;
    this.#endedWith = error;
    this.closeBelow(error);
    this.#finish(error);
  }

  #tell(stream: ByteStream): void {
    try {
      this.#handler!.stream(stream);
    } catch (thrown) {
      stream.abort(this.#faults.report("accept", thrown));
    }
  }

  #finish(error: SallyportError): void {
    for (const stream of [...this.#streams]) stream.lost(error);
    this.#streams.clear();
    // Microtasks that report aborted streams run first.
    queueMicrotask(() => this.#tellEnded());
  }

  #tellEnded(): void {
    if (this.#handler === undefined || this.#endedWith === undefined || this.#told) return;
    this.#told = true;
    try {
      this.#handler.ended(this.#endedWith);
    } catch (thrown) {
      this.#faults.report("connection", thrown);
    }
  }
}

/** The error of an established connection that is over, from its runtime or the peer. */
export function closedError(cause: unknown): SallyportError {
  if (cause instanceof SallyportError) return cause;
  const text = cause === undefined ? "" : asError(cause).message;
  const why = /timed out|timeout|idle/i.test(text) ? "nothing was heard from the peer" : shown(text);
  const message = `Connection lost: ${why === "" ? "the peer closed it" : why}`;
  return new SallyportError("connection_lost", message, { side: "network", retryable: true, cause });
}

/** The error of a connection that the peer closed with this reason. */
export function peerClosed(reason: string): SallyportError {
  const why = shown(reason);
  const message = `Connection lost: the peer closed it${why === "" ? "" : `: ${why}`}`;
  return new SallyportError("connection_lost", message, { side: "network", retryable: true });
}

/** Sanitizes text from a peer or a runtime for a log line. */
function shown(text: string): string {
  return text.replace(/[^\x20-\x7e]+/g, " ").trim().slice(0, QUIC_REASON_MAX_LENGTH);
}

/** The error for an untrusted server certificate. */
export function certificateRefused({ host, port }: Address, why: string, cause?: unknown): SallyportError {
  const message = `Cannot connect to ${
    formatHostPort({ host, port })
  }: its certificate isn't trusted: ${why}`;
  return new SallyportError("certificate_refused", message, { side: "peer", retryable: true, cause });
}

/**
 * Waits for a dial with its deadline and its signal. `giveUp` ends the attempt, whose own promise is then ignored; a
 * connection that is established too late is closed.
 */
export async function withinDeadline(
  options: QuicDialOptions,
  attempt: Promise<QuicConn>,
  giveUp: () => void,
): Promise<QuicConn> {
  const { signal, timeoutMs } = options;
  const early = Promise.withResolvers<never>();
  const aborted = () => early.reject(signal!.reason);
  signal?.addEventListener("abort", aborted, { once: true });
  if (signal?.aborted) aborted();
  const timer = setTimeout(() => early.reject(dialTimeoutError(options)), timeoutMs);
  try {
    return await Promise.race([attempt, early.promise]);
  } catch (error) {
    giveUp();
    attempt.then(
      (conn) =>
        conn.close(
          new SallyportError("aborted", "Cannot use connection: it was established too late", {
            side: "local",
          }),
        ),
      () => {},
    );
    throw error;
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", aborted);
  }
}
