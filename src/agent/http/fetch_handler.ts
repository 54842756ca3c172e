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

/** So much of an answer's body is sent in one turn of the event loop. */
const TURN_BYTES = 64 * 1024;

/** Answers one request; `visitor` is who asks. */
export type FetchHandler = (request: Request, visitor: Caller) => Response | Promise<Response>;

/** The handler for exchanges. What it throws is answered with 500. */
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
  // A request for `*` is for the host as a whole.
  const url = new URL(`https://${authority}${target === "*" ? "/" : target}`);
  const given = hasBody && method !== "GET" && method !== "HEAD";
  return new Request(url, {
    method,
    headers,
    signal: body.signal,
    ...given ? { body: body.readable(), duplex: "half" } : {},
  } as RequestInit);
}

/** Both bodies of a request: the handler reads one and gives the other. */
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
        // Read as it is wanted, so that a handler that doesn't read holds the visitor back.
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
        // Without an error too: nothing that is written from now on reaches anybody.
        if (!this.#answered) this.#left.abort(error ?? new Error("the visitor has left"));
        this.#drained();
      },
    });
  }

  /** Aborted when the visitor has left before it was answered. */
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

  /** Sends the answer's body. */
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
        // A body that is always at hand would keep everything else waiting, and so the news that the visitor has left.
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
      // The length or the last chunk is missing, by which the visitor sees that it isn't whole.
      this.#stream.abort(error instanceof Error ? error : new Error(String(error)));
    } finally {
      this.#left.signal.removeEventListener("abort", gone);
    }
  }
}
