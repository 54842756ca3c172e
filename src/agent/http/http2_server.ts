/**
 * HTTP/2 with visitors, using the runtime's node:http2. Each stream is passed on as an {@link Exchange}.
 *
 * @module
 */
import { createServer, type ServerHttp2Session, type ServerHttp2Stream } from "node:http2";
import type { Duplex } from "node:stream";
import type { Caller } from "../../transport/port.ts";
import { endToEnd, type Field, fieldOf } from "../../wire/http1/fields.ts";
import { HTTP_FIELDS_MAX, isAuthority, type RequestHead, type ResponseHead } from "../../wire/http1/head.ts";
import { NodeStream } from "../../runtime/node_stream.ts";
import { callHandler, type Exchange } from "./exchange.ts";
import type { HttpConnection, HttpServerOptions } from "./http1_server.ts";
import { joinStreams } from "./join_streams.ts";
import type { SocketPairs } from "./socket_pair.ts";

/** Concurrent requests on one visitor's connection. */
export const HTTP2_STREAMS_MAX = 128;
/** Bytes of one request's body that a visitor may send ahead of its reader. */
export const HTTP2_WINDOW_BYTES = 256 * 1024;

/**
 * Serves HTTP/2 on a stream, which is taken over. On Deno node:http2 works only on real sockets, so it gets one end of
 * a pair.
 */
export function serveHttp2(options: HttpServerOptions, pairs: SocketPairs): HttpConnection {
  const { stream, clock, faults } = options;
  let finishing = false;
  let session: ServerHttp2Session | undefined;
  const closed = once((error: Error | undefined) => options.closed?.(error));
  // Paused until there is a socket for it.
  stream.pause();
  let left = false;
  stream.attach({ data() {}, end() {}, drain() {}, close: (error) => (left = true, closed(error)) });
  pairs.make().then(([near, far]) => {
    if (left) {
      near.destroy();
      far.destroy();
      return;
    }
    joinStreams(stream, new NodeStream(near, { clock, faults }), closed);
    // One server per connection, so that it knows its visitor.
    const server = createServer({
      settings: {
        maxConcurrentStreams: HTTP2_STREAMS_MAX,
        initialWindowSize: HTTP2_WINDOW_BYTES,
        maxHeaderListSize: 64 * 1024,
        enablePush: false,
      },
    });
    server.on("session", (made) => {
      session = made;
      made.on("error", () => {});
      made.setTimeout(options.idleTimeoutMs, () => made.close());
      if (finishing) made.close();
    });
    server.on("stream", (h2, headers, _flags, raw: unknown) => {
      serveStream(options, h2 as ServerHttp2Stream, Array.isArray(raw) ? raw as string[] : rawOf(headers));
    });
    server.on("sessionError", () => {});
    server.emit("connection", far);
  }, (error: unknown) => stream.abort(error as Error));
  return {
    finish() {
      finishing = true;
      session?.close();
    },
  };
}

function serveStream(options: HttpServerOptions, h2: ServerHttp2Stream, raw: readonly string[]): void {
  const request = headOf(raw);
  h2.on("error", () => {});
  if (request === undefined) {
    h2.respond({ ":status": 400 }, { endStream: true });
    return;
  }
  callHandler(options.handler, new Http2Exchange(options, h2, request));
}

/** One stream of a connection. */
class Http2Exchange implements Exchange {
  readonly request: RequestHead;
  readonly visitor: Caller;
  readonly stream: NodeStream;
  readonly upgrade: undefined;
  readonly hasBody: boolean;
  answered = false;
  readonly #h2: ServerHttp2Stream;

  constructor({ visitor, clock, faults }: HttpServerOptions, h2: ServerHttp2Stream, request: RequestHead) {
    this.request = request;
    this.visitor = visitor;
    this.#h2 = h2;
    this.hasBody = !h2.endAfterHeaders && !h2.readableEnded;
    this.stream = new NodeStream(h2 as unknown as Duplex, {
      clock,
      faults,
      destroy: (hard) => {
        // RFC 9113 §8.1: a complete response may end an incomplete request, with NO_ERROR.
        if (hard) h2.close(this.answered ? INTERNAL_ERROR : CANCEL);
        else if (!h2.readableEnded && !h2.closed) h2.close(NO_ERROR);
      },
    });
    // A reset stream has ended, regardless of what was written.
    h2.on("aborted", () => h2.destroy());
  }

  respond({ status, fields }: ResponseHead): void {
    if (this.answered) throw new TypeError("the request has been answered already");
    if (status < 200) throw new TypeError(`${status} isn't a status of HTTP/2`);
    this.answered = true;
    if (this.#h2.closed || this.#h2.destroyed || this.#h2.headersSent) return;
    const headers: Record<string, string | string[] | number> = { ":status": status };
    for (const [name, value] of endToEnd(fields)) {
      const before = headers[name];
      if (before === undefined) headers[name] = value;
      else headers[name] = Array.isArray(before) ? [...before, value] : [String(before), value];
    }
    this.#h2.respond(headers);
  }
}

const NO_ERROR = 0;
const INTERNAL_ERROR = 2;
const CANCEL = 8;

/** A request's head from its fields; undefined if they are invalid (RFC 9113 §8.3). */
function headOf(raw: readonly string[]): RequestHead | undefined {
  const fields: Field[] = [];
  const pseudo = new Map<string, string>();
  const cookies: string[] = [];
  if (raw.length > 2 * HTTP_FIELDS_MAX) return undefined;
  for (let i = 0; i + 1 < raw.length; i += 2) {
    const [name, value] = [raw[i] as string, raw[i + 1] as string];
    if (name.startsWith(":")) pseudo.set(name, value);
    // RFC 9113 §8.2.3: split cookie fields are joined into one for other versions.
    else if (name === "cookie") cookies.push(value);
    else fields.push([name, value]);
  }
  if (cookies.length > 0) fields.push(["cookie", cookies.join("; ")]);
  const [method = "", target = ""] = [pseudo.get(":method"), pseudo.get(":path")];
  const authority = (pseudo.get(":authority") ?? fieldOf(fields, "host") ?? "").toLowerCase();
  const path = target.startsWith("/") || (target === "*" && method === "OPTIONS");
  // Text inserted into a line of HTTP/1.1 must not end it.
  const clean = /^[\x21-\x7e]+$/.test(target) && !target.includes("#") && /^[A-Z]{1,32}$/.test(method) &&
    fields.every(([name, value]) => NAME.test(name) && VALUE.test(value));
  if (!path || !clean || method === "CONNECT" || !isAuthority(authority)) return undefined;
  return { method, target, authority, fields };
}

const NAME = /^[!#$%&'*+.^_`|~0-9a-z-]+$/;
const VALUE = /^[\t\x20-\x7e\x80-\xff]*$/;

function rawOf(headers: Readonly<Record<string, unknown>>): string[] {
  return Object.entries(headers).flatMap(([name, value]) =>
    (Array.isArray(value) ? value : [value]).flatMap((one) => [name, String(one)])
  );
}

function once<T>(call: (value: T) => void): (value: T) => void {
  let called = false;
  return (value) => {
    if (!called) call(value);
    called = true;
  };
}
