/**
 * An HTTP request and its response, independent of the HTTP version: two heads, and a stream that carries the request's
 * body in one direction and the response's in the other.
 *
 * @module
 */
import { type ByteStream, IGNORE_STREAM } from "../../runtime/port.ts";
import { Buffer } from "node:buffer";
import type { Bytes } from "../../bytes/bytes.ts";
import { StreamBase } from "../../runtime/stream_base.ts";
import type { Caller } from "../../transport/port.ts";
import type { Field } from "../../wire/http1/fields.ts";
import type { RequestHead, ResponseHead } from "../../wire/http1/head.ts";

/** A visitor's request, awaiting its response. */
export interface Exchange {
  readonly request: RequestHead;
  /** The visitor; `serverName` is the name in its TLS. */
  readonly visitor: Caller;
  /** Its `data` is the request's body. Bytes written to it after {@link respond} are the response's body. */
  readonly stream: ByteStream;
  /** Whether the request has a body, with or without Content-Length. */
  readonly hasBody: boolean;
  /**
   * The protocol that the visitor asks to upgrade to; `respond` then accepts 101, and the stream carries that protocol.
   */
  readonly upgrade: string | undefined;
  /** Sends the head of the response; call it once. */
  respond(head: ResponseHead): void;
}

/** Answers a request. An exception or rejection is answered with 500, unless a response has begun. */
export type HttpHandler = (exchange: Exchange) => void | Promise<void>;

/** Answers with a short page of plain text, and drops the request's body. */
export function respondText(
  exchange: Exchange,
  status: number,
  text: string,
  fields: readonly Field[] = [],
): void {
  const body = new Uint8Array(Buffer.from(`${text}\n`, "utf8"));
  exchange.stream.attach(IGNORE_STREAM);
  exchange.respond({
    status,
    fields: [
      ["content-type", "text/plain; charset=utf-8"],
      ["content-length", String(body.length)],
      ["cache-control", "no-store"],
      ["x-content-type-options", "nosniff"],
      ...fields,
    ],
  });
  if (exchange.request.method !== "HEAD") exchange.stream.write(body);
  exchange.stream.release();
}

/** Calls a handler. An exception is answered with 500, or ends a response that has begun. */
export function callHandler(handler: HttpHandler, exchange: Exchange & { readonly answered: boolean }): void {
  const failed = () => {
    if (exchange.answered) exchange.stream.abort();
    else respondText(exchange, 500, "Internal error");
  };
  try {
    const served: unknown = handler(exchange);
    Promise.resolve(served).catch(failed);
  } catch {
    failed();
  }
}

/**
 * A message's body inside a connection that also carries other messages. Bytes that arrive while nobody reads are
 * buffered.
 */
export abstract class BodyStream extends StreamBase {
  #waiting: Bytes[] = [];
  #endWaiting = false;
  #flowAsked = false;
  /** Bytes of the body received. */
  bytesIn = 0;
  /** Bytes of the body written. */
  bytesOut = 0;

  /** Resumes or pauses reading from the underlying connection. */
  protected abstract readBelow(on: boolean): void;
  /** The incoming body has been delivered completely. */
  protected abstract inputDone(): void;

  /** Called by the connection, inside its callback: a piece of the incoming body; a view. */
  take(piece: Bytes): void {
    this.bytesIn += piece.length;
    if (this.dead) return;
    if (this.flowing && this.#waiting.length === 0) {
      this.emitData(piece);
      return;
    }
    this.#waiting.push(piece.slice());
    this.readBelow(false);
  }

  /** Called by the connection, inside its callback: the incoming body is complete. */
  takeEnd(): void {
    this.#endWaiting = true;
    if (this.flowing && this.#waiting.length === 0) this.#deliver();
  }

  /** Called by the connection, inside its callback: it accepts bytes again. */
  drained(): void {
    this.emitDrain();
  }

  /** Called by the connection, inside its callback: it has ended. */
  lost(error: Error | undefined): void {
    this.dead = true;
    this.#waiting = [];
    this.emitClose(error);
  }

  protected override startFlow(): void {
    if (this.#flowAsked) return;
    this.#flowAsked = true;
    queueMicrotask(() => {
      this.#flowAsked = false;
      this.#deliver();
    });
  }

  protected override stopFlow(): void {
    this.readBelow(false);
  }

  #deliver(): void {
    while (this.flowing) {
      const piece = this.#waiting.shift();
      if (piece === undefined) break;
      this.emitData(piece);
    }
    if (!this.flowing || this.#waiting.length > 0) return;
    if (!this.#endWaiting) {
      this.readBelow(true);
      return;
    }
    if (this.endDelivered) return;
    this.emitEnd();
    if (!this.dead) this.inputDone();
  }
}
