/**
 * HTTP/1.1 on byte streams, answered by a fetch handler. The runtime's `node:http` reads and writes the messages; all
 * protection of the server against its clients is here, the same on every runtime. It opens no port.
 *
 * @module
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { isIPv6 } from "node:net";
import type { Duplex } from "node:stream";
import { setImmediate } from "node:timers";
import { type Bytes, concat } from "../bytes/bytes.ts";
import { writeResponseHead } from "../wire/http1/head.ts";
import { toNodeDuplex } from "./node_duplex.ts";
import type { ByteStream, Clock, Timer } from "./port.ts";
import { WrappedStream } from "./wrapped_stream.ts";

/** HTTP: deadline for a complete request head, from the earliest time it could arrive. */
export const HTTP_HEAD_DEADLINE_MS = 10_000;
/** HTTP: a connection without a request is closed after this time. */
export const HTTP_KEEP_ALIVE_MS = 60_000;
/** HTTP: how long a server that stops waits for the head of a request on a connection that hasn't sent one yet. */
export const HTTP_LAST_HEAD_MS = 1_000;
/** HTTP: a request or response is aborted when no byte has moved for this time. */
export const HTTP_IDLE_MS = 120_000;
/** HTTP: deadline for a complete request including its body. */
export const HTTP_REQUEST_DEADLINE_MS = 300_000;
/** HTTP: how often a connection's deadlines are checked. */
const TICK_MS = 5_000;

/** Options of {@link HttpEngine}. `Context` describes the connection to the handler, such as its peer's address. */
interface HttpEngineOptions<Context> {
  readonly clock: Clock;
  /** Answers one request. An exception is answered with 500. */
  fetch(request: Request, context: Context): Response | Promise<Response>;
  /** Called with exceptions thrown by the handler. */
  failed?(thrown: unknown): void;
  /** Whether a connection may carry several requests, one after the other. */
  readonly keepAlive: boolean;
}

/** A connection served by the engine. */
export interface HttpConnection {
  /** `head`: awaiting the first request; `idle`: awaiting a further one; `busy`: answering one. */
  readonly state: "head" | "idle" | "busy";
  /**
   * Accepts no further request; closes when the current one has been answered. The first one, which may be on its way,
   * has {@link HTTP_LAST_HEAD_MS} to arrive.
   */
  finish(): void;
  /** Answers the current request with 503, and closes. */
  giveUp(): void;
  /** Closes at once. */
  abort(): void;
}

/**
 * Serves HTTP/1.1 on streams. A request without a valid Host field is answered with 400, since its URL would be
 * whatever the client put there.
 */
export class HttpEngine<Context> {
  readonly #options: HttpEngineOptions<Context>;
  readonly #server: Server;
  readonly #connections = new WeakMap<Duplex, Connection<Context>>();

  constructor(options: HttpEngineOptions<Context>) {
    this.#options = options;
    this.#server = createServer((incoming, outgoing) => {
      const connection = this.#connections.get(incoming.socket as unknown as Duplex);
      if (connection === undefined) outgoing.destroy();
      else void connection.answer(incoming, outgoing);
    });
    // This module sets the deadlines: Node's would need a listening server.
    this.#server.keepAliveTimeout = 0;
    this.#server.on("clientError", (error, socket) => {
      const connection = this.#connections.get(socket);
      if (connection === undefined) socket.destroy();
      else connection.refuse((error as NodeJS.ErrnoException).code);
    });
    // Deno closes a connection after its first response if the server isn't listening itself.
    Object.defineProperty(this.#server, "listening", { value: true });
  }

  /**
   * Serves a stream and takes ownership of it. `over` is called when it accepts no more requests, and again when it has
   * closed.
   */
  serve(stream: ByteStream, context: Context, over: () => void = () => {}): HttpConnection {
    const connection = new Connection(this.#options, stream, context, over);
    this.#connections.set(connection.duplex, connection);
    this.#server.emit("connection", connection.duplex);
    return connection;
  }
}

class Connection<Context> implements HttpConnection, StreamWatch {
  readonly duplex: Duplex;
  state: "head" | "idle" | "busy" = "head";
  readonly #options: HttpEngineOptions<Context>;
  readonly #context: Context;
  readonly #over: () => void;
  readonly #stream: ByteStream;
  #timer: Timer | undefined;
  /** When the current state began, and when a byte last moved. */
  #sinceMs: number;
  #movedMs: number;
  /** Whether the current request has arrived with its body. */
  #requestWhole = false;
  #finishing = false;
  #outgoing: ServerResponse | undefined;
  #giveUp: (() => void) | undefined;

  constructor(
    options: HttpEngineOptions<Context>,
    stream: ByteStream,
    context: Context,
    over: () => void,
  ) {
    this.#options = options;
    this.#context = context;
    this.#over = over;
    this.#stream = stream;
    this.#sinceMs = this.#movedMs = options.clock.nowMs();
    this.duplex = toNodeDuplex(new WatchedStream(stream, this));
    // Node's HTTP server asks a socket for these.
    Object.assign(this.duplex, {
      setTimeout: () => this.duplex,
      setNoDelay: () => {},
      setKeepAlive: () => {},
    });
    this.#watch();
  }

  finish(): void {
    this.#finishing = true;
    if (this.state === "idle") return this.#end();
    if (this.state === "busy") return;
    this.#timer?.cancel();
    this.#timer = this.#options.clock.after(
      HTTP_LAST_HEAD_MS,
      () => this.state === "head" ? this.#end() : this.#watch(),
    );
  }

  giveUp(): void {
    this.#finishing = true;
    if (this.state !== "busy") this.#end();
    else if (this.#outgoing?.headersSent === false) this.#giveUp?.();
    else this.abort();
  }

  abort(): void {
    this.#timer?.cancel();
    this.#stream.abort();
  }

  /** Answers bytes that are no request, unless they follow a request that is being answered, and closes. */
  refuse(code: string | undefined): void {
    if (this.state === "busy") return this.abort();
    // The limit is that of the runtime's `node:http`.
    if (code === "HPE_HEADER_OVERFLOW") this.#refuse(431, "its address and header fields are too long");
    else this.#refuse(400, "it isn't valid HTTP/1.1");
  }

  /** Answers one request. Never rejects. */
  async answer(incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    this.#enter("busy");
    this.#requestWhole = false;
    this.#outgoing = outgoing;
    incoming.once("end", () => this.#requestWhole = true);
    outgoing.once("close", () => {
      this.#outgoing = this.#giveUp = undefined;
      this.#enter("idle");
      if (this.#finishing) this.#end();
    });
    try {
      await respond(outgoing, await this.#responseTo(incoming, outgoing), {
        noBody: incoming.method === "HEAD",
        close: this.#finishing || !this.#options.keepAlive,
      });
      // Deno leaves a body in the connection that wasn't read, and the next request would wait behind it. The head's
      // deadline bounds how long the rest may take.
      if (incoming.readableFlowing === null) incoming.resume();
    } catch {
      outgoing.destroy();
    }
  }

  async #responseTo(incoming: IncomingMessage, outgoing: ServerResponse): Promise<Response> {
    if (NO_REQUEST.has(incoming.method ?? "")) {
      const text = `Cannot serve request: the method ${incoming.method} isn't supported here`;
      return plain(405, text, { allow: "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS" });
    }
    const url = urlOf(incoming);
    if (url === undefined) {
      this.#finishing = true;
      return plain(400, "Cannot serve request: it needs one Host field with a host and an optional port");
    }
    const leaving = new AbortController();
    // After a complete response the signal isn't needed.
    outgoing.once("close", () => void (outgoing.writableFinished || leaving.abort()));
    const givenUp = new Promise<Response>((resolve) => {
      this.#giveUp = () => resolve(plain(503, "Cannot serve request: the server is stopping"));
    });
    try {
      const answered = this.#options.fetch(requestOf(incoming, url, leaving.signal), this.#context);
      return await Promise.race([answered, givenUp]);
    } catch (thrown) {
      // If a client disconnects mid-request the handler fails; that isn't the handler's fault.
      if (!leaving.signal.aborted && !incoming.destroyed) this.#options.failed?.(thrown);
      return plain(500, "internal error");
    }
  }

  #enter(state: "idle" | "busy"): void {
    this.state = state;
    this.#sinceMs = this.#movedMs = this.#options.clock.nowMs();
  }

  #end(): void {
    this.#timer?.cancel();
    this.duplex.end();
    this.#stream.release();
    this.#over();
  }

  #refuse(status: number, why: string): void {
    const body = new TextEncoder().encode(`Cannot serve request: ${why}\n`);
    const head = writeResponseHead(status, [
      ["content-type", "text/plain; charset=utf-8"],
      ["content-length", String(body.length)],
      ["connection", "close"],
    ]);
    this.#stream.write(concat([head, body]));
    this.#end();
  }

  #watch(): void {
    this.#timer = this.#options.clock.after(TICK_MS, () => {
      const nowMs = this.#options.clock.nowMs();
      const [heldMs, stillMs] = [nowMs - this.#sinceMs, nowMs - this.#movedMs];
      if (this.state === "idle" && heldMs >= HTTP_KEEP_ALIVE_MS) return this.#end();
      if (this.state === "head" && heldMs >= HTTP_HEAD_DEADLINE_MS) {
        return this.#refuse(408, `its head took longer than ${HTTP_HEAD_DEADLINE_MS / 1000} s`);
      }
      const late = !this.#requestWhole && heldMs >= HTTP_REQUEST_DEADLINE_MS;
      if (this.state === "busy" && (late || stillMs >= HTTP_IDLE_MS)) return this.abort();
      this.#watch();
    });
  }

  // From the watched stream.

  arrived(): void {
    this.moved();
    if (this.state !== "idle") return;
    // The first byte of a further request: starts the deadline for the rest of its head.
    this.state = "head";
    this.#sinceMs = this.#movedMs;
  }

  moved(): void {
    this.#movedMs = this.#options.clock.nowMs();
  }

  closed(): void {
    this.#timer?.cancel();
    this.#over();
  }
}

/** Receives the movements of a {@link WatchedStream}. */
interface StreamWatch {
  /** Bytes arrived from the client. */
  arrived(): void;
  /** Bytes were written, or the client has read what was written. */
  moved(): void;
  /** The stream is over, and its user knows. */
  closed(): void;
}

class WatchedStream extends WrappedStream {
  readonly #watch: StreamWatch;

  constructor(inner: ByteStream, watch: StreamWatch) {
    super(inner);
    this.#watch = watch;
  }

  override write(chunk: Bytes): boolean {
    this.#watch.moved();
    return this.inner.write(chunk);
  }

  override data(chunk: Bytes): void {
    this.#watch.arrived();
    this.handler?.data(chunk);
  }

  override drain(): void {
    this.#watch.moved();
    this.handler?.drain();
  }

  override close(error?: Error): void {
    this.handler?.close(error);
    this.#watch.closed();
  }
}

/** Methods that a Request of fetch can't have (Fetch §2.2.1). */
const NO_REQUEST: ReadonlySet<string> = new Set(["CONNECT", "TRACE", "TRACK"]);

function plain(status: number, text: string, headers: Readonly<Record<string, string>> = {}): Response {
  return new Response(`${text}\n`, {
    status,
    headers: { "content-type": "text/plain; charset=utf-8", ...headers },
  });
}

interface RespondOptions {
  readonly noBody: boolean;
  readonly close: boolean;
}

async function respond(
  outgoing: ServerResponse,
  response: Response,
  { noBody, close }: RespondOptions,
): Promise<void> {
  const last = close || response.headers.get("connection")?.toLowerCase() === "close";
  const headers: [string, string][] = [...response.headers].filter(([name]) => name !== "connection");
  if (last) headers.push(["connection", "close"]);
  const head = () => outgoing.writeHead(response.status, headers.flat());
  const reader = response.body?.getReader();
  if (reader === undefined || noBody) {
    await reader?.cancel();
    if (
      reader === undefined && !noBody && bodyAllowed(response.status) &&
      !response.headers.has("content-length")
    ) {
      headers.push(["content-length", "0"]);
    }
    head();
    outgoing.end();
    return;
  }
  let over = false;
  outgoing.once("close", () => over = true);
  const read = () => {
    const part = reader.read();
    // Failures show when it is awaited; until then they are silenced.
    part.catch(() => {});
    return part;
  };
  try {
    let next = read();
    let part = await next;
    let whole = false;
    // Most responses have one part. Its length is sent if the end follows at once.
    if (!part.done) {
      next = read();
      const second = await Promise.race([next, new Promise<undefined>((resolve) => setImmediate(resolve))]);
      whole = second?.done === true;
      if (whole && !response.headers.has("content-length")) {
        headers.push(["content-length", String(part.value!.length)]);
      }
    }
    if (whole) {
      // One system call for the whole response, if it is small.
      corked(outgoing, () => {
        head();
        outgoing.end(part.value);
      });
      return;
    }
    head();
    while (!part.done) {
      if (over) return await reader.cancel();
      if (!outgoing.write(part.value)) await taken(outgoing);
      part = await next;
      if (!part.done) next = read();
    }
    outgoing.end();
  } catch (error) {
    // The missing bytes or last chunk show the other side that it is incomplete.
    outgoing.destroy();
    await reader.cancel(error).catch(() => {});
  }
}

/** Sends everything written meanwhile together. */
function corked(outgoing: ServerResponse, write: () => void): void {
  const { socket } = outgoing;
  socket?.cork();
  write();
  socket?.uncork();
}

function bodyAllowed(status: number): boolean {
  return status >= 200 && status !== 204 && status !== 304;
}

/** Waits until the response accepts more, or is over. */
function taken(outgoing: ServerResponse): Promise<void> {
  return new Promise((resolve) => {
    const goOn = () => {
      outgoing.off("drain", goOn);
      outgoing.off("close", goOn);
      resolve();
    };
    outgoing.once("drain", goOn);
    outgoing.once("close", goOn);
    if (outgoing.destroyed) goOn();
  });
}

function requestOf(incoming: IncomingMessage, url: URL, signal: AbortSignal): Request {
  const headers = new Headers();
  for (let i = 0; i + 1 < incoming.rawHeaders.length; i += 2) {
    headers.append(incoming.rawHeaders[i]!, incoming.rawHeaders[i + 1]!);
  }
  const method = incoming.method ?? "GET";
  const hasBody = method !== "GET" && method !== "HEAD";
  return new Request(url, {
    method,
    headers,
    signal,
    ...hasBody ? { body: bodyOf(incoming), duplex: "half" } : {},
  } as RequestInit);
}

/**
 * The requested URL: the target's path under the Host field, or the target itself if it is an absolute URL (RFC 9112
 * §3.2.2). Undefined if there is no valid host.
 */
function urlOf({ url = "/", rawHeaders, httpVersion }: IncomingMessage): URL | undefined {
  const hosts: string[] = [];
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    if (rawHeaders[i]!.toLowerCase() === "host") hosts.push(rawHeaders[i + 1]!.trim());
  }
  if (hosts.length > 1 || (hosts.length === 0 && httpVersion !== "1.0")) return undefined;
  const host = hosts[0] ?? "localhost";
  if (!isHost(host)) return undefined;
  const whole = /^https?:\/\/([^/?#]*)(.*)$/i.exec(url);
  if (whole !== null) return isHost(whole[1]!) ? parse(`http://${whole[1]}${whole[2]}`) : undefined;
  // OPTIONS * has no path.
  return parse(`http://${host}${url.startsWith("/") ? url : "/"}`);
}

function parse(text: string): URL | undefined {
  return URL.canParse(text) ? new URL(text) : undefined;
}

/** Whether it is a host with an optional port, as in RFC 3986 §3.2.2: a name, an IPv4 or a bracketed IPv6 address. */
function isHost(text: string): boolean {
  const [, name, address, port] =
    /^(?:([\w.-]{1,255})|\[([0-9a-fA-F:.]{2,45})\])(?::(\d{1,5}))?$/.exec(text) ?? [];
  if (name === undefined && (address === undefined || !isIPv6(address))) return false;
  return port === undefined || Number(port) <= 65_535;
}

/** Read on demand, so that a handler that doesn't read applies back-pressure to the sender. */
function bodyOf(incoming: IncomingMessage): ReadableStream<Uint8Array> {
  const chunks = incoming[Symbol.asyncIterator]() as AsyncIterator<Uint8Array>;
  return new ReadableStream({
    async pull(controller) {
      const { done, value } = await chunks.next();
      if (done === true) controller.close();
      else controller.enqueue(value);
    },
    cancel: async () => void await chunks.return?.(),
  }, { highWaterMark: 0 });
}
