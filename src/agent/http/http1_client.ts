/**
 * HTTP/1.1 with a target: reused connections, and one {@link BodyStream} per request.
 *
 * @module
 */
import { type Bytes, concat } from "../../bytes/bytes.ts";
import { SallyportError } from "../../errors.ts";
import type { ByteStream, ByteStreamHandler, Clock, Timer } from "../../runtime/port.ts";
import type { Faults } from "../../runtime/shared.ts";
import { BodyReader, CHUNK_END, chunkLine, LAST_CHUNK } from "../../wire/http1/body.ts";
import { type Field, listOf } from "../../wire/http1/fields.ts";
import {
  type BodyFraming,
  readResponseHead,
  type ResponseHead,
  writeRequestHead,
} from "../../wire/http1/head.ts";
import { CoalescingWriter } from "./coalescing_writer.ts";
import { BodyStream } from "./exchange.ts";

/** Idle connections kept to the targets of one service. */
export const HTTP_IDLE_CONNECTIONS_MAX = 64;
/** How long an idle connection is kept. */
export const HTTP_IDLE_CONNECTION_MS = 30_000;
/** Concurrent requests to the targets of one service. */
export const HTTP_REQUESTS_MAX = 1_024;
/** A request that can't be retried doesn't use a connection idle for longer: the target may be about to close it. */
const SURELY_OPEN_MS = 1_000;
/** Interim answers (1xx) before the final one. */
const INTERIM_MAX = 16;

/** A request to a target. */
interface TargetRequest {
  readonly method: string;
  readonly target: string;
  /** All fields sent besides the framing, including Host. */
  readonly fields: readonly Field[];
  /** How the body is framed; "close" isn't for requests. */
  readonly body: Exclude<BodyFraming["kind"], "close">;
  /** The body's length, if it is framed by length. */
  readonly byteLength?: number;
  /** The protocol to upgrade to. */
  readonly upgrade?: string;
  /** Called with the head of the response, before its body's first byte, inside a callback of the connection. */
  answered(head: ResponseHead): void;
}

/** Options of {@link Http1Client}. */
interface Http1ClientOptions {
  readonly clock: Clock;
  readonly faults: Faults;
  /** Connects to a target. */
  dial(): Promise<ByteStream>;
  /** Whether each request gets a separate connection. */
  readonly single?: boolean;
}

/** Sends requests over reused connections. */
export class Http1Client {
  readonly #options: Http1ClientOptions;
  /** The most recently used one is last. */
  readonly #idle: ClientConnection[] = [];
  #requests = 0;
  #closed = false;

  constructor(options: Http1ClientOptions) {
    this.#options = options;
  }

  /**
   * Sends a request's head. Bytes written to the stream are the request's body; its data is the response's. Rejects
   * with the errors of `dial`, and with `limit_exceeded`. `dial` overrides how this request connects to a target.
   */
  async request(
    request: TargetRequest,
    dial: () => Promise<ByteStream> = this.#options.dial,
  ): Promise<BodyStream> {
    if (this.#requests >= HTTP_REQUESTS_MAX) {
      const why = `Cannot forward request: ${HTTP_REQUESTS_MAX} are already in progress`;
      throw new SallyportError("limit_exceeded", why, { side: "local", retryable: true });
    }
    this.#requests++;
    try {
      const repeatable = request.body === "none" && ["GET", "HEAD", "OPTIONS"].includes(request.method);
      const connection = this.#take(repeatable) ??
        new ClientConnection(this, await dial(), this.#options.clock);
      const exchange = new ClientExchange(request, this.#options, repeatable ? dial : undefined);
      exchange.start(connection);
      return exchange;
    } catch (error) {
      this.#requests--;
      throw error;
    }
  }

  /** Closes idle connections. */
  close(): void {
    this.#closed = true;
    for (const connection of this.#idle.splice(0)) connection.finish();
  }

  /** Called by a connection: its request is over. */
  requestOver(): void {
    this.#requests--;
  }

  /** Called by a connection: it can be reused. */
  keep(connection: ClientConnection): void {
    if (this.#closed || this.#options.single === true) return connection.finish();
    this.#idle.push(connection);
    if (this.#idle.length > HTTP_IDLE_CONNECTIONS_MAX) this.#idle.shift()?.finish();
  }

  /** Called by a connection: it has ended. */
  forget(connection: ClientConnection): void {
    const index = this.#idle.indexOf(connection);
    if (index >= 0) this.#idle.splice(index, 1);
  }

  #take(repeatable: boolean): ClientConnection | undefined {
    const last = this.#idle.at(-1);
    if (last === undefined || (!repeatable && last.idleMs > SURELY_OPEN_MS)) return undefined;
    return this.#idle.pop();
  }
}

/** One connection to a target. */
class ClientConnection implements ByteStreamHandler {
  readonly writer: CoalescingWriter;
  readonly client: Http1Client;
  readonly #stream: ByteStream;
  readonly #clock: Clock;
  #exchange: ClientExchange | undefined;
  #idleSinceMs = 0;
  #timer: Timer | undefined;
  /** Whether it has served a request before. */
  used = false;

  constructor(client: Http1Client, stream: ByteStream, clock: Clock) {
    this.client = client;
    this.#stream = stream;
    this.#clock = clock;
    this.writer = new CoalescingWriter(stream);
    stream.attach(this);
  }

  get idleMs(): number {
    return this.#clock.nowMs() - this.#idleSinceMs;
  }

  serve(exchange: ClientExchange): void {
    this.#timer?.cancel();
    this.#exchange = exchange;
    this.#stream.resume();
  }

  data(chunk: Bytes): void {
    // Unsolicited bytes from a target are a protocol error.
    if (this.#exchange === undefined) this.#stream.abort();
    else this.#exchange.push(chunk);
  }

  end(): void {
    if (this.#exchange === undefined) this.finish();
    else this.#exchange.inputEnded();
  }

  drain(): void {
    this.writer.drained();
    this.#exchange?.drained();
  }

  close(error?: Error): void {
    this.#timer?.cancel();
    this.client.forget(this);
    const exchange = this.#exchange;
    this.#exchange = undefined;
    exchange?.connectionLost(error);
  }

  read(on: boolean): void {
    if (on) this.#stream.resume();
    else this.#stream.pause();
  }

  closeWrite(): void {
    this.writer.flush();
    this.#stream.closeWrite();
  }

  /** Called by the exchange: it is over. */
  over(keep: boolean, hard: boolean): void {
    this.#exchange = undefined;
    if (hard) this.#stream.abort();
    else if (keep) {
      this.used = true;
      this.#stream.resume();
      this.#idleSinceMs = this.#clock.nowMs();
      this.#timer = this.#clock.after(HTTP_IDLE_CONNECTION_MS, () => {
        this.client.forget(this);
        this.finish();
      });
      this.client.keep(this);
    } else this.finish();
  }

  /** Closes the connection in order. */
  finish(): void {
    this.#timer?.cancel();
    this.client.forget(this);
    this.writer.flush();
    this.#stream.release();
  }
}

/** One request to a target. */
class ClientExchange extends BodyStream {
  protected readonly clock: Clock;
  protected readonly faults: Faults;
  readonly #request: TargetRequest;
  /** Reconnects if the connection turns out to have been closed meanwhile; absent if the request mustn't be retried. */
  #again: (() => Promise<ByteStream>) | undefined;
  #connection: ClientConnection | undefined;
  #head: Bytes = new Uint8Array(0);
  #reader: BodyReader | undefined;
  #raw = false;
  #interim = 0;
  #keepAlive = true;
  #left: number;
  #outputDone: boolean;
  #inputWhole = false;
  #inputDelivered = false;

  constructor(
    request: TargetRequest,
    { clock, faults }: Http1ClientOptions,
    again: (() => Promise<ByteStream>) | undefined,
  ) {
    super();
    this.#request = request;
    this.clock = clock;
    this.faults = faults;
    this.#again = again;
    this.#left = request.byteLength ?? 0;
    this.#outputDone = false;
  }

  get bufferedBytes(): number {
    return this.#connection?.writer.bufferedBytes ?? 0;
  }

  /** Sends the head over a connection. */
  start(connection: ClientConnection): void {
    this.#connection = connection;
    if (!connection.used) this.#again = undefined;
    connection.serve(this);
    const { method, target, fields, body, byteLength, upgrade } = this.#request;
    const all = [...fields];
    if (body === "length") all.push(["content-length", String(byteLength)]);
    else if (body === "chunked") all.push(["transfer-encoding", "chunked"]);
    else if (method === "POST" || method === "PUT" || method === "PATCH") all.push(["content-length", "0"]);
    if (upgrade !== undefined) all.push(["connection", "Upgrade"], ["upgrade", upgrade]);
    connection.writer.write(writeRequestHead(method, target, all));
  }

  /** Called by the connection: received bytes. */
  push(chunk: Bytes): void {
    this.#again = undefined;
    if (this.#raw) return this.take(chunk);
    let left = chunk;
    try {
      while (this.#reader === undefined) {
        const bytes = this.#head.length === 0 ? left : concat([this.#head, left]);
        const outcome = readResponseHead(bytes, this.#request.method);
        if (outcome.kind === "incomplete") {
          this.#head = bytes.slice();
          return;
        }
        if (outcome.kind === "invalid") throw misunderstood(outcome.why);
        this.#head = new Uint8Array(0);
        left = bytes.subarray(outcome.byteLength);
        const { head, framing, minor } = outcome;
        if (head.status === 101) {
          if (this.#request.upgrade === undefined) {
            throw misunderstood("it switches protocols without being asked");
          }
          this.#raw = true;
          this.#keepAlive = false;
          this.#request.answered(head);
          if (left.length > 0) this.take(left);
          return;
        }
        if (head.status < 200) {
          if (++this.#interim > INTERIM_MAX) {
            throw misunderstood("it sends too many interim responses");
          }
          if (left.length === 0) return;
          continue;
        }
        const wishes = listOf(head.fields, "connection");
        if (minor === 0 ? !wishes.includes("keep-alive") : wishes.includes("close")) this.#keepAlive = false;
        if (framing.kind === "close") this.#keepAlive = false;
        this.#reader = new BodyReader(framing);
        // A response other than the requested upgrade ends what would have been its stream.
        this.#request.answered(head);
      }
      const own = this.#reader.push(left, (piece) => this.take(piece));
      if (own < left.length) this.#keepAlive = false;
      if (this.#reader.done) this.#inputIsWhole();
    } catch (error) {
      this.#fail(error instanceof SallyportError ? error : misunderstood(String((error as Error).message)));
    }
  }

  /** Called by the connection: the target sends nothing more. */
  inputEnded(): void {
    this.#keepAlive = false;
    if (this.#raw) this.takeEnd();
    else if (this.#reader?.end() === true) this.#inputIsWhole();
    else if (this.#again === undefined) this.#fail(misunderstood("it ended the connection early"));
  }

  /** Called by the connection: it has ended. */
  connectionLost(error: Error | undefined): void {
    const again = this.#again;
    if (again !== undefined && !this.dead) {
      this.#again = undefined;
      const client = this.#connection?.client as Http1Client;
      again().then(
        (stream) => this.dead ? stream.abort() : this.start(new ClientConnection(client, stream, this.clock)),
        (failure) => this.#lost(failure),
      );
      return;
    }
    this.#lost(error ?? misunderstood("it ended the connection early"));
  }

  write(piece: Bytes): boolean {
    const connection = this.#connection;
    if (this.dead || this.writeEnded || connection === undefined || piece.length === 0) return true;
    const { body } = this.#request;
    if (body === "none" && !this.#raw) return true;
    this.bytesOut += piece.length;
    if (body !== "chunked" || this.#raw) {
      this.#left -= piece.length;
      return connection.writer.write(piece);
    }
    connection.writer.write(chunkLine(piece.length));
    connection.writer.write(piece);
    return connection.writer.write(CHUNK_END);
  }

  closeWrite(): void {
    if (this.writeEnded || this.dead) return;
    this.writeEnded = true;
    const { body } = this.#request;
    if (body === "length" && this.#left !== 0) {
      this.abort(
        new SallyportError("connection_lost", "Connection lost: the request's body isn't complete", {
          side: "peer",
        }),
      );
      return;
    }
    if (body === "chunked") this.#connection?.writer.write(LAST_CHUNK);
    if (this.#raw) this.#connection?.closeWrite();
    this.#outputDone = true;
    this.#maybeOver();
  }

  protected override readBelow(on: boolean): void {
    if (!this.#inputWhole) this.#connection?.read(on);
  }

  protected override inputDone(): void {
    this.#inputDelivered = true;
    this.#maybeOver();
  }

  protected override destroy(hard: boolean): void {
    const connection = this.#connection;
    this.#connection = undefined;
    this.#again = undefined;
    connection?.client.requestOver();
    const whole = this.#outputDone && this.#inputDelivered;
    connection?.over(whole && this.#keepAlive, hard || !whole);
  }

  #inputIsWhole(): void {
    if (this.#inputWhole) return;
    this.#inputWhole = true;
    this.takeEnd();
  }

  #maybeOver(): void {
    if (this.#outputDone && this.#inputDelivered && !this.dead) this.closeInOrder();
  }

  #fail(error: SallyportError): void {
    this.#again = undefined;
    const connection = this.#connection;
    this.#lost(error);
    connection?.over(false, true);
  }

  #lost(error: Error): void {
    if (this.#connection === undefined) return;
    this.#connection.client.requestOver();
    this.#connection = undefined;
    this.lost(error);
  }
}

function misunderstood(why: string): SallyportError {
  return new SallyportError("endpoint_unreachable", `Cannot read the target's answer: ${why}`, {
    side: "local",
  });
}
