/**
 * TLS termination: the runtime's TLS stack, over a stream of a session instead of a socket.
 *
 * @module
 */
import type { ByteStream, ByteStreamHandler, Clock, Timer } from "../../runtime/port.ts";
import type { Duplex } from "node:stream";
import { type SecureContext, TLSSocket } from "node:tls";
import type { Bytes } from "../../bytes/bytes.ts";
import type { Identity } from "../../crypto/certificate.ts";
import { errorMessage, SallyportError } from "../../errors.ts";
import { Faults } from "../../runtime/shared.ts";
import type { ByteMeter } from "../../transport/splice.ts";
import { toNodeDuplex } from "../../runtime/node_duplex.ts";
import { ClientHelloReader, HELLO_DEADLINE_MS } from "../../wire/tls/client_hello.ts";
import { AlertDescription, encodeAlert } from "../../wire/tls/tls_alert.ts";
import { turnAway } from "../turn_away.ts";
import { challengeFlight } from "./challenge_handshake.ts";
import { BufferPool } from "../../runtime/out_queue.ts";
import { NodeStream } from "../../runtime/node_stream.ts";
import { TlsIntake } from "../../runtime/tls_intake.ts";
import { WrappedStream } from "../../runtime/wrapped_stream.ts";

/** A visitor's TLS handshake, including its ClientHello, must be complete within this time. */
export const TLS_HANDSHAKE_DEADLINE_MS = 15_000;
/** The version in a ClientHello of TLS 1.2 or 1.3; both runtimes' stacks refuse older ones. */
const TLS_1_2 = 0x0303;
/** Concurrent handshakes in one agent; further visitors are refused. */
export const TLS_HANDSHAKES_MAX = 512;

/** What a visitor's ClientHello requests. */
export interface HelloFacts {
  /** Canonical; undefined if the client sent none. */
  readonly serverName: string | undefined;
  readonly alpnProtocols: readonly string[];
}

/** How to answer a handshake. */
interface TlsChoice {
  readonly context: SecureContext;
  /** The protocols to negotiate: the first that the client offers. Absent: none is negotiated. */
  readonly alpnProtocols?: readonly string[];
}

/** An authority's validation, which gets only this certificate. */
interface TlsChallenge {
  readonly challenge: Identity;
}

/** A refused handshake: the alert for the client, and the reason for the log. */
interface TlsRefusal {
  readonly alert: number;
  readonly error: SallyportError;
}

/** The decision on a handshake. */
export type TlsAnswer = TlsChoice | TlsChallenge | TlsRefusal;

/** A visitor with established TLS. */
export interface SecureStream {
  /** The decrypted stream. */
  readonly stream: ByteStream;
  readonly serverName: string | undefined;
  /** The negotiated protocol; undefined if there is none. */
  readonly alpnProtocol: string | undefined;
}

/** Options of a {@link TlsTerminator}. */
export interface TlsTerminatorOptions {
  readonly clock: Clock;
  /** Receives exceptions of stream handlers. Defaults to standard error. */
  readonly faults?: Faults;
  /** Buffers for large copies; terminators of one process share them. Defaults to a pool of its own. */
  readonly pool?: BufferPool;
  /** Chooses the visitor's certificate, or the reason for refusing. */
  choose(hello: HelloFacts): TlsAnswer | Promise<TlsAnswer>;
}

/** Options of {@link TlsTerminator.accept} besides the stream. */
export interface AcceptOptions {
  /** Counts bytes on the wire. */
  readonly meter?: ByteMeter;
  /** Decides on this handshake instead of {@link TlsTerminatorOptions.choose}. */
  readonly choose?: TlsTerminatorOptions["choose"];
  /** Called when the handshake is complete. The stream must be attached before the call returns. */
  secured(secure: SecureStream): void;
  /** Called when the handshake was refused or failed; the stream has been closed. */
  failed(error: SallyportError): void;
}

/** Terminates TLS. */
export class TlsTerminator {
  readonly options: TlsTerminatorOptions;
  readonly #pool: BufferPool;
  #handshakes = 0;

  constructor(options: TlsTerminatorOptions) {
    this.options = options;
    this.#pool = options.pool ?? new BufferPool();
  }

  /** Number of handshakes in progress. */
  get handshakes(): number {
    return this.#handshakes;
  }

  /** Takes over a stream that begins with a ClientHello. */
  accept(stream: ByteStream, options: AcceptOptions): void {
    if (this.#handshakes >= TLS_HANDSHAKES_MAX) {
      const why = `Cannot serve visitor: ${TLS_HANDSHAKES_MAX} handshakes are already in progress`;
      turnAway(stream, AlertDescription.internal_error);
      options.failed(new SallyportError("limit_exceeded", why, { side: "local", retryable: true }));
      return;
    }
    this.#handshakes++;
    new Handshake(this.options, this.#pool, stream, options, () => this.#handshakes--);
  }
}

/** One handshake, from the ClientHello's first byte on. */
class Handshake implements ByteStreamHandler {
  readonly #options: TlsTerminatorOptions;
  readonly #pool: BufferPool;
  readonly #stream: ByteStream;
  readonly #accept: AcceptOptions;
  readonly #hello = new ClientHelloReader();
  readonly #settled: () => void;
  readonly #timers: readonly Timer[];
  #chosen = false;
  #over = false;

  constructor(
    options: TlsTerminatorOptions,
    pool: BufferPool,
    stream: ByteStream,
    accept: AcceptOptions,
    settled: () => void,
  ) {
    this.#options = options;
    this.#pool = pool;
    this.#stream = stream;
    this.#accept = accept;
    this.#settled = settled;
    const late = (what: string, ms: number) => () => {
      this.#fail(
        new SallyportError("deadline_exceeded", `Cannot serve visitor: ${what} in ${ms / 1000} s`, {
          side: "peer",
        }),
      );
    };
    this.#timers = [
      options.clock.after(HELLO_DEADLINE_MS, () => {
        if (!this.#chosen) late("no complete ClientHello", HELLO_DEADLINE_MS)();
      }),
      options.clock.after(TLS_HANDSHAKE_DEADLINE_MS, late("no TLS handshake", TLS_HANDSHAKE_DEADLINE_MS)),
    ];
    stream.attach(this);
  }

  data(chunk: Bytes): void {
    if (this.#accept.meter !== undefined) this.#accept.meter.bytesToAgent += chunk.length;
    const outcome = this.#hello.push(chunk);
    if (this.#chosen || outcome.kind === "incomplete") return;
    this.#chosen = true;
    if (outcome.kind === "refused") {
      const error = new SallyportError(outcome.reason, `Cannot serve visitor: ${outcome.detail}`, {
        side: "peer",
      });
      return this.#refuse({ alert: outcome.alert, error });
    }
    // Paused until the certificate is available; bytes arriving meanwhile stay in the stream.
    this.#stream.pause();
    const { serverName, alpnProtocols } = outcome;
    const choose = this.#accept.choose ?? this.#options.choose;
    Promise.resolve().then(() => choose({ serverName, alpnProtocols })).then(
      (choice) => {
        if (this.#over) return;
        if ("error" in choice) this.#refuse(choice);
        else if ("challenge" in choice) this.#show(choice.challenge);
        else this.#begin(choice, serverName, alpnProtocols);
      },
    ).catch(
      (thrown) => {
        const why = `Cannot serve visitor: ${errorMessage(thrown)}`;
        const error = new SallyportError("io_failed", why, { side: "local", cause: thrown });
        this.#refuse({ alert: AlertDescription.internal_error, error });
      },
    );
  }

  end(): void {
    this.#fail(
      new SallyportError(
        "connection_lost",
        "Cannot serve visitor: it left before its ClientHello was complete",
        { side: "peer" },
      ),
    );
  }

  drain(): void {}

  close(): void {
    this.#fail(
      new SallyportError("connection_lost", "Cannot serve visitor: it left during the handshake", {
        side: "peer",
      }),
    );
  }

  #begin(choice: TlsChoice, serverName: string | undefined, offered: readonly string[]): void {
    const protocols = choice.alpnProtocols ?? [];
    const agreed = protocols.find((protocol) => offered.includes(protocol));
    if (protocols.length > 0 && offered.length > 0 && agreed === undefined) {
      const error = new SallyportError(
        "hello_invalid",
        "Cannot serve visitor: it offers none of our protocols",
        { side: "peer" },
      );
      return this.#refuse({ alert: AlertDescription.no_application_protocol, error });
    }
    const { protocol_version, handshake_failure } = AlertDescription;
    const alert = this.#hello.version < TLS_1_2 ? protocol_version : handshake_failure;
    const inner = new Carrier(this.#stream, this.#accept.meter, alert);
    const intake = new TlsIntake(inner);
    const duplex = toNodeDuplex(inner, intake);
    const tls = new TLSSocket(duplex as never, {
      isServer: true,
      secureContext: choice.context,
      ...agreed === undefined ? {} : { ALPNProtocols: [agreed] },
    });
    // Deno's handshake must begin in a later turn, or its failure can't be caught.
    setImmediate(() => {
      duplex.push(this.#hello.bytes);
      intake.start();
    });
    const fail = (why: string, cause?: unknown) => {
      if (this.#over) return;
      tls.destroy();
      const error = new SallyportError(
        "connection_lost",
        `Cannot serve visitor: TLS handshake failed: ${why}`,
        {
          side: "peer",
          cause,
        },
      );
      this.#settle();
      // Not aborted: an alert may be on its way.
      inner.release();
      this.#accept.failed(error);
    };
    const failed = (error: Error) => fail(errorMessage(error), error);
    const closed = () => fail("the visitor left");
    tls.on("error", failed);
    tls.once("close", closed);
    // Neither runtime's TLS reports its stream ending in the middle of a handshake.
    duplex.once("end", closed);
    tls.once("secure", () => {
      if (this.#over) return;
      this.#settle();
      tls.off("error", failed);
      tls.off("close", closed);
      duplex.off("end", closed);
      tls.pause();
      const stream = new NodeStream(tls as unknown as Duplex, {
        clock: this.#options.clock,
        faults: this.#options.faults ?? new Faults(),
        carrier: duplex,
        pool: this.#pool,
        intake,
        destroy: (hard) => {
          tls.destroy();
          if (hard) inner.abort();
        },
      });
      this.#accept.secured({ stream, serverName, alpnProtocol: agreed });
    });
  }

  /** Presents the challenge certificate to an authority, which then disconnects. */
  #show(identity: Identity): void {
    const flight = challengeFlight(this.#hello.bytes, identity);
    if (flight === undefined) {
      const why =
        "Cannot answer certificate authority: its TLS isn't 1.3 with AES-128-GCM, X25519 or P-256, and ECDSA";
      const error = new SallyportError("hello_invalid", why, { side: "peer" });
      return this.#refuse({ alert: AlertDescription.handshake_failure, error });
    }
    this.#settle();
    // Its end is awaited no longer than that of any other finished stream.
    this.#stream.attach({ data() {}, end: () => this.#stream.closeWrite(), drain() {}, close() {} });
    this.#stream.write(flight);
    this.#stream.resume();
    this.#options.clock.after(HELLO_DEADLINE_MS, () => this.#stream.release());
  }

  #refuse({ alert, error }: TlsRefusal): void {
    if (this.#over) return;
    this.#settle();
    turnAway(this.#stream, alert);
    this.#accept.failed(error);
  }

  #fail(error: SallyportError): void {
    if (this.#over) return;
    this.#settle();
    this.#stream.abort();
    this.#accept.failed(error);
  }

  #settle(): void {
    this.#over = true;
    for (const timer of this.#timers) timer.cancel();
    this.#settled();
  }
}

/**
 * The stream below a TLS stack. Counts its bytes in a meter, and sends an alert if the stack ends it without having
 * written anything, as Deno's does when a handshake fails.
 */
class Carrier extends WrappedStream {
  readonly #meter: ByteMeter | undefined;
  #alert: number | undefined;

  constructor(inner: ByteStream, meter: ByteMeter | undefined, alert: number) {
    super(inner);
    this.#meter = meter;
    this.#alert = alert;
  }

  override data(chunk: Bytes): void {
    if (this.#meter !== undefined) this.#meter.bytesToAgent += chunk.length;
    this.handler?.data(chunk);
  }

  override write(chunk: Bytes): boolean {
    this.#alert = undefined;
    if (this.#meter !== undefined) this.#meter.bytesToVisitor += chunk.length;
    return this.inner.write(chunk);
  }

  override release(): void {
    if (this.#alert !== undefined) this.write(encodeAlert(this.#alert));
    this.inner.release();
  }
}
