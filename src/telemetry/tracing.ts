/**
 * Traces: the port between what is measured and whoever collects it. Nobody does unless the environment says so
 * (open_telemetry.ts).
 *
 * @module
 */

/** What a span is of: something that was asked of this process, or that it asks of another. */
type SpanKind = "server" | "client";

/** What says more about a span; names are those of OpenTelemetry's semantic conventions where they have one. */
type SpanAttributes = Readonly<Record<string, string | number | boolean>>;

/** Something that takes time. */
export interface Span {
  /** Names the trace that it belongs to, in logs; undefined where nobody collects it. */
  readonly traceId: string | undefined;
  /** What another process needs to go on with the trace (W3C Trace Context); undefined where nobody collects it. */
  readonly traceparent: string | undefined;
  /** It is over; with an `error` it has failed. */
  end(attributes?: SpanAttributes, error?: string): void;
}

/** Where spans go. */
export interface Tracer {
  /**
   * Begins a span.
   *
   * @param traceparent the header of the process that asks; a trace of its own begins where it is absent or unusable
   */
  start(name: string, kind: SpanKind, attributes: SpanAttributes, traceparent?: string): Span;
}

const NO_SPAN: Span = { traceId: undefined, traceparent: undefined, end() {} };

/** Where nobody collects them. */
export const noTracer: Tracer = { start: () => NO_SPAN };
