/**
 * Periodic health checks of a service's targets.
 *
 * @module
 */
import { IGNORE_STREAM, type Runtime, type Timer } from "../../runtime/port.ts";
import { request as requestHttp, type RequestOptions } from "node:http";
import { request as requestHttps } from "node:https";
import { dialError, dialTimeoutError } from "../../runtime/shared.ts";
import { endsTlsHere, type HealthCheck, type Service } from "./service.ts";
import type { Target } from "./target.ts";
import { dialTarget, type TargetPool } from "./targets.ts";

/** Options of {@link HealthChecks}. */
interface HealthChecksOptions {
  readonly service: Service;
  readonly targets: TargetPool;
  readonly runtime: Runtime;
  /** Checks a target. Defaults to {@link checkTarget}. */
  readonly check?: typeof checkTarget;
}

/** Checks every target of one service independently, until stopped. */
export class HealthChecks {
  readonly #options: HealthChecksOptions;
  readonly #timers = new Map<Target, Timer>();
  #stopped = false;

  constructor(options: HealthChecksOptions) {
    this.#options = options;
    const { service: { healthCheck, targets } } = options;
    if (healthCheck === undefined) return;
    for (const target of targets) {
      // A folder of files can't be down.
      if (target.protocol !== "files") void this.#ask(target, healthCheck);
    }
  }

  /** Stops checking. */
  stop(): void {
    this.#stopped = true;
    for (const timer of this.#timers.values()) timer.cancel();
  }

  async #ask(target: Target, healthCheck: HealthCheck): Promise<void> {
    const { service, targets, runtime, check = checkTarget } = this.#options;
    let failure: unknown;
    try {
      await check(target, healthCheck, service, runtime);
    } catch (error) {
      failure = error;
    }
    if (this.#stopped) return;
    targets.checked(target, failure);
    this.#timers.set(
      target,
      runtime.clock.after(healthCheck.intervalMs, () => void this.#ask(target, healthCheck)),
    );
  }
}

/** Checks a target once; rejects with the fault. */
export async function checkTarget(
  target: Target,
  healthCheck: HealthCheck,
  service: Service,
  runtime: Runtime,
): Promise<void> {
  if (target.protocol === "files") return;
  if (healthCheck.kind === "http") return await askHttp(target, healthCheck, service);
  const conn = await dialTarget(runtime, target, healthCheck.timeoutMs);
  conn.attach(IGNORE_STREAM);
  conn.abort();
}

/** Sends a GET by HTTP/1.1, over TLS if the target uses it; any certificate is accepted here. */
async function askHttp(
  target: Exclude<Target, { readonly protocol: "files" }>,
  { path = "/", status, timeoutMs }: HealthCheck,
  service: Service,
): Promise<void> {
  const byTls = target.protocol === "https" || !endsTlsHere(service);
  const name = service.names[0]!.replace(/^\*\./, "");
  const { endpoint } = target;
  const where: RequestOptions = "path" in endpoint
    ? { socketPath: endpoint.path }
    : { host: endpoint.host, port: endpoint.port };
  const headers = { host: name, "user-agent": "sallyport-health-check", connection: "close" };
  const ask = byTls ? requestHttps : requestHttp;
  const tls = byTls ? { servername: name, rejectUnauthorized: false } : {};
  const answered = await new Promise<number>((resolve, reject) => {
    const request = ask({ ...where, ...tls, path, headers, agent: false }, (response) => {
      resolve(response.statusCode ?? 0);
      response.destroy();
    });
    const timer = setTimeout(
      () => request.destroy(dialTimeoutError({ ...endpoint, timeoutMs })),
      timeoutMs,
    );
    request.on("error", (cause) => reject(dialError(endpoint, cause)));
    request.on("close", () => clearTimeout(timer));
    request.end();
  });
  if (status === undefined ? answered >= 200 && answered < 400 : answered === status) return;
  throw new Error(`it answers GET ${path} with ${answered}, expected ${status ?? "200 to 399"}`);
}
