/**
 * An HTTP request and its answer, whichever version of HTTP carries them: two heads, and a stream whose one direction is
 * the request's body and whose other one is the answer's.
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

/** A visitor's request, waiting for its answer. */
export interface Exchange {
  readonly request: RequestHead;
  /** The visitor; `serverName` is the name in its TLS. */
  readonly visitor: Caller;
  /** Its `data` is the request's body. What is written to it behind {@link respond} is the answer's. */
  readonly stream: ByteStream;
  /** The request has a body, whose length it may say in Content-Length or not. */
  readonly hasBody: boolean;
  /** The visitor asks to change the protocol, and `respond` takes 101: the stream then carries that protocol. */
  readonly upgrade: string | undefined;
  /** Sends the head of the answer; to be called once. */
  respond(head: ResponseHead): void;
}

/** Answers a request. What it throws or rejects with is answered with 500, where nothing has been answered yet. */
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

/** Calls a handler; what it throws is answered with 500, or ends an answer that has begun. */
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

/** A message's body inside a connection that carries other messages too: what comes while nobody reads is kept. */
export abstract class BodyStream extends StreamBase {
  #waiting: Bytes[] = [];
  #endWaiting = false;
  #flowAsked = false;
  /** Bytes of the body that came in. */
  bytesIn = 0;
  /** Bytes of the body that were written. */
  bytesOut = 0;

  /** Whether the connection below is to go on reading. */
  protected abstract readBelow(on: boolean): void;
  /** The incoming body has been delivered whole. */
  protected abstract inputDone(): void;

  /** From below, inside its callback: a piece of the incoming body; a view. */
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

  /** From below, inside its callback: the incoming body is whole. */
  takeEnd(): void {
    this.#endWaiting = true;
    if (this.flowing && this.#waiting.length === 0) this.#deliver();
  }

  /** From below, inside its callback: it takes bytes again. */
  drained(): void {
    this.emitDrain();
  }

  /** From below, inside its callback: it is over. */
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
