/**
 * HTTP/1.1 with one visitor: sequential requests on one connection, each passed on as an {@link Exchange}.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { type Bytes, concat } from "../../bytes/bytes.ts";
import { SallyportError } from "../../errors.ts";
import type { ByteStream, ByteStreamHandler, Clock, Timer } from "../../runtime/port.ts";
import type { Faults } from "../../runtime/shared.ts";
import type { Caller } from "../../transport/port.ts";
import { BodyReader, CHUNK_END, chunkLine, LAST_CHUNK } from "../../wire/http1/body.ts";
import {
  contentLengthOf,
  endToEnd,
  type Field,
  fieldOf,
  listOf,
  upgradeOf,
} from "../../wire/http1/fields.ts";
import {
  type BodyFraming,
  readRequestHead,
  type RequestHead,
  type ResponseHead,
  writeResponseHead,
} from "../../wire/http1/head.ts";
import { CoalescingWriter } from "./coalescing_writer.ts";
import { BodyStream, callHandler, type Exchange, type HttpHandler } from "./exchange.ts";

/** A request's head must be complete within this time from its first byte. */
export const HTTP_HEAD_DEADLINE_MS = 30_000;
/** A connection without a request is closed after this time. */
export const HTTP_KEEP_ALIVE_MS = 75_000;
/** Most pieces in which a head may arrive; each one is parsed from the start. */
export const HTTP_HEAD_PIECES_MAX = 2_000;
const NOTHING: Bytes = new Uint8Array(0);

/** Options of {@link serveHttp1} and serveHttp2. */
export interface HttpServerOptions {
  readonly stream: ByteStream;
  readonly visitor: Caller;
  readonly clock: Clock;
  readonly faults: Faults;
  readonly handler: HttpHandler;
  /** A request or response without progress is aborted after this time. */
  readonly idleTimeoutMs: number;
  /** Called when the connection has ended. */
  closed?(error: Error | undefined): void;
}

/** A connection that serves requests until either side ends it. */
export interface HttpConnection {
  /** Accepts no further request; closes when the current one has been answered. */
  finish(): void;
}

/** Serves HTTP/1.1 on a stream, which is taken over. */
export function serveHttp1(options: HttpServerOptions): HttpConnection {
  return new Http1Connection(options);
}

class Http1Connection implements ByteStreamHandler, HttpConnection {
  readonly options: HttpServerOptions;
  readonly writer: CoalescingWriter;
  readonly #stream: ByteStream;
  #exchange: ServerExchange | undefined;
  /** Bytes received after the current request, or part of the next head. */
  #rest: Bytes = NOTHING;
  #pieces = 0;
  #peerEnded = false;
  #over = false;
  #finishing = false;
  #timer: Timer | undefined;
  /** Bytes transferred, and when the last were. */
  #moved = 0;
  #seen = -1;
  #sinceMs = 0;

  constructor(options: HttpServerOptions) {
    this.options = options;
    this.#stream = options.stream;
    this.writer = new CoalescingWriter(options.stream);
    this.#sinceMs = options.clock.nowMs();
    this.#watch(HTTP_HEAD_DEADLINE_MS);
    this.#stream.attach(this);
  }

  finish(): void {
    this.#finishing = true;
    if (this.#exchange === undefined) this.#end();
  }

  /** Whether no request follows the current one. */
  get finishing(): boolean {
    return this.#finishing || this.#peerEnded;
  }

  data(chunk: Bytes): void {
    this.#moved += chunk.length;
    let left = chunk;
    if (this.#exchange !== undefined) left = this.#exchange.push(chunk);
    if (left.length === 0 || this.#over) return;
    this.#rest = concat([this.#rest, left]);
    // The next request waits for this one's response, and for the visitor to read what it was sent.
    if (this.#exchange !== undefined || !this.writer.taking) this.#stream.pause();
    else this.#next();
  }

  end(): void {
    this.#peerEnded = true;
    if (this.#exchange === undefined) this.#end();
    else this.#exchange.inputEnded();
  }

  drain(): void {
    this.writer.drained();
    if (this.#exchange === undefined) this.#goOn();
    else this.#exchange.drained();
  }

  close(error?: Error): void {
    this.#over = true;
    this.#timer?.cancel();
    const exchange = this.#exchange;
    this.#exchange = undefined;
    exchange?.lost(
      error ??
        new SallyportError("connection_lost", "Connection lost: the visitor has left", { side: "peer" }),
    );
    this.options.closed?.(error);
  }

  write(piece: Bytes): boolean {
    this.#moved += piece.length;
    return this.writer.write(piece);
  }

  closeWrite(): void {
    this.writer.flush();
    this.#stream.closeWrite();
  }

  /** Bytes received after a request whose connection has been upgraded. */
  takeRest(): Bytes {
    const rest = this.#rest;
    this.#rest = NOTHING;
    return rest;
  }

  read(on: boolean): void {
    if (on) this.#stream.resume();
    else this.#stream.pause();
  }

  /** The exchange is over: either in order, and the next request may follow, or together with the connection. */
  exchangeOver(keep: boolean, hard: boolean): void {
    this.#exchange = undefined;
    if (this.#over) return;
    if (hard) {
      this.#over = true;
      this.#timer?.cancel();
      this.#stream.abort();
      return;
    }
    if (!keep || this.finishing) {
      this.#end();
      return;
    }
    this.#sinceMs = this.options.clock.nowMs();
    // Must not run inside a call by the exchange's owner.
    queueMicrotask(() => this.#goOn());
  }

  /** Reads the next request, unless one is in progress or the visitor doesn't read its responses. */
  #goOn(): void {
    if (this.#exchange !== undefined || this.#over || !this.writer.taking) return;
    this.#stream.resume();
    if (this.#rest.length > 0) this.#next();
  }

  #next(): void {
    const outcome = readRequestHead(this.#rest);
    if (outcome.kind === "incomplete") {
      if (this.#pieces++ === 0) this.#sinceMs = this.options.clock.nowMs();
      if (this.#pieces > HTTP_HEAD_PIECES_MAX) this.#refuse(431, "its head arrives in too many pieces");
      return;
    }
    if (outcome.kind === "invalid") return this.#refuse(outcome.status, outcome.why);
    const { head, framing, minor, byteLength } = outcome;
    this.#pieces = 0;
    const rest = this.#rest.subarray(byteLength);
    this.#rest = NOTHING;
    const exchange = new ServerExchange(this, head, framing, minor);
    this.#exchange = exchange;
    const left = exchange.push(rest);
    if (left.length > 0) {
      this.#rest = left;
      this.#stream.pause();
    }
    if (this.#peerEnded) exchange.inputEnded();
    callHandler(this.options.handler, exchange);
  }

  #refuse(status: number, why: string): void {
    const body = new Uint8Array(Buffer.from(`Cannot serve request: ${why}\n`, "utf8"));
    this.writer.write(writeResponseHead(status, [
      ["content-type", "text/plain; charset=utf-8"],
      ["content-length", String(body.length)],
      ["connection", "close"],
    ]));
    this.writer.write(body);
    this.#end();
  }

  #end(): void {
    if (this.#over) return;
    this.#over = true;
    this.#timer?.cancel();
    this.writer.flush();
    this.#stream.release();
  }

  #watch(delayMs: number): void {
    this.#timer = this.options.clock.after(delayMs, () => {
      const nowMs = this.options.clock.nowMs();
      const moved = this.#moved - this.writer.bufferedBytes;
      if (moved !== this.#seen && this.#exchange !== undefined) this.#sinceMs = nowMs;
      this.#seen = moved;
      const limitMs = this.#exchange !== undefined
        ? this.options.idleTimeoutMs
        : this.#rest.length > 0
        ? HTTP_HEAD_DEADLINE_MS
        : HTTP_KEEP_ALIVE_MS;
      const leftMs = this.#sinceMs + limitMs - nowMs;
      if (leftMs > 0) {
        this.#watch(Math.min(leftMs, HTTP_HEAD_DEADLINE_MS));
        return;
      }
      if (this.#exchange !== undefined) {
        const why = `Cannot keep request: no byte in either direction for ${limitMs / 1000} s`;
        const idle = new SallyportError("session_idle", why, { side: "peer" });
        this.#over = true;
        this.#stream.abort(idle);
        this.#exchange.lost(idle);
        this.#exchange = undefined;
      } else if (this.#rest.length > 0) this.#refuse(408, "its head didn't arrive in time");
      else this.#end();
    });
  }
}

/** One request and its response. */
class ServerExchange extends BodyStream implements Exchange {
  readonly request: RequestHead;
  readonly visitor: Caller;
  readonly upgrade: string | undefined;
  readonly hasBody: boolean;
  readonly stream: ByteStream = this;
  protected readonly clock: Clock;
  protected readonly faults: Faults;
  answered = false;
  readonly #connection: Http1Connection;
  readonly #reader: BodyReader;
  readonly #minor: 0 | 1;
  #keepAlive: boolean;
  /** Whether the visitor waits for 100 (Continue) before it sends the body (RFC 9110 §10.1.1). */
  #expects: boolean;
  #inputWhole = false;
  #inputDelivered = false;
  #outputDone = false;
  #out: BodyFraming["kind"] | "raw" = "none";
  #left = 0;

  constructor(connection: Http1Connection, request: RequestHead, framing: BodyFraming, minor: 0 | 1) {
    super();
    this.#connection = connection;
    // Before any layer sets fields of its own: the visitor's Connection must not name those.
    this.request = { ...request, fields: endToEnd(request.fields) };
    this.#minor = minor;
    const { visitor, clock, faults } = connection.options;
    this.visitor = visitor;
    this.clock = clock;
    this.faults = faults;
    this.#reader = new BodyReader(framing);
    this.hasBody = framing.kind !== "none";
    this.upgrade = framing.kind === "none" && minor === 1 ? upgradeOf(request.fields) : undefined;
    const wishes = listOf(request.fields, "connection");
    this.#keepAlive = minor === 1 ? !wishes.includes("close") : wishes.includes("keep-alive");
    this.#expects = fieldOf(request.fields, "expect")?.toLowerCase() === "100-continue" &&
      framing.kind !== "none";
    // If the protocol may be upgraded, what follows the head isn't known yet.
    if (framing.kind === "none" && this.upgrade === undefined) this.#inputIsWhole();
  }

  get bufferedBytes(): number {
    return this.#connection.writer.bufferedBytes;
  }

  /** Called by the connection: received bytes; returns those beyond this request. */
  push(chunk: Bytes): Bytes {
    if (this.#out === "raw") {
      this.take(chunk);
      return NOTHING;
    }
    if (this.#reader.done) return chunk;
    try {
      const own = this.#reader.push(chunk, (piece) => this.take(piece));
      if (this.#reader.done) this.#inputIsWhole();
      return chunk.subarray(own);
    } catch (error) {
      this.abort(error as Error);
      return NOTHING;
    }
  }

  /** Called by the connection: the visitor sends nothing more. */
  inputEnded(): void {
    if (this.#out === "raw") return this.takeEnd();
    // A visitor that closes its side isn't waiting for the response: nothing else reveals one that has left.
    const error = new SallyportError("connection_lost", "Connection lost: the visitor has left", {
      side: "peer",
    });
    if (!this.dead) {
      this.lost(error);
      this.#connection.exchangeOver(false, true);
    }
  }

  respond({ status, fields: given }: ResponseHead): void {
    if (this.answered) throw new TypeError("the request has been answered already");
    if (status === 101 && this.upgrade === undefined) {
      throw new TypeError("the request doesn't ask for an upgrade");
    }
    this.answered = true;
    if (this.dead) return;
    const fields = endToEnd(given).filter(([name]) => name !== "content-length");
    if (status === 101) return this.#changeProtocol(fields, fieldOf(given, "upgrade") ?? this.upgrade ?? "");
    if (this.upgrade !== undefined) this.#inputIsWhole();
    const byteLength = contentLengthOf(given);
    if (byteLength !== undefined && status >= 200 && status !== 204) {
      fields.push(["content-length", String(byteLength)]);
    }
    if (this.request.method === "HEAD" || status === 204 || status === 304) this.#out = "none";
    else if (byteLength !== undefined) {
      this.#out = "length";
      this.#left = byteLength;
    } else if (this.#minor === 1) {
      this.#out = "chunked";
      fields.push(["transfer-encoding", "chunked"]);
    } else {
      this.#out = "close";
      this.#keepAlive = false;
    }
    // A body that the visitor withholds until 100 (Continue) may or may not arrive: the connection can't be reused.
    if (this.#connection.finishing || this.#expects) this.#keepAlive = false;
    if (!this.#keepAlive) fields.push(["connection", "close"]);
    else if (this.#minor === 0) fields.push(["connection", "keep-alive"]);
    this.#connection.write(writeResponseHead(status, fields));
  }

  write(piece: Bytes): boolean {
    if (this.dead || this.writeEnded || this.#out === "none" || piece.length === 0) return true;
    this.bytesOut += piece.length;
    if (this.#out === "length") {
      this.#left -= piece.length;
      if (this.#left < 0) {
        this.abort(
          new SallyportError("io_failed", "Cannot answer: the body is longer than its Content-Length", {
            side: "local",
          }),
        );
        return true;
      }
    }
    if (this.#out !== "chunked") return this.#connection.write(piece);
    this.#connection.write(chunkLine(piece.length));
    this.#connection.write(piece);
    return this.#connection.write(CHUNK_END);
  }

  closeWrite(): void {
    if (this.writeEnded || this.dead) return;
    this.writeEnded = true;
    const cutShort = !this.answered || (this.#out === "length" && this.#left > 0);
    if (cutShort) {
      // The missing bytes or last chunk show the visitor that the response is incomplete.
      this.abort(new SallyportError("io_failed", "Cannot answer: the body ends early", { side: "local" }));
      return;
    }
    if (this.#out === "chunked") this.#connection.write(LAST_CHUNK);
    if (this.#out === "raw") this.#connection.closeWrite();
    this.#outputDone = true;
    if (this.#expects && !this.#inputWhole) this.closeInOrder();
    else this.#maybeOver();
  }

  protected override readBelow(on: boolean): void {
    if (on && this.#expects && !this.answered) {
      this.#expects = false;
      this.#connection.write(CONTINUE);
    }
    if (!this.#inputWhole || this.#out === "raw") this.#connection.read(on);
  }

  protected override inputDone(): void {
    this.#inputDelivered = true;
    this.#maybeOver();
  }

  protected override destroy(hard: boolean): void {
    const inOrder = this.#outputDone && this.#inputDelivered && this.#out !== "raw" && this.#out !== "close";
    this.#connection.exchangeOver(inOrder && this.#keepAlive, hard);
  }

  #changeProtocol(fields: Field[], protocol: string): void {
    this.#out = "raw";
    this.#keepAlive = false;
    this.#connection.write(
      writeResponseHead(101, [...fields, ["connection", "Upgrade"], ["upgrade", protocol]]),
    );
    const rest = this.#connection.takeRest();
    if (rest.length > 0) this.take(rest);
    else this.#connection.read(true);
  }

  #inputIsWhole(): void {
    if (this.#inputWhole) return;
    this.#inputWhole = true;
    this.#expects = false;
    this.takeEnd();
  }

  #maybeOver(): void {
    if (this.#outputDone && this.#inputDelivered && !this.dead) this.closeInOrder();
  }
}

const CONTINUE: Bytes = new Uint8Array(Buffer.from("HTTP/1.1 100 Continue\r\n\r\n", "latin1"));
