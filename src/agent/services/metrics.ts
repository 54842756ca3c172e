/**
 * The metrics of an agent's services, collected on each scrape. Their labels come from the operator's configuration,
 * never from a peer.
 *
 * @module
 */
import { Counter, Gauge, type Registry } from "prom-client";
import { metricConfig, type MetricInfo } from "../../telemetry/metrics.ts";

/** A service's values for metrics. */
interface ServiceSample {
  /** Its first name. */
  readonly name: string;
  readonly visitors: number;
  readonly visitorsTotal: number;
  readonly targets: readonly { readonly target: string; readonly up: boolean }[];
}

const VISITORS = {
  name: "sallyport_service_visitors",
  type: "gauge",
  help: "Current visitors of an agent's service",
  labels: ["service"],
} as const satisfies MetricInfo;
const VISITORS_TOTAL = {
  name: "sallyport_service_visitors_total",
  type: "counter",
  help: "Visitors of an agent's service since its configuration last changed",
  labels: ["service"],
} as const satisfies MetricInfo;
const TARGET_UP = {
  name: "sallyport_service_target_up",
  type: "gauge",
  help:
    "1 if a service's visitors are sent to this target, 0 if it fails its health check or failed a visitor",
  labels: ["service", "target"],
} as const satisfies MetricInfo;

/** The metrics of services, as the documentation lists them. */
export const SERVICE_METRICS: readonly MetricInfo[] = [VISITORS, VISITORS_TOTAL, TARGET_UP];

/** The services of one process. */
export class ServiceMetrics {
  /** Returns the current services. Absent: none. */
  source: (() => Iterable<ServiceSample>) | undefined;

  constructor(registry: Registry) {
    const samples = () => this.source?.() ?? [];
    new Gauge({
      ...metricConfig(VISITORS, registry),
      collect() {
        this.reset();
        for (const { name, visitors } of samples()) this.set({ service: name }, visitors);
      },
    });
    new Counter({
      ...metricConfig(VISITORS_TOTAL, registry),
      collect() {
        this.reset();
        for (const { name, visitorsTotal } of samples()) this.inc({ service: name }, visitorsTotal);
      },
    });
    new Gauge({
      ...metricConfig(TARGET_UP, registry),
      collect() {
        this.reset();
        for (const { name, targets } of samples()) {
          for (const { target, up } of targets) this.set({ service: name, target }, Number(up));
        }
      },
    });
  }
}
