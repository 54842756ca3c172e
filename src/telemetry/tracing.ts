/**
 * Traces: the port between instrumentation and collectors. Nothing is collected unless the environment says so
 * (open_telemetry.ts).
 *
 * @module
 */

/** The kind of a span: a request received by this process, or one that it sends. */
type SpanKind = "server" | "client";

/** Attributes of a span; names follow OpenTelemetry's semantic conventions if there is one. */
type SpanAttributes = Readonly<Record<string, string | number | boolean>>;

/** A timed operation. */
export interface Span {
  /** Identifies its trace in logs; undefined if nothing collects it. */
  readonly traceId: string | undefined;
  /** Propagates the trace to another process (W3C Trace Context); undefined if nothing collects it. */
  readonly traceparent: string | undefined;
  /** Ends the span; with an `error` it has failed. */
  end(attributes?: SpanAttributes, error?: string): void;
}

/** Creates spans. */
export interface Tracer {
  /**
   * Starts a span.
   *
   * @param traceparent the caller's header; a new trace starts if it is absent or invalid
   */
  start(name: string, kind: SpanKind, attributes: SpanAttributes, traceparent?: string): Span;
}

const NO_SPAN: Span = { traceId: undefined, traceparent: undefined, end() {} };

/** The tracer used if nothing collects spans. */
export const noTracer: Tracer = { start: () => NO_SPAN };
