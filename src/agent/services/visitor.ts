/**
 * A visitor of an agent, from its stream's arrival to its end: reads the name that it asks for from its ClientHello, if
 * the session doesn't carry it (SniTun's dialect), and then is the stream that its service's connector takes.
 *
 * @module
 */
import type { Bytes } from "../../bytes/bytes.ts";
import { NO_PLACE } from "../../bytes/roster.ts";
import { internalError, SallyportError } from "../../errors.ts";
import { type ByteStreamHandler, IGNORE_STREAM } from "../../runtime/port.ts";
import { WrappedStream } from "../../runtime/wrapped_stream.ts";
import type { Caller, SessionStream } from "../../transport/port.ts";
import {
  ClientHelloReader,
  HELLO_DEADLINE_MS,
  type HelloOutcome,
  readClientHello,
} from "../../wire/tls/client_hello.ts";

const NOTHING: Bytes = new Uint8Array(0);

/** Whom a visitor turns to while its name is read: one of the three is called, once. */
export interface VisitorReception {
  /** The ClientHello has arrived, and will be read again by whoever attaches. Undefined if it names no server. */
  named(visitor: Visitor, serverName: string | undefined): void;
  /** It can't be served: the alert for the visitor, and the reason. */
  refused(visitor: Visitor, alert: number, error: SallyportError): void;
  /** It has left. */
  gone(visitor: Visitor): void;
}

/** The service that a visitor has come to. */
export interface VisitorService {
  /** Called once, at the stream's end, when its connector has attached to it or has given it up. */
  left(visitor: Visitor, error: Error | undefined): void;
}

/**
 * - `unread`: nobody has attached yet.
 * - `hello`: the ClientHello is awaited.
 * - `held`: the ClientHello waits for the connector; the stream is paused.
 * - `through`: the connector has it all.
 */
type Stage = "unread" | "hello" | "held" | "through";

/** See the module. */
export class Visitor extends WrappedStream<SessionStream> implements SessionStream {
  /** Its place among those whose name is unknown, then among the service's visitors. */
  visitorPlace = NO_PLACE;
  readonly startedMs: number;
  /** Bytes from the visitor that were passed on. */
  bytesIn = 0;
  /** Bytes for the visitor that were accepted. */
  bytesOut = 0;
  /** What it counts for at its service. */
  source = "";
  readonly #reception: VisitorReception;
  #service: VisitorService | undefined;
  #caller: Caller | undefined;
  #stage: Stage = "unread";
  /** Used if the ClientHello arrives in several pieces. */
  #reader: ClientHelloReader | undefined;
  /** The ClientHello while it is held. */
  #rest = NOTHING;
  #paused = false;
  #closed: { readonly error: Error | undefined } | undefined;

  constructor(stream: SessionStream, reception: VisitorReception, nowMs: number) {
    super(stream);
    this.#reception = reception;
    this.startedMs = nowMs;
  }

  /** With the canonical name, once that is known. */
  get caller(): Caller {
    return this.#caller ?? this.inner.caller;
  }

  get peerPaused(): boolean {
    return this.inner.peerPaused;
  }

  /** Reads the ClientHello. */
  readHello(): void {
    this.#stage = "hello";
    this.inner.attach(this);
  }

  /** No complete ClientHello has come in time. */
  late(): void {
    const why = `Cannot serve visitor: no complete ClientHello within ${HELLO_DEADLINE_MS / 1000} s`;
    this.inner.abort(new SallyportError("deadline_exceeded", why, { side: "peer" }));
  }

  /** It counts for this service from now on. */
  enter(service: VisitorService, caller: Caller, source: string): void {
    this.#service = service;
    this.#caller = caller;
    this.source = source;
  }

  // From the connector.

  override attach(handler: ByteStreamHandler): void {
    this.handler = handler;
    if (this.#stage === "unread") this.#attachUnread();
    else if (this.#stage === "held") this.#goOnSoon();
  }

  override write(chunk: Bytes): boolean {
    this.bytesOut += chunk.length;
    return this.inner.write(chunk);
  }

  override abort(error?: Error): void {
    this.#abandon();
    this.inner.abort(error);
  }

  override release(): void {
    this.#abandon();
    this.inner.release();
  }

  override pause(): void {
    this.#paused = true;
    if (this.#stage !== "held") this.inner.pause();
  }

  override resume(): void {
    this.#paused = false;
    if (this.#stage !== "held") this.inner.resume();
    else this.#goOnSoon();
  }

  // From the session's stream.

  override data(chunk: Bytes): void {
    if (this.#stage === "through") {
      this.bytesIn += chunk.length;
      this.handler!.data(chunk);
    } else if (this.#stage === "hello") this.#judge(this.#read(chunk), chunk);
    // A stream that was released while it was held may still deliver bytes.
  }

  override end(): void {
    if (this.#stage === "through") this.handler!.end();
    else if (this.#stage === "hello") this.inner.abort();
  }

  override close(error?: Error): void {
    if (this.#stage === "hello") return this.#reception.gone(this);
    this.#closed = { error };
    this.#rest = NOTHING;
    if (this.handler !== undefined) this.#end();
  }

  /** Nearly all are complete in their first piece, and are parsed in place. */
  #read(chunk: Bytes): HelloOutcome {
    if (this.#reader === undefined) {
      const outcome = readClientHello(chunk);
      if (outcome.kind !== "incomplete") return outcome;
      this.#reader = new ClientHelloReader();
    }
    return this.#reader.push(chunk);
  }

  #judge(outcome: HelloOutcome, chunk: Bytes): void {
    if (outcome.kind === "incomplete") return;
    if (outcome.kind === "refused") {
      this.#stage = "through";
      const why = `Cannot serve visitor: ${outcome.detail}`;
      const error = new SallyportError(outcome.reason, why, { side: "peer" });
      return this.#reception.refused(this, outcome.alert, error);
    }
    this.#rest = this.#reader?.bytes ?? chunk.slice();
    this.#reader = undefined;
    this.#stage = "held";
    this.inner.pause();
    this.#reception.named(this, outcome.serverName);
  }

  /** Its connector doesn't want it any more: its service must learn of its end all the same. */
  #abandon(): void {
    this.handler ??= IGNORE_STREAM;
    this.#rest = NOTHING;
    if (this.#stage === "unread") this.#attachUnread();
    else if (this.#closed !== undefined) this.#goOnSoon();
  }

  #attachUnread(): void {
    this.#stage = "through";
    this.inner.attach(this);
  }

  /** Outside the connector's call, but without waiting for the next turn. */
  #goOnSoon(): void {
    queueMicrotask(() => this.#goOn());
  }

  #goOn(): void {
    const { handler } = this;
    if (this.#stage !== "held" || handler === undefined) return;
    if (this.#closed !== undefined) return this.#end();
    if (this.#paused) return;
    this.#stage = "through";
    const rest = this.#rest;
    this.#rest = NOTHING;
    try {
      if (rest.length > 0) this.data(rest);
    } catch (thrown) {
      this.inner.abort(internalError("stream", thrown));
    }
    if (!this.#paused) this.inner.resume();
  }

  #end(): void {
    this.#stage = "through";
    const error = this.#closed?.error;
    this.#service?.left(this, error);
    this.#service = undefined;
    this.handler?.close(error);
  }
}
