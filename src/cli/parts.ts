/**
 * The parts that `serve`, `edge`, `master` and `demo` are put together from.
 *
 * @module
 */
import type { Config, HostPort, LoadedConfig } from "../config.ts";
import { formatHostPort, queueLimits } from "../config.ts";
import type { FernetRing } from "../crypto/fernet.ts";
import { createEdge, type Edge } from "../edge/edge.ts";
import { errorCode } from "../errors.ts";
import { SHUTDOWN_GRACE_MS } from "../limits.ts";
import { createMasterApp } from "../master/app.ts";
import { adminCredentials } from "../master/credentials.ts";
import { NetworkSet } from "../networks.ts";
import { currentRuntime } from "../runtime/mod.ts";
import type { Address, Runtime } from "../runtime/port.ts";
import { createLogger, type Logger } from "../telemetry/log.ts";
import { Metrics } from "../telemetry/metrics.ts";
import type { CliIo } from "./io.ts";
import { Lifecycle } from "./lifecycle.ts";

/** What every part of one process shares. */
export interface Base {
  readonly io: CliIo;
  readonly runtime: Runtime;
  readonly log: Logger;
  readonly metrics: Metrics;
  readonly life: Lifecycle;
}

/** Loads the runtime's adapter and makes the logger and the metrics. */
export async function createBase(config: Pick<Config, "logLevel" | "logFormat">, io: CliIo): Promise<Base> {
  const runtime = await currentRuntime();
  const log = createLogger({ level: config.logLevel, format: config.logFormat });
  const metrics = new Metrics({ runtime });
  const life = new Lifecycle(io);
  const loopDelay = metrics.startLoopDelay(runtime.clock);
  life.add("metrics", () => loopDelay.cancel());
  return { io, runtime, log, metrics, life };
}

/** Where an edge came to listen. */
export interface EdgePart {
  readonly edge: Edge;
  /** Visitors' addresses, which are the agents' too where those have none of their own. */
  readonly visitors: readonly Address[];
  /** Empty where agents come in by the visitors' door. */
  readonly agents: readonly Address[];
}

/** Starts an edge. */
export async function startEdge(base: Base, ring: FernetRing, loaded: LoadedConfig): Promise<EdgePart> {
  const { config, origins } = loaded;
  const { runtime, log, metrics, life } = base;
  const edge = createEdge({
    runtime,
    ring,
    log,
    metrics,
    proxyProtocolFrom: config.proxyProtocolFrom.length > 0
      ? new NetworkSet(config.proxyProtocolFrom)
      : undefined,
    queueLimits: queueLimits(config),
    throttling: config.throttling,
  });
  life.add("edge", () => edge.close(SHUTDOWN_GRACE_MS));
  const apart = config.agentListen.length > 0;
  const open = (accepts: "agents" | "visitors" | "both") => async (at: HostPort) =>
    (await edge.listen({ ...at, accepts })).address;
  const visitors = await listenOnAll(
    config.listen,
    !origins.has("listen"),
    open(apart ? "visitors" : "both"),
  );
  const agents = await listenOnAll(config.agentListen, false, open("agents"));
  return { edge, visitors, agents };
}

/** What {@link startMaster} takes besides the base. */
export interface MasterPartOptions {
  readonly ring: FernetRing;
  readonly adminKey: string;
  readonly listen: readonly HostPort[];
  /** What tokens name as the edge. */
  readonly edgeAddress: HostPort;
  /** The edge of the same process, for /readyz. */
  readonly edge?: Edge;
}

/** Starts a session master; gives where it listens. */
export async function startMaster(base: Base, options: MasterPartOptions): Promise<readonly Address[]> {
  const { runtime, log, metrics, life } = base;
  const { ring, edge } = options;
  const app = createMasterApp({
    ring,
    credentials: adminCredentials(options.adminKey),
    edgeAddress: options.edgeAddress,
    clock: runtime.clock,
    metrics,
    log,
    ready: () => {
      const stopping: Record<string, string> = life.stopped ? { process: "is stopping" } : {};
      const checks = { ...edge && { edge: edge.addresses.length > 0 }, keys: ring.size > 0, ...stopping };
      return { ok: Object.values(checks).every((check) => check === true), checks };
    },
  });
  return await listenOnAll(options.listen, false, async (at) => {
    const server = await runtime.serveHttp({
      ...at,
      fetch: (request, remote) => app.fetch(request, { remote }),
    });
    life.add("session master", () => server.close(SHUTDOWN_GRACE_MS));
    return server.address;
  });
}

/** The edge's address that tokens name: as set, else this machine and the port of the first agents' listener. */
export function publicAddress(config: Config, agents: readonly HostPort[]): HostPort {
  return config.publicAddress ?? { host: "localhost", port: agents[0]?.port ?? 8443 };
}

/**
 * Listens on every address. Where `[::]` is IPv4 too, `0.0.0.0` with the same port is covered by it; where there is no
 * IPv6, `replaceable` `[::]` becomes `0.0.0.0`.
 */
export async function listenOnAll(
  addresses: readonly HostPort[],
  replaceable: boolean,
  listen: (at: HostPort) => Promise<Address>,
): Promise<readonly Address[]> {
  const open: Address[] = [];
  // [::] first: behind 0.0.0.0 it would find its port taken.
  for (const at of [...addresses].sort((a, b) => Number(b.host === "::") - Number(a.host === "::"))) {
    try {
      open.push(await listen(at));
    } catch (error) {
      const inUse = errorCode(error) === "address_in_use";
      const covered = at.host === "0.0.0.0" &&
        open.some(({ host, port }) => host === "::" && port === at.port);
      if (inUse && covered) continue;
      if (inUse || !replaceable || at.host !== "::") throw error;
      open.push(await listen({ ...at, host: "0.0.0.0" }));
    }
  }
  return open;
}

/** Addresses as a start message shows them. */
export function addressList(addresses: readonly Address[]): string {
  return addresses.map(formatHostPort).join(", ");
}

/** An HTTP address to reach a listener by from this machine. */
export function localUrl({ host, port }: Address): string {
  const reachable = host === "::" || host === "0.0.0.0" ? "127.0.0.1" : host;
  return `http://${formatHostPort({ host: reachable, port })}`;
}
