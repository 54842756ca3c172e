/**
 * Layers between a visitor's HTTP and a service's handler: host check, header fields, access log.
 *
 * @module
 */
import { errorMessage } from "../../errors.ts";
import type { Clock } from "../../runtime/port.ts";
import { CountedStream } from "../../runtime/wrapped_stream.ts";
import { type Field, fieldsWithout } from "../../wire/http1/fields.ts";
import type { ResponseHead } from "../../wire/http1/head.ts";
import { type Exchange, type HttpHandler, respondText } from "./exchange.ts";

/** Wraps a handler to add behaviour. */
export type Layer = (handler: HttpHandler) => HttpHandler;

/**
 * Answers 421 if `serves` doesn't accept the request's host: a browser that has one certificate for two agents sends
 * both their requests to either (RFC 9113 §9.1.1), and on 421 retries on a separate connection.
 */
export function ownHostsOnly(serves: (host: string) => boolean): Layer {
  return (handler) => (exchange) => {
    if (serves(hostOf(exchange.request.authority))) return handler(exchange);
    respondText(
      exchange,
      421,
      "This connection doesn't serve that name. Request it on a separate connection.",
    );
  };
}

/** The host of an authority, without its port and a trailing dot. */
export function hostOf(authority: string): string {
  return authority.replace(/:\d*$/, "").replace(/\.$/, "");
}

/** Sets fields on requests and on responses, by name in lower case; an empty value removes one. */
export function setFields(
  request: Readonly<Record<string, string>>,
  response: Readonly<Record<string, string>>,
): Layer {
  const none = (fields: Readonly<Record<string, string>>) => Object.keys(fields).length === 0;
  if (none(request) && none(response)) return (handler) => handler;
  const [onRequest, onResponse] = [setter(request), setter(response)];
  return (handler) => (exchange) =>
    handler(derived(exchange, {
      request: { ...exchange.request, fields: onRequest(exchange.request.fields) },
      respond: ({ status, fields }) => exchange.respond({ status, fields: onResponse(fields) }),
    }));
}

function setter(set: Readonly<Record<string, string>>): (fields: readonly Field[]) => readonly Field[] {
  const others = fieldsWithout(Object.keys(set));
  const added = Object.entries(set).filter(([, value]) => value !== "");
  return (fields) => [...others(fields), ...added];
}

/** A line of an access log. */
interface RequestEntry {
  readonly exchange: Exchange;
  readonly status: number | undefined;
  /** Bytes of the bodies. */
  readonly bytesIn: number;
  readonly bytesOut: number;
  readonly durationMs: number;
  readonly error?: string;
}

/** Logs each request when it is over. */
export function logged(clock: Clock, write: (entry: RequestEntry) => void): Layer {
  return (handler) => (exchange) => {
    const startedMs = clock.nowMs();
    let status: number | undefined;
    const stream = new CountedStream(exchange.stream, (error) => {
      const durationMs = Math.round(clock.nowMs() - startedMs);
      const { bytesIn, bytesOut } = stream;
      write({
        ...{ exchange, status, bytesIn, bytesOut, durationMs },
        ...error === undefined ? {} : { error: errorMessage(error) },
      });
    });
    return handler(derived(exchange, {
      stream,
      respond: (head: ResponseHead) => {
        status = head.status;
        exchange.respond(head);
      },
    }));
  };
}

/** The exchange with some members replaced. */
export function derived(exchange: Exchange, changed: Partial<Exchange>): Exchange {
  const { request, visitor, stream, upgrade, hasBody } = exchange;
  return {
    request,
    visitor,
    stream,
    upgrade,
    hasBody,
    respond: (head) => exchange.respond(head),
    ...changed,
  };
}

/** Wraps a handler in layers; the first layer sees a request first. */
export function layered(handler: HttpHandler, ...layers: readonly Layer[]): HttpHandler {
  return layers.reduceRight((inner, layer) => layer(inner), handler);
}
