/**
 * Metrics and traces for OpenTelemetry collectors, over OTLP/HTTP with protobuf, if the environment sets the variables
 * of OpenTelemetry's specification.
 *
 * Deno's own OpenTelemetry (OTEL_DENO) isn't used: it instruments `Deno.serve`, which this program doesn't use, and Bun
 * has no equivalent. Both runtimes use the SDK's packages, loaded only on demand. Measurements are read from
 * {@link Metrics}, so a collector and a scrape see the same numbers under the same names.
 *
 * @module
 */
import type { HrTime } from "@opentelemetry/api";
import type { MetricData, MetricProducer, PushMetricExporter } from "@opentelemetry/sdk-metrics";
import type { Sampler, SpanExporter } from "@opentelemetry/sdk-trace";
import { SallyportError } from "../errors.ts";
import { VERSION } from "../version.ts";
import type { Logger } from "./log.ts";
import type { MeasuredMetric, Metrics } from "./metrics.ts";
import { noTracer, type Tracer } from "./tracing.ts";

/** Interval at which metrics are sent to a collector, unless OTEL_METRIC_EXPORT_INTERVAL overrides it. */
export const METRIC_EXPORT_INTERVAL_MS = 60_000;
/** Timeout for the final flush of telemetry at exit; data not sent by then is lost. */
export const TELEMETRY_FLUSH_TIMEOUT_MS = 3_000;

type Environment = Readonly<Record<string, string | undefined>>;

/** A running exporter of metrics or traces. */
export interface Telemetry {
  readonly tracer: Tracer;
  /** Sends the remaining data. */
  close(): Promise<void>;
}

const SIGNALS = ["METRICS", "TRACES"] as const;
type Signal = (typeof SIGNALS)[number];

/** Whether the environment configures a collector for a signal. */
function wants(env: Environment, signal: Signal): boolean {
  const exporter = env[`OTEL_${signal}_EXPORTER`];
  const endpoint = env[`OTEL_EXPORTER_OTLP_${signal}_ENDPOINT`] || env.OTEL_EXPORTER_OTLP_ENDPOINT;
  return env.OTEL_SDK_DISABLED?.toLowerCase() !== "true" && exporter !== "none" &&
    (exporter === "otlp" || Boolean(endpoint));
}

/** Whether the environment configures a collector. */
export function wantsOpenTelemetry(env: Environment): boolean {
  return SIGNALS.some((signal) => wants(env, signal));
}

/**
 * Sends metrics and traces to the collector configured in the environment.
 *
 * @throws SallyportError `config_invalid` if the environment requests something unsupported
 */
export async function startOpenTelemetry(
  { env, metrics, log }: { readonly env: Environment; readonly metrics: Metrics; readonly log: Logger },
): Promise<Telemetry> {
  checkProtocol(env);
  const { defaultResource, detectResources, envDetector, resourceFromAttributes } = await import(
    "@opentelemetry/resources"
  );
  const resource = defaultResource()
    .merge(resourceFromAttributes({ "service.name": "sallyport", "service.version": VERSION }))
    .merge(detectResources({ detectors: [envDetector] }));
  const closing: (() => Promise<void>)[] = [];
  if (wants(env, "METRICS")) {
    const sdk = await import("@opentelemetry/sdk-metrics");
    const { OTLPMetricExporter } = await import("@opentelemetry/exporter-metrics-otlp-proto");
    const provider = new sdk.MeterProvider({
      resource,
      readers: [
        new sdk.PeriodicExportingMetricReader({
          exporter: telling(new OTLPMetricExporter(), "metrics", log),
          exportIntervalMillis: interval(env),
          exportTimeoutMillis: Math.min(interval(env), 30_000),
          metricProducers: [producer(metrics, sdk, resource)],
        }),
      ],
    });
    closing.push(() => provider.shutdown());
  }
  let tracer = noTracer;
  if (wants(env, "TRACES")) {
    const sdk = await import("@opentelemetry/sdk-trace");
    const { OTLPTraceExporter } = await import("@opentelemetry/exporter-trace-otlp-proto");
    const provider = new sdk.TracerProvider({
      resource,
      sampler: sampler(env, sdk),
      spanProcessors: [
        new sdk.BatchSpanProcessor({ exporter: telling(new OTLPTraceExporter(), "traces", log) }),
      ],
    });
    tracer = await tracerOf(provider.getTracer("sallyport", VERSION));
    closing.push(() => provider.shutdown());
  }
  return {
    tracer,
    async close() {
      let timer: ReturnType<typeof setTimeout> | undefined;
      const late = new Promise<void>((resolve) => timer = setTimeout(resolve, TELEMETRY_FLUSH_TIMEOUT_MS));
      await Promise.race([Promise.allSettled(closing.map((end) => end())), late]);
      clearTimeout(timer);
    },
  };
}

function checkProtocol(env: Environment): void {
  for (const name of ["", ...SIGNALS.map((signal) => `${signal}_`)]) {
    const variable = `OTEL_EXPORTER_OTLP_${name}PROTOCOL`;
    const protocol = env[variable];
    if (protocol === undefined || protocol === "" || protocol === "http/protobuf") continue;
    const why = `Cannot use ${variable}: it is ${protocol.slice(0, 64)}, only http/protobuf is supported`;
    throw new SallyportError("config_invalid", why, { side: "config" });
  }
}

function interval(env: Environment): number {
  const given = Number(env.OTEL_METRIC_EXPORT_INTERVAL);
  return Number.isFinite(given) && given >= 100 ? given : METRIC_EXPORT_INTERVAL_MS;
}

/** OTEL_TRACES_SAMPLER: all traces by default, plus those sampled by the caller. */
function sampler(env: Environment, sdk: typeof import("@opentelemetry/sdk-trace")): Sampler {
  const name = env.OTEL_TRACES_SAMPLER || "parentbased_always_on";
  const [, parent, kind] = /^(parentbased_)?(always_on|always_off|traceidratio)$/.exec(name) ?? [];
  if (kind === undefined) {
    throw new SallyportError(
      "config_invalid",
      `Cannot use OTEL_TRACES_SAMPLER: ${name.slice(0, 64)} isn't a known sampler`,
      {
        side: "config",
      },
    );
  }
  const ratio = Number(env.OTEL_TRACES_SAMPLER_ARG ?? 1);
  const root = kind === "always_on"
    ? new sdk.AlwaysOnSampler()
    : kind === "always_off"
    ? new sdk.AlwaysOffSampler()
    : new sdk.TraceIdRatioBasedSampler(ratio >= 0 && ratio <= 1 ? ratio : 1);
  return parent === undefined ? root : new sdk.ParentBasedSampler({ root });
}

/** Wraps an exporter to log when it starts to fail and when it recovers. The SDK itself logs nothing. */
function telling<Exporter extends PushMetricExporter | SpanExporter>(
  exporter: Exporter,
  what: string,
  log: Logger,
): Exporter {
  let failing = false;
  const send = exporter.export.bind(exporter) as (items: never, done: (result: Outcome) => void) => void;
  interface Outcome {
    readonly code: number;
    readonly error?: Error;
  }
  exporter.export = (items: never, done: (result: Outcome) => void) =>
    send(items, (result) => {
      const failed = result.code !== 0;
      if (failed && !failing) {
        // The text of an HTTP error comes from the collector.
        log.warn({ error: result.error?.message.slice(0, 300) }, `Cannot send ${what} to the collector`);
      } else if (!failed && failing) log.info({}, `${what} reach the collector again`);
      failing = failed;
      done(result);
    });
  return exporter;
}

/** Converts the measurements of {@link Metrics} to OpenTelemetry's data. */
function producer(
  metrics: Metrics,
  sdk: typeof import("@opentelemetry/sdk-metrics"),
  resource: import("@opentelemetry/resources").Resource,
): MetricProducer {
  const startTime = hrTime(Date.now());
  return {
    async collect() {
      const endTime = hrTime(Date.now());
      const measured = await metrics.collect();
      const converted = measured.map((metric) => convert(metric, { startTime, endTime }, sdk));
      return {
        resourceMetrics: {
          resource,
          scopeMetrics: [{ scope: { name: "sallyport", version: VERSION }, metrics: converted }],
        },
        errors: [],
      };
    },
  };
}

interface Times {
  readonly startTime: HrTime;
  readonly endTime: HrTime;
}

function convert(
  { name, help, type, values }: MeasuredMetric,
  times: Times,
  sdk: typeof import("@opentelemetry/sdk-metrics"),
): MetricData {
  // Units are in the names, as is the convention in Prometheus.
  const descriptor = { name, description: help, unit: "", valueType: 1 };
  const aggregationTemporality = sdk.AggregationTemporality.CUMULATIVE;
  if (type === "histogram") {
    const dataPoints = histograms(name, values, times);
    return { descriptor, aggregationTemporality, dataPointType: sdk.DataPointType.HISTOGRAM, dataPoints };
  }
  const dataPoints = values.map(({ value, labels }) => ({ ...times, attributes: { ...labels }, value }));
  if (type === "gauge") {
    return { descriptor, aggregationTemporality, dataPointType: sdk.DataPointType.GAUGE, dataPoints };
  }
  return {
    descriptor,
    aggregationTemporality,
    dataPointType: sdk.DataPointType.SUM,
    isMonotonic: true,
    dataPoints,
  };
}

/** Prometheus' histogram buckets are cumulative; OpenTelemetry's are not. */
function histograms(name: string, values: MeasuredMetric["values"], times: Times) {
  const found = new Map<string, {
    readonly labels: Record<string, string | number>;
    readonly buckets: [bound: number, count: number][];
    sum: number;
    count: number;
  }>();
  for (const { value, labels: { le, ...labels }, metricName } of values) {
    const key = JSON.stringify(labels);
    const one = found.get(key) ?? { labels, buckets: [], sum: 0, count: 0 };
    found.set(key, one);
    if (metricName === `${name}_sum`) one.sum = value;
    else if (metricName === `${name}_count`) one.count = value;
    else if (le !== undefined && le !== "+Inf") one.buckets.push([Number(le), value]);
  }
  return [...found.values()].map(({ labels, buckets, sum, count }) => {
    buckets.sort(([a], [b]) => a - b);
    const counts = [...buckets.map(([, upTo]) => upTo), count];
    return {
      ...times,
      attributes: labels,
      value: {
        buckets: {
          boundaries: buckets.map(([bound]) => bound),
          counts: counts.map((upTo, at) => upTo - (counts[at - 1] ?? 0)),
        },
        ...{ sum, count },
      },
    };
  });
}

function hrTime(ms: number): HrTime {
  return [Math.floor(ms / 1000), (ms % 1000) * 1e6];
}

async function tracerOf(tracer: import("@opentelemetry/api").Tracer): Promise<Tracer> {
  const { ROOT_CONTEXT, SpanKind, SpanStatusCode, trace } = await import("@opentelemetry/api");
  return {
    start(name, kind, attributes, traceparent) {
      const parent = contextOf(traceparent);
      const span = tracer.startSpan(
        name,
        { kind: kind === "server" ? SpanKind.SERVER : SpanKind.CLIENT, attributes },
        parent === undefined ? ROOT_CONTEXT : trace.setSpanContext(ROOT_CONTEXT, parent),
      );
      const { traceId, spanId, traceFlags } = span.spanContext();
      return {
        traceId,
        traceparent: `00-${traceId}-${spanId}-${traceFlags.toString(16).padStart(2, "0")}`,
        end(attributes = {}, error) {
          span.setAttributes(attributes);
          if (error !== undefined) span.setStatus({ code: SpanStatusCode.ERROR, message: error });
          span.end();
        },
      };
    },
  };
}

/** The caller's span, from its `traceparent` (W3C Trace Context §3.2). */
function contextOf(traceparent: string | undefined) {
  const [, version, traceId, spanId, flags] =
    /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?$/.exec(traceparent ?? "") ?? [];
  const none = traceId === undefined || spanId === undefined || version === "ff" ||
    /^0+$/.test(traceId) || /^0+$/.test(spanId);
  return none ? undefined : { traceId, spanId, traceFlags: parseInt(flags!, 16) & 1, isRemote: true };
}
