/**
 * A fetch handler as a target in the same process: Hono's `app.fetch`, or any function from a Request to a Response.
 *
 * @module
 */
import { setImmediate } from "node:timers";
import type { Bytes } from "../../bytes/bytes.ts";
import type { ByteStream } from "../../runtime/port.ts";
import type { Caller } from "../../transport/port.ts";
import type { Field } from "../../wire/http1/fields.ts";
import type { Exchange, HttpHandler } from "./exchange.ts";

/** Bytes of a response's body sent in one turn of the event loop. */
const TURN_BYTES = 64 * 1024;

/** Answers one request; `visitor` is the requester. */
export type FetchHandler = (request: Request, visitor: Caller) => Response | Promise<Response>;

/** Adapts a fetch handler to exchanges. An exception is answered with 500. */
export function fetchHandler(fetch: FetchHandler): HttpHandler {
  return async (exchange) => {
    const body = new IncomingBody(exchange.stream);
    const response = await fetch(requestOf(exchange, body), exchange.visitor);
    const fields: Field[] = [];
    for (const [name, value] of response.headers) fields.push([name, value]);
    exchange.respond({ status: response.status, fields });
    await body.answer(response.body, exchange.request.method !== "HEAD");
  };
}

function requestOf({ request, hasBody }: Exchange, body: IncomingBody): Request {
  const { method, target, authority, fields } = request;
  const headers = new Headers();
  for (const [name, value] of fields) headers.append(name, value);
  // A request for `*` addresses the whole host.
  const url = new URL(`https://${authority}${target === "*" ? "/" : target}`);
  const given = hasBody && method !== "GET" && method !== "HEAD";
  return new Request(url, {
    method,
    headers,
    signal: body.signal,
    ...given ? { body: body.readable(), duplex: "half" } : {},
  } as RequestInit);
}

/** Both bodies of an exchange: the handler reads one and supplies the other. */
class IncomingBody {
  readonly #stream: ByteStream;
  readonly #left = new AbortController();
  #controller: ReadableStreamDefaultController<Bytes> | undefined;
  #drained = () => {};
  #answered = false;

  constructor(stream: ByteStream) {
    this.#stream = stream;
    stream.pause();
    stream.attach({
      data: (chunk) => {
        if (this.#controller === undefined) return;
        this.#controller.enqueue(chunk.slice());
        // Read on demand, so that a handler that doesn't read applies backpressure to the visitor.
        stream.pause();
      },
      end: () => {
        this.#controller?.close();
        this.#controller = undefined;
      },
      drain: () => this.#drained(),
      close: (error) => {
        this.#controller?.error(error ?? new Error("the visitor has left"));
        this.#controller = undefined;
        // Also without an error: anything written from now on reaches no one.
        if (!this.#answered) this.#left.abort(error ?? new Error("the visitor has left"));
        this.#drained();
      },
    });
  }

  /** Aborted when the visitor leaves before the response is complete. */
  get signal(): AbortSignal {
    return this.#left.signal;
  }

  readable(): ReadableStream<Bytes> {
    return new ReadableStream<Bytes>({
      start: (controller) => void (this.#controller = controller),
      pull: () => this.#stream.resume(),
      cancel: () => void (this.#controller = undefined),
    }, { highWaterMark: 0 });
  }

  /** Sends the response's body. */
  async answer(body: ReadableStream<Uint8Array> | null, wanted: boolean): Promise<void> {
    const { aborted } = this.#left.signal;
    if (body === null || !wanted || aborted) {
      this.#answered = true;
      await body?.cancel();
      this.#stream.release();
      return;
    }
    const reader = body.getReader();
    const gone = () => void reader.cancel(this.#left.signal.reason).catch(() => {});
    this.#left.signal.addEventListener("abort", gone, { once: true });
    let sinceTurn = 0;
    try {
      for (;;) {
        const { done, value } = await reader.read();
        if (done || this.#left.signal.aborted) break;
        // A body that is always ready would starve everything else, including the notice that the visitor has left.
        sinceTurn += value.byteLength;
        if (sinceTurn >= TURN_BYTES) {
          sinceTurn = 0;
          await new Promise<void>((resolve) => void setImmediate(resolve));
        }
        if (!this.#stream.write(value as Bytes) && !this.#left.signal.aborted) {
          await new Promise<void>((resolve) => this.#drained = resolve);
        }
      }
      this.#answered = true;
      this.#stream.release();
    } catch (error) {
      // The missing bytes or last chunk show the visitor that the response is incomplete.
      this.#stream.abort(error instanceof Error ? error : new Error(String(error)));
    } finally {
      this.#left.signal.removeEventListener("abort", gone);
    }
  }
}
