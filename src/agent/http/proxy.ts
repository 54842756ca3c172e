/**
 * Forwards visitors' requests to an HTTP server.
 *
 * @module
 */
import { UNKNOWN_CALLER } from "../../protocol/mux/host.ts";
import { isIPv6 } from "node:net";
import { errorMessage, SallyportError } from "../../errors.ts";
import type { ByteStream, Clock, Timer } from "../../runtime/port.ts";
import type { Faults } from "../../runtime/shared.ts";
import { type Logger, silentLogger } from "../../telemetry/log.ts";
import { type LogSampler, visitorLines } from "../../telemetry/log_sampler.ts";
import type { Caller } from "../../transport/port.ts";
import { contentLengthOf, endToEnd, type Field, fieldsWithout } from "../../wire/http1/fields.ts";
import { printableName } from "../../wire/hostname.ts";
import { type BodyStream, type Exchange, type HttpHandler, respondText } from "./exchange.ts";
import { Http1Client } from "./http1_client.ts";

/** Options of {@link httpProxy}. */
export interface HttpProxyOptions {
  readonly clock: Clock;
  readonly faults: Faults;
  /** Connects to the server, or to one of several. `visitor` is the visitor whom the connection is for. */
  dial(visitor: Caller): Promise<ByteStream>;
  /**
   * Whether each request gets a separate connection, which is needed if a connection begins with the visitor's address.
   */
  readonly single?: boolean;
  /** The server must begin its response within this time. */
  readonly answerTimeoutMs: number;
  /** Largest body of a request. */
  readonly requestBodyMaxBytes?: number;
  readonly log?: Logger;
  /** Called when a request couldn't be forwarded, with the reason. */
  failed?(error: unknown): void;
}

/** A handler that forwards requests, and a function that closes its connections. */
interface HttpProxy {
  readonly handler: HttpHandler;
  close(): void;
}

/** What a response of the proxy itself, instead of the server's, says of the fault in `Proxy-Status` (RFC 9209). */
export type ProxyFault =
  | "destination_unavailable"
  | "http_protocol_error"
  | "http_response_timeout"
  | "connection_limit_reached";

/** The fault of a response that an agent made in place of the server's; undefined if it is the server's. */
export function proxyFaultOf(fields: Headers): ProxyFault | undefined {
  const [, fault] = /^sallyport; error=([a-z_]+)$/.exec(fields.get("proxy-status") ?? "") ?? [];
  return fault as ProxyFault | undefined;
}

/** Creates a proxy. The server receives the visitor's Host, and its address in `X-Forwarded-For` and `Forwarded`. */
export function httpProxy(options: HttpProxyOptions): HttpProxy {
  const { clock, faults, single } = options;
  const client = new Http1Client({ clock, faults, single, dial: () => options.dial(UNKNOWN_CALLER) });
  const sampler = visitorLines(options.log ?? silentLogger, clock);
  return {
    handler: (exchange) => new ForwardedRequest(options, client, sampler, exchange).start(),
    close: () => client.close(),
  };
}

/** One visitor's request on its way to the server, and the response on its way back. */
class ForwardedRequest {
  readonly #options: HttpProxyOptions;
  readonly #client: Http1Client;
  readonly #sampler: LogSampler;
  readonly #exchange: Exchange;
  readonly #bodyMaxBytes: number;
  #bodyBytes = 0;
  /** The visitor has a response, from the server or from here. */
  #answered = false;
  #timedOut = false;
  #server: BodyStream | undefined;

  constructor(options: HttpProxyOptions, client: Http1Client, sampler: LogSampler, exchange: Exchange) {
    this.#options = options;
    this.#client = client;
    this.#sampler = sampler;
    this.#exchange = exchange;
    this.#bodyMaxBytes = options.requestBodyMaxBytes ?? Infinity;
  }

  /** Resolves when the request's head has been sent, or when the visitor has been told why not. */
  async start(): Promise<void> {
    const { request, visitor, upgrade } = this.#exchange;
    const byteLength = contentLengthOf(request.fields);
    if (byteLength !== undefined && byteLength > this.#bodyMaxBytes) return this.#refuseBody();
    const { clock, answerTimeoutMs } = this.#options;
    const timer = clock.after(answerTimeoutMs, () => this.#timeOut());
    try {
      this.#server = await this.#client.request({
        method: request.method,
        target: request.target,
        fields: forwardedFields(this.#exchange),
        body: bodyKind(byteLength, this.#exchange.hasBody),
        byteLength,
        upgrade,
        answered: (head) => {
          timer.cancel();
          if (this.#answered) return;
          this.#answered = true;
          this.#exchange.respond(head);
        },
      }, () => this.#options.dial(visitor));
    } catch (error) {
      timer.cancel();
      if (!this.#answered) this.#fail(error);
      return;
    }
    this.#join(this.#server, timer);
  }

  /** Joins the visitor's stream and the server's. */
  #join(server: BodyStream, timer: Timer): void {
    const { stream, upgrade } = this.#exchange;
    let ended = false;
    server.attach({
      data: (chunk) => {
        if (!stream.write(chunk)) server.pause();
      },
      end: () => {
        ended = true;
        stream.closeWrite();
      },
      drain: () => stream.resume(),
      close: (error) => {
        timer.cancel();
        if (!this.#answered) this.#fail(error ?? new Error("it ended the connection"));
        else if (error !== undefined && !ended) stream.abort(error);
        else stream.release();
      },
    });
    if (this.#timedOut) {
      // The deadline passed while it was connecting.
      server.abort();
      return;
    }
    stream.attach({
      data: (chunk) => {
        this.#bodyBytes += chunk.length;
        if (this.#bodyBytes > this.#bodyMaxBytes && upgrade === undefined) {
          if (!this.#answered) this.#refuseBody();
          server.abort();
          return;
        }
        if (!server.write(chunk)) stream.pause();
      },
      end: () => server.closeWrite(),
      drain: () => server.resume(),
      close: (error) => {
        timer.cancel();
        if (error !== undefined) {
          this.#answered = true;
          server.abort(error);
        } else server.release();
      },
    });
  }

  #timeOut(): void {
    if (this.#answered) return;
    this.#timedOut = true;
    const reason = `Cannot reach server: no answer in ${this.#options.answerTimeoutMs / 1000} s`;
    this.#fail(new SallyportError("deadline_exceeded", reason, { side: "local", retryable: true }));
    this.#server?.abort();
  }

  #fail(error: unknown): void {
    const { request, visitor } = this.#exchange;
    this.#options.failed?.(error);
    this.#sampler.warn(
      "request",
      // Without the query, which may have secrets.
      {
        visitor: visitor.address,
        method: request.method,
        path: printableName(request.target.split("?")[0]!),
      },
      `Cannot forward request: ${errorMessage(error)}`,
    );
    if (error instanceof SallyportError && error.code === "limit_exceeded") {
      this.#answer(503, "This service is busy. Try again in a moment.", "connection_limit_reached");
    } else if (error instanceof SallyportError && causeCode(error) === "deadline_exceeded") {
      this.#answer(504, "The server behind this name didn't answer in time.", "http_response_timeout");
    } else if (this.#server !== undefined) {
      this.#answer(502, "The server behind this name doesn't answer in HTTP.", "http_protocol_error");
    } else this.#answer(502, "The server behind this name can't be reached.", "destination_unavailable");
  }

  #refuseBody(): void {
    this.#answer(413, `This service accepts requests of up to ${this.#bodyMaxBytes} bytes.`);
  }

  #answer(status: number, text: string, fault?: ProxyFault): void {
    this.#answered = true;
    const fields: Field[] = fault === undefined ? [] : [["proxy-status", `sallyport; error=${fault}`]];
    respondText(this.#exchange, status, text, fields);
  }
}

/** How the request's body is framed towards the server (RFC 9112, section 6). */
function bodyKind(byteLength: number | undefined, hasBody: boolean): "none" | "length" | "chunked" {
  if (byteLength !== undefined) return byteLength === 0 ? "none" : "length";
  return hasBody ? "chunked" : "none";
}

function causeCode(error: SallyportError): string {
  const cause = error.cause;
  return cause instanceof SallyportError ? causeCode(cause) : error.code;
}

/**
 * Drops the fields of a visitor's request that the server would trust, and those that the connection to the server has of
 * its own.
 */
const permitted = fieldsWithout([
  "forwarded",
  "host",
  "x-forwarded-for",
  "x-forwarded-host",
  "x-forwarded-port",
  "x-forwarded-proto",
  "x-forwarded-server",
  "x-real-ip",
  "content-length",
  "expect",
]);

/** The fields for the server: the visitor's permitted ones, and the visitor's identity (RFC 7239). */
function forwardedFields({ request, visitor }: Exchange): Field[] {
  const kept = permitted(endToEnd(request.fields));
  const node = isIPv6(visitor.address) ? `"[${visitor.address}]"` : visitor.address;
  return [
    ["host", request.authority],
    ...kept,
    ["x-forwarded-for", visitor.address],
    ["x-forwarded-host", request.authority],
    ["x-forwarded-proto", "https"],
    ["forwarded", `for=${node};host="${request.authority}";proto=https`],
  ];
}
