/**
 * The building blocks of `serve`, `edge`, `master` and `demo`.
 *
 * @module
 */
import type { Config, LoadedConfig } from "../config/config.ts";
import { errorCode, SallyportError } from "../errors.ts";
import type { Readiness } from "../master/status.ts";
import { NetworkSet } from "../wire/ip/networks.ts";
import { currentRuntime } from "../runtime/mod.ts";
import type { Address, Runtime } from "../runtime/port.ts";
import { reportFault } from "../telemetry/faults.ts";
import { createLogger, type Logger } from "../telemetry/log.ts";
import { Metrics } from "../telemetry/metrics.ts";
import { startOpenTelemetry, wantsOpenTelemetry } from "../telemetry/open_telemetry.ts";
import { noTracer, type Tracer } from "../telemetry/tracing.ts";
import type { CliIo } from "./io.ts";
import { Lifecycle, watchProcess } from "./lifecycle.ts";
import { limitMemory } from "./memory.ts";
import { workerAssignment } from "./workers.ts";
import process from "node:process";
import { SHUTDOWN_GRACE_MS } from "../transport/port.ts";
import { formatHostPort, type HostPort } from "../wire/ip/host_port.ts";

/** Shared by all parts of one process. */
export interface Base {
  readonly io: CliIo;
  readonly runtime: Runtime;
  readonly log: Logger;
  readonly metrics: Metrics;
  readonly tracer: Tracer;
  readonly life: Lifecycle;
}

/** Loads the runtime's adapter and creates the logger and the metrics. */
export async function createBase(
  config: Pick<Config, "logLevel" | "logFormat"> & Partial<Pick<Config, "memoryLimit" | "workers">>,
  io: CliIo,
): Promise<Base> {
  const runtime = await currentRuntime();
  limitMemory(runtime, config);
  const log = createLog(config, io);
  const metrics = new Metrics({ runtime, lostLines: () => io.logs?.lostLines() ?? 0 });
  warnOfDescriptors(runtime, log);
  runtime.faults.handle((error) => reportFault(error, { log, metrics }));
  const life = new Lifecycle(io);
  life.whenStarted(() => runtime.releaseMemory?.());
  life.add("fault handlers", watchProcess((error) => reportFault(error, { log, metrics })));
  const loopDelay = metrics.startLoopDelay(runtime.clock);
  life.add("metrics", () => loopDelay.cancel());
  const tracer = await startTelemetry(io, { log, metrics, life });
  return { io, runtime, log, metrics, tracer, life };
}

/** Exports metrics and traces if the environment names a collector. A worker's metrics are included in its parent's. */
async function startTelemetry(
  io: CliIo,
  { log, metrics, life }: Pick<Base, "log" | "metrics" | "life">,
): Promise<Tracer> {
  const isWorker = workerAssignment(io.env) !== undefined;
  const env = isWorker ? { ...io.env, OTEL_METRICS_EXPORTER: "none" } : io.env;
  if (!wantsOpenTelemetry(env)) return noTracer;
  const telemetry = await startOpenTelemetry({ env, metrics, log });
  life.add("OpenTelemetry", () => telemetry.close());
  return telemetry.tracer;
}

/** A logger on the program's standard error, which reports lines that couldn't be written. */
export function createLog(
  { logLevel, logFormat }: Pick<Config, "logLevel" | "logFormat">,
  io: CliIo,
): Logger {
  const log = createLogger({
    level: logLevel,
    format: logFormat,
    colour: io.logs?.colour ?? false,
    write: (line) => io.logs === undefined ? io.err(line.replace(/\n$/, "")) : io.logs.write(line),
  });
  io.logs?.whenRecovered((lost) => {
    log.warn({ lost_lines: lost }, "lines of this log were lost: standard error couldn't be written");
  });
  return log;
}

/** Pauses of accepting are logged at most this often. */
const PAUSE_LOG_INTERVAL_MS = 60_000;

/** Logs that the process has run out of file descriptors: the first pause, then the number since the last line. */
function warnOfDescriptors({ descriptors, clock }: Runtime, log: Logger): void {
  let loggedMs = -Infinity;
  let told = 0;
  descriptors.watch(({ paused, open, limit }) => {
    if (!paused || clock.nowMs() - loggedMs < PAUSE_LOG_INTERVAL_MS) return;
    loggedMs = clock.nowMs();
    const pauses = descriptors.acceptPauses - told;
    told = descriptors.acceptPauses;
    const text =
      "no connections are accepted until others have ended: file descriptors are running out; raise " +
      "the process's limit (ulimit -n, or LimitNOFILE= of a systemd unit)";
    log.warn({ reason: "limit_exceeded", open_files: open, file_limit: limit, pauses }, text);
  });
}

/** A set of networks from the settings; undefined if there are none. */
export function networks(cidrs: readonly string[]): NetworkSet | undefined {
  return cidrs.length > 0 ? new NetworkSet(cidrs) : undefined;
}

/**
 * Starts the server for probes and scrapes in a process without a session master; returns its listening addresses.
 *
 * @param checks conditions for /readyz, checked on each request
 */
export async function startStatus(
  base: Base,
  listen: readonly HostPort[],
  checks: () => Readonly<Record<string, boolean>>,
): Promise<readonly Address[]> {
  if (listen.length === 0) return [];
  const { runtime, log, metrics, life } = base;
  const { clock } = runtime;
  const { createStatusApp } = await import("../master/status.ts");
  const app = createStatusApp({ clock, log, metrics, ready: () => readiness(life, checks()) });
  return await listenOnAll("metrics-listen", listen, async (at) => {
    const server = await runtime.serveHttp({ ...at, fetch: (request) => app.fetch(request) });
    life.add("metrics", () => server.close(SHUTDOWN_GRACE_MS));
    return server.address;
  });
}

/** The start message's line with these addresses, if any. */
export function statusFacts(addresses: readonly Address[]): (readonly [string, string])[] {
  return addresses.length === 0
    ? []
    : [["metrics", addresses.map((at) => `${localUrl(at)}/metrics`).join(", ")]];
}

/** Whether a process accepts: unless it is stopping, or a check fails; `shown` are listed, and don't count. */
export function readiness(
  life: Lifecycle,
  checks: Readiness["checks"],
  shown: Readiness["checks"] = {},
): Readiness {
  const stopping: Record<string, string> = life.stopped ? { process: "is stopping" } : {};
  const ok = !life.stopped && Object.values(checks).every((check) => check === true);
  return { ok, checks: { ...checks, ...shown, ...stopping } };
}

/** The edge's address in tokens: as configured, else this machine and the port of the agents' first listener. */
export function publicAddress(config: Config, agents: readonly HostPort[]): HostPort {
  return config.publicAddress ?? { host: "localhost", port: agents[0]?.port ?? 8443 };
}

/**
 * Listens on every address. If `[::]` includes IPv4, it covers `0.0.0.0` with the same port; without IPv6,
 * `replaceable` `[::]` becomes `0.0.0.0`. With `otherPort` a free port takes the place of one that is in use.
 *
 * @param flag the flag that sets the addresses, without dashes, for the message if one can't be used
 * @throws SallyportError the error of `listen`, with the flag in its message
 */
export async function listenOnAll(
  flag: string,
  addresses: readonly HostPort[],
  listen: (at: HostPort) => Promise<Address>,
  { replaceable = false, otherPort = false }: {
    readonly replaceable?: boolean;
    readonly otherPort?: boolean;
  } = {},
): Promise<readonly Address[]> {
  const open: Address[] = [];
  const listenAt = async (at: HostPort): Promise<void> => {
    try {
      open.push(await listen(at));
    } catch (error) {
      const inUse = errorCode(error) === "address_in_use";
      const covered = at.host === "0.0.0.0" &&
        open.some(({ host, port }) => host === "::" && port === at.port);
      if (inUse && covered) return;
      const instead = inUse
        ? otherPort && at.port !== 0 && { ...at, port: 0 }
        : replaceable && at.host === "::" && { ...at, host: "0.0.0.0" };
      if (instead === false) throw withHint(error, flag, at);
      await listenAt(instead);
    }
  };
  // [::] first: after 0.0.0.0 its port would be in use.
  const ordered = [...addresses].sort((a, b) => Number(b.host === "::") - Number(a.host === "::"));
  for (const at of ordered) await listenAt(at);
  return open;
}

/** Adds advice to the error: another address, or the privilege for a port below 1024. */
function withHint(error: unknown, flag: string, { port }: HostPort): unknown {
  if (!(error instanceof SallyportError)) return error;
  const { code, message, side, retryable } = error;
  const denied = /EACCES|Permission ?denied/i.test(message) && port > 0 && port < 1024;
  const another = `--${flag} HOST:PORT sets another address; port 0 means any free one`;
  const hint = denied
    ? `ports below 1024 need a privilege: run it as a service (\`sallyport service install\`), give the program the ` +
      `right (\`sudo setcap cap_net_bind_service=+ep ${process.execPath}\`), or use a port from 1024`
    : another;
  return new SallyportError(code, `${message}; ${hint}`, { side, retryable, cause: error });
}

/**
 * Warns if remote agents couldn't find the edge: it listens on a configured non-local address, but tokens name this
 * machine as `localhost`.
 */
export function warnOfPublicAddress(
  io: CliIo,
  { config, origins }: LoadedConfig,
  flags: readonly ("listen" | "agentListen" | "masterListen")[],
): void {
  if (config.publicAddress !== undefined) return;
  const open = flags.filter((flag) => origins.has(flag)).flatMap((flag) => config[flag]).find(({ host }) =>
    host !== "localhost" && host !== "::1" && !host.startsWith("127.")
  );
  if (open === undefined) return;
  io.err(
    `Warning: ${
      formatHostPort(open)
    } is open to others, but tokens name the edge as localhost, which is another ` +
      "machine to them. --public-address HOST:PORT sets where agents reach the edge",
  );
}

/** Formats addresses for a start message. */
export function addressList(addresses: readonly Address[]): string {
  return addresses.map(formatHostPort).join(", ");
}

/** An HTTP URL for reaching a listener from this machine. */
export function localUrl({ host, port }: Address): string {
  const reachable = host === "::" || host === "0.0.0.0" ? "127.0.0.1" : host;
  return `http://${formatHostPort({ host: reachable, port })}`;
}
