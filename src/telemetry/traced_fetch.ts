/**
 * Traces requests to other processes, and propagates the trace to them (W3C Trace Context).
 *
 * @module
 */
import { errorMessage } from "../errors.ts";
import type { Fetch } from "../runtime/port.ts";
import { noTracer, type Tracer } from "./tracing.ts";

/** A `fetch` whose requests are spans; they end when the response's head has arrived. Paths should be few. */
export function tracedFetch(fetch: Fetch, tracer: Tracer = noTracer): Fetch {
  if (tracer === noTracer) return fetch;
  return async (request) => {
    const { hostname, pathname } = new URL(request.url);
    const span = tracer.start(`${request.method} ${pathname}`, "client", {
      "http.request.method": request.method,
      "server.address": hostname,
      "url.path": pathname,
    });
    if (span.traceparent !== undefined) request.headers.set("traceparent", span.traceparent);
    try {
      const response = await fetch(request);
      const { status } = response;
      // By OpenTelemetry's conventions a client's span has failed from 400 on.
      span.end({ "http.response.status_code": status }, status >= 400 ? `status ${status}` : undefined);
      return response;
    } catch (error) {
      span.end({}, errorMessage(error));
      throw error;
    }
  };
}
