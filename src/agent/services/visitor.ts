/**
 * A visitor of an agent, from its stream's arrival to its end: reads the name that it asks for from its ClientHello, if
 * the session doesn't carry it (SniTun's dialect), and then is the stream that its service's connector takes.
 *
 * @module
 */
import type { Bytes } from "../../bytes/bytes.ts";
import { NO_PLACE } from "../../bytes/roster.ts";
import { SallyportError } from "../../errors.ts";
import { HeldStream } from "../../runtime/held_stream.ts";
import type { Caller, SessionStream } from "../../transport/port.ts";
import {
  ClientHelloReader,
  HELLO_DEADLINE_MS,
  type HelloOutcome,
  readClientHello,
} from "../../wire/tls/client_hello.ts";

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

/** See the module. */
export class Visitor extends HeldStream<SessionStream> implements SessionStream {
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
  /** The ClientHello is awaited. */
  #reading = false;
  /** Used if the ClientHello arrives in several pieces. */
  #reader: ClientHelloReader | undefined;

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
    this.#reading = true;
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

  override write(chunk: Bytes): boolean {
    this.bytesOut += chunk.length;
    return this.inner.write(chunk);
  }

  // From the session's stream.

  override data(chunk: Bytes): void {
    if (this.#reading) return this.#judge(this.#read(chunk), chunk);
    this.bytesIn += chunk.length;
    super.data(chunk);
  }

  override end(): void {
    if (this.#reading) this.inner.abort();
    else super.end();
  }

  override close(error?: Error): void {
    if (this.#reading) this.#reception.gone(this);
    else super.close(error);
  }

  protected override over(error: Error | undefined): void {
    this.#service?.left(this, error);
    this.#service = undefined;
    super.over(error);
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
    this.#reading = false;
    if (outcome.kind === "refused") {
      const why = `Cannot serve visitor: ${outcome.detail}`;
      const error = new SallyportError(outcome.reason, why, { side: "peer" });
      return this.#reception.refused(this, outcome.alert, error);
    }
    this.hold(this.#reader?.bytes ?? chunk.slice());
    this.#reader = undefined;
    this.#reception.named(this, outcome.serverName);
  }
}
