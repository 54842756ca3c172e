/**
 * Forwards visitors' requests to an HTTP server.
 *
 * @module
 */
import { UNKNOWN_CALLER } from "../../protocol/mux/host.ts";
import { isIPv6 } from "node:net";
import { errorMessage, SallyportError } from "../../errors.ts";
import type { ByteStream, Clock } from "../../runtime/port.ts";
import type { Faults } from "../../runtime/shared.ts";
import { type Logger, silentLogger } from "../../telemetry/log.ts";
import { type LogSampler, visitorLines } from "../../telemetry/log_sampler.ts";
import type { Caller } from "../../transport/port.ts";
import { contentLengthOf, endToEnd, type Field } from "../../wire/http1/fields.ts";
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
  const sampler = visitorLines(options.log ?? silentLogger, clock);
  const client = new Http1Client({ clock, faults, single, dial: () => options.dial(UNKNOWN_CALLER) });
  return { handler: (exchange) => passOn(options, client, sampler, exchange), close: () => client.close() };
}

async function passOn(
  options: HttpProxyOptions,
  client: Http1Client,
  sampler: LogSampler,
  exchange: Exchange,
): Promise<void> {
  const { clock, requestBodyMaxBytes = Infinity } = options;
  const { request, visitor, stream, upgrade } = exchange;
  const byteLength = contentLengthOf(request.fields);
  if (byteLength !== undefined && byteLength > requestBodyMaxBytes) {
    return respondText(exchange, 413, `This service accepts requests of up to ${requestBodyMaxBytes} bytes.`);
  }
  let answered = false;
  const body = byteLength !== undefined
    ? byteLength === 0 ? "none" : "length"
    : exchange.hasBody
    ? "chunked"
    : "none";
  const answer = (status: number, text: string, fault?: ProxyFault) => {
    answered = true;
    const fields: Field[] = fault === undefined ? [] : [["proxy-status", `sallyport; error=${fault}`]];
    respondText(exchange, status, text, fields);
  };
  let connected = false;
  const failed = (error: unknown) => {
    const slow = error instanceof SallyportError && causeCode(error) === "deadline_exceeded";
    options.failed?.(error);
    sampler.warn(
      "request",
      { visitor: visitor.address, method: request.method, path: printableName(request.target) },
      `Cannot pass request on: ${errorMessage(error)}`,
    );
    if (error instanceof SallyportError && error.code === "limit_exceeded") {
      answer(503, "This service is busy. Try again in a moment.", "connection_limit_reached");
    } else if (slow) {
      answer(504, "The server behind this name didn't answer in time.", "http_response_timeout");
    } else if (connected) {
      answer(502, "The server behind this name doesn't answer in HTTP.", "http_protocol_error");
    } else answer(502, "The server behind this name can't be reached.", "destination_unavailable");
  };
  let server: BodyStream | undefined;
  let timedOut = false;
  const timer = clock.after(options.answerTimeoutMs, () => {
    if (answered) return;
    timedOut = true;
    const why = `no answer in ${options.answerTimeoutMs / 1000} s`;
    failed(
      new SallyportError("deadline_exceeded", `Cannot reach server: ${why}`, {
        side: "local",
        retryable: true,
      }),
    );
    server?.abort();
  });
  try {
    server = await client.request({
      method: request.method,
      target: request.target,
      fields: forwardedFields(exchange),
      body,
      byteLength,
      upgrade,
      answered: (head) => {
        timer.cancel();
        if (answered) return;
        answered = true;
        exchange.respond(head);
      },
    }, () => options.dial(visitor));
  } catch (error) {
    timer.cancel();
    if (!answered) failed(error);
    return;
  }
  connected = true;
  let received = 0;
  let ended = false;
  const target = server;
  target.attach({
    data: (chunk) => {
      if (!stream.write(chunk)) target.pause();
    },
    end: () => {
      ended = true;
      stream.closeWrite();
    },
    drain: () => stream.resume(),
    close: (error) => {
      timer.cancel();
      if (!answered) failed(error ?? new Error("it ended the connection"));
      else if (error !== undefined && !ended) stream.abort(error);
      else stream.release();
    },
  });
  if (timedOut) {
    // The deadline passed while it was connecting.
    target.abort();
    return;
  }
  stream.attach({
    data: (chunk) => {
      received += chunk.length;
      if (received > requestBodyMaxBytes && upgrade === undefined) {
        if (!answered) answer(413, `This service accepts requests of up to ${requestBodyMaxBytes} bytes.`);
        target.abort();
        return;
      }
      if (!target.write(chunk)) stream.pause();
    },
    end: () => target.closeWrite(),
    drain: () => target.resume(),
    close: (error) => {
      timer.cancel();
      if (error !== undefined) {
        answered = true;
        target.abort(error);
      } else target.release();
    },
  });
}

function causeCode(error: SallyportError): string {
  const cause = error.cause;
  return cause instanceof SallyportError ? causeCode(cause) : error.code;
}

/** Fields dropped from a visitor's request, because the server would trust them. */
const FORGEABLE: ReadonlySet<string> = new Set([
  "forwarded",
  "host",
  "x-forwarded-for",
  "x-forwarded-host",
  "x-forwarded-port",
  "x-forwarded-proto",
  "x-forwarded-server",
  "x-real-ip",
]);

/** The fields for the server: the visitor's permitted ones, and the visitor's identity (RFC 7239). */
function forwardedFields({ request, visitor }: Exchange): Field[] {
  const kept = endToEnd(request.fields).filter(([name]) =>
    !FORGEABLE.has(name) && name !== "content-length" && name !== "expect"
  );
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
