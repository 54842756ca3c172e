/**
 * The parts that `serve`, `edge`, `master` and `demo` are put together from.
 *
 * @module
 */
import {
  type Config,
  formatHostPort,
  type HostPort,
  type LoadedConfig,
  queueLimits,
} from "../config/config.ts";
import type { FernetRing } from "../crypto/fernet.ts";
import type { EdgeOffer, NodeRecord } from "../cluster/directory.ts";
import type { Membership } from "../cluster/membership.ts";
import { fingerprintText } from "../crypto/certificate.ts";
import { keyText } from "../transport/edge_key.ts";
import { createEdge, type Edge } from "../edge/edge.ts";
import type { EdgeLedger } from "../edge/ledger/ledger.ts";
import type { KeyUseStore } from "../edge/used_keys.ts";
import type { Accepts } from "../edge/protocol_detector.ts";
import { errorCode, errorMessage, SallyportError } from "../errors.ts";
import { createMasterApp, type EdgeAddress, type MasterOptions } from "../master/app.ts";
import { EdgeChoice } from "../master/edge_choice.ts";
import { adminCredentials, type Credentials, firstOf } from "../master/credentials.ts";
import { oidcCredentials } from "../master/oidc.ts";
import type { Management } from "../master/management.ts";
import { createStatusApp, type Readiness } from "../master/status.ts";
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
import { checkQuicConsent, type QuicPart } from "./quic.ts";
import { limitMemory } from "./memory.ts";
import { findPipes, type PipePart } from "./pipe_gate.ts";
import { curveTransport } from "../transport/curve/edge.ts";
import type { EdgeTransport } from "../transport/edge_transport.ts";
import { quicTransport } from "../transport/quic/edge.ts";
import { sealedTransport } from "../transport/sealed/edge.ts";
import { snitunTransport } from "../transport/snitun/edge.ts";
import type { SealedPart } from "./sealed.ts";
import { workerAssignment } from "./workers.ts";
import process from "node:process";
import { SHUTDOWN_GRACE_MS } from "../transport/port.ts";

/** What every part of one process shares. */
export interface Base {
  readonly io: CliIo;
  readonly runtime: Runtime;
  readonly log: Logger;
  readonly metrics: Metrics;
  readonly tracer: Tracer;
  readonly life: Lifecycle;
}

/** Loads the runtime's adapter and makes the logger and the metrics. */
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
  life.add("fault handlers", watchProcess((error) => reportFault(error, { log, metrics })));
  const loopDelay = metrics.startLoopDelay(runtime.clock);
  life.add("metrics", () => loopDelay.cancel());
  const tracer = await startTelemetry(io, { log, metrics, life });
  return { io, runtime, log, metrics, tracer, life };
}

/** Sends metrics and traces where the environment names a collector. A worker's metrics are among its parent's. */
async function startTelemetry(
  { env }: CliIo,
  { log, metrics, life }: Pick<Base, "log" | "metrics" | "life">,
): Promise<Tracer> {
  if (workerAssignment(env) !== undefined || !wantsOpenTelemetry(env)) return noTracer;
  const telemetry = await startOpenTelemetry({ env, metrics, log });
  life.add("OpenTelemetry", () => telemetry.close());
  return telemetry.tracer;
}

/** A logger on the program's standard error, which tells of lines that couldn't be written. */
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

/** A pause of accepting is logged this often at most. */
const PAUSE_LOG_INTERVAL_MS = 60_000;

/** Logs when the process runs out of file descriptors: the first pause, and those that came since the last line. */
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

/** Where an edge came to listen. */
export interface EdgePart {
  /** Whether visitors and agents are accepted. */
  ready(): boolean;
  /** Visitors' addresses, which are the agents' too where those have none of their own. */
  readonly visitors: readonly Address[];
  /** Empty if agents use the visitors' port. */
  readonly agents: readonly Address[];
  /** Where only sealed agents come in. */
  readonly sealed: readonly Address[];
  /** UDP sockets of the curve transport. */
  readonly curve: readonly Address[];
  /** UDP sockets of the QUIC transport. */
  readonly quic: readonly Address[];
  /** Receives transfers where sealed agents come in. */
  readonly pipes?: PipePart | undefined;
}

/** The place of an edge's process among others: a worker of its machine, or a node of a cluster. */
export interface EdgePlace {
  /** Set to the edge before it listens. */
  edge: Edge | undefined;
  readonly membership: Pick<Membership, "node">;
  readonly keyUses: KeyUseStore;
  /** How agents reach the edge, where the session master is to send some there. */
  offer: EdgeOffer | undefined;
  /** Shares TCP ports with other processes. */
  readonly reusePort: boolean;
  /** How long streams may go on when it stops without a signal. */
  readonly graceMs: number;
  /** The address that agents are told, by where they may connect; absent where agents are not to be sent here. */
  readonly offered?: (agents: readonly Address[]) => HostPort | undefined;
  /** The settings of this process. */
  settings(config: Config): Config;
  /** Tells the others that it is about to stop. */
  draining?(): Promise<void>;
}

/** Starts an edge. */
export async function startEdge(
  base: Base,
  ring: FernetRing,
  loaded: LoadedConfig,
  keyPart?: SealedPart,
  quicPart?: QuicPart,
  ledger?: EdgeLedger,
  place?: EdgePlace,
): Promise<EdgePart> {
  const pipes = await findPipes(base, loaded.config, keyPart?.sodium);
  const { origins } = loaded;
  const config = place?.settings(loaded.config) ?? loaded.config;
  const { runtime, log, metrics, life } = base;
  await checkQuicConsent(config, runtime);
  const publishHost = config.publishPorts &&
    await hostThatListens(runtime, config.publishListen, !origins.has("publishListen"));
  const edge = createEdge({
    runtime,
    ring,
    log,
    metrics,
    ledger,
    transports: edgeTransports(config, keyPart, quicPart, pipes),
    proxyProtocolFrom: networks(config.proxyProtocolFrom),
    publish: config.publishPorts && { ports: config.publishPorts, host: publishHost! },
    ...place === undefined ? {} : { cluster: place.membership.node, keyUses: place.keyUses },
    idleTimeoutMs: config.idleTimeout,
    streamsPerSource: config.streamsPerSource,
  });
  if (place !== undefined) place.edge = edge;
  const graceMs = () => {
    if (life.signal === "SIGTERM") return config.drainTimeout;
    return place === undefined || life.signal !== undefined ? SHUTDOWN_GRACE_MS : place.graceMs;
  };
  life.add("edge", async () => {
    await place?.draining?.();
    await edge.close(graceMs());
  });
  const reusePort = place?.reusePort ?? false;
  const apart = config.agentListen.length > 0;
  const open = (accepts: Accepts) => async (at: HostPort) =>
    (await edge.listen({ ...at, accepts, reusePort })).address;
  const visitors = await listenOnAll("listen", config.listen, open(apart ? "visitors" : "both"), {
    replaceable: !origins.has("listen"),
  });
  const agents = await listenOnAll("agent-listen", config.agentListen, open("agents"));
  const sealed = await listenOnAll("sealed-listen", config.sealedListen, open("sealed"));
  const curve = await listenOnAll("curve-listen", config.curveListen, open("curve"));
  const quic = await listenOnAll("quic-listen", config.quicListen, open("quic"));
  const address = place?.offered?.(agents.length > 0 ? agents : visitors);
  if (place !== undefined && address !== undefined) {
    place.offer = {
      ...address,
      ...keyPart === undefined ? {} : { publicKey: keyText(keyPart.found.value.publicKey) },
      ...optional("curvePort", loaded.config.curvePort ?? curve[0]?.port),
      ...optional("quicPort", loaded.config.quicPort ?? quic[0]?.port),
      ...optional("certificateFingerprint", quicPart && fingerprintText(quicPart.fingerprint)),
    };
    await place.membership.node.announce();
  }
  return { ready: () => edge.addresses.length > 0, visitors, agents, sealed, curve, quic, pipes };
}

function optional<Name extends string, Value>(
  name: Name,
  value: Value | undefined,
): Partial<Record<Name, Value>> {
  return value === undefined ? {} : { [name]: value } as Partial<Record<Name, Value>>;
}

/** The table of transports: those that the edge has a key or a certificate for. */
function edgeTransports(
  config: Config,
  keyPart: SealedPart | undefined,
  quicPart: QuicPart | undefined,
  pipes: PipePart | undefined,
): readonly EdgeTransport[] {
  const { congestion, throttling } = config;
  const limits = { queueLimits: queueLimits(config) };
  const { sodium } = keyPart ?? {};
  const keys = keyPart?.found.value;
  return [
    snitunTransport({ ...limits, throttling }),
    ...sodium && keys ? [sealedTransport({ ...limits, sodium, keys, fallback: pipes?.gate })] : [],
    ...sodium && keys ? [curveTransport({ ...limits, crypto: sodium, keys, congestion })] : [],
    ...quicPart ? [quicTransport({ ...limits, identity: quicPart.identity })] : [],
  ];
}

/** The address of public ports, tried once: where there is no IPv6, `replaceable` `::` becomes `0.0.0.0`. */
async function hostThatListens(runtime: Runtime, host: string, replaceable: boolean): Promise<string> {
  try {
    (await runtime.listen({ host, port: 0, accept: (conn) => conn.abort() })).close();
    return host;
  } catch (cause) {
    if (replaceable && host === "::") return "0.0.0.0";
    const why = `${errorMessage(cause)}; --publish-listen takes an IP address of this machine`;
    throw new SallyportError("config_invalid", why, { side: "config", cause });
  }
}

/** The line of a start message that names an edge's public ports; none where there are none. */
export function publishFacts({ publishPorts, publishListen }: Config): (readonly [string, string])[] {
  if (publishPorts === undefined) return [];
  return [["public ports", `${publishPorts.first}-${publishPorts.last} on ${publishListen}`]];
}

/** A set of networks of the settings; undefined where there are none. */
export function networks(cidrs: readonly string[]): NetworkSet | undefined {
  return cidrs.length > 0 ? new NetworkSet(cidrs) : undefined;
}

/** What {@link startMaster} takes besides the base. */
interface MasterPartOptions {
  readonly ring: FernetRing;
  /** A function where it may change. */
  readonly adminKey: string | (() => string);
  readonly listen: readonly HostPort[];
  /** What tokens name as the edge. */
  readonly edgeAddress: EdgeAddress;
  /** Whether the edge of the same process accepts, for /readyz. */
  readonly edgeReady?: () => boolean;
  /** The settings of its API; defaults where they are absent. */
  readonly config?: Pick<
    Config,
    | "forwardedFrom"
    | "tokensPerMinute"
    | "apiRequestsPerMinute"
    | "oidcIssuer"
    | "oidcJwks"
    | "oidcAudience"
    | "oidcClientId"
    | "oidcClientSecret"
  >;
  /** Agents, keys and usage; without it the master issues tokens to the admin key alone. */
  readonly management?: Management;
  /** The living nodes of a cluster, where there is one: the master sends agents to their edges. */
  readonly nodes?: (() => Promise<readonly NodeRecord[]>) | undefined;
}

/** Starts a session master; gives where it listens. */
export async function startMaster(base: Base, options: MasterPartOptions): Promise<readonly Address[]> {
  const { runtime, log, metrics, life } = base;
  const { ring, edgeReady, config, management, adminKey, nodes } = options;
  const edges = nodes === undefined ? undefined : new EdgeChoice({ nodes, clock: runtime.clock, log });
  const app = createMasterApp({
    ring,
    credentials: firstOf({
      find: (bearer, use) =>
        adminCredentials(typeof adminKey === "function" ? adminKey() : adminKey).find(bearer, use),
    }, ...identityProvider(config, runtime)),
    edgeAddress: options.edgeAddress,
    ...edges === undefined ? {} : { edges: (region) => edges.choose(region) },
    forwardedFrom: networks(config?.forwardedFrom ?? []),
    tokensPerMinute: config?.tokensPerMinute,
    apiRequestsPerMinute: config?.apiRequestsPerMinute,
    management,
    pageProvider: pageProvider(config),
    clock: runtime.clock,
    metrics,
    log,
    tracer: base.tracer,
    ready: () => readiness(life, { ...edgeReady && { edge: edgeReady() }, keys: ring.size > 0 }),
  });
  return await listenOnAll("master-listen", options.listen, async (at) => {
    const server = await runtime.serveHttp({
      ...at,
      fetch: (request, remote) => app.fetch(request, { remote }),
    });
    life.add("session master", () => {
      // Edges and browsers that listen would hold the server open until the grace is over.
      management?.hub.close();
      return server.close(SHUTDOWN_GRACE_MS);
    });
    return server.address;
  });
}

/** The identity provider that people log in by at the page, where one knows the session master. */
function pageProvider(config: MasterPartOptions["config"]): MasterOptions["pageProvider"] {
  const { oidcIssuer: issuer, oidcClientId: clientId, oidcClientSecret: clientSecret } = config ?? {};
  if (clientId === undefined) return undefined;
  if (issuer === undefined) {
    throw new SallyportError("config_invalid", "Cannot use --oidc-client-id: it needs --oidc-issuer", {
      side: "config",
    });
  }
  return { issuer, clientId, ...clientSecret === undefined ? {} : { clientSecret } };
}

/** JWTs of the operator's identity provider, where one is set. */
function identityProvider(config: MasterPartOptions["config"], { clock }: Runtime): Credentials[] {
  if (config?.oidcIssuer === undefined) return [];
  const { oidcIssuer: issuer, oidcJwks, oidcAudience: audience } = config;
  return [oidcCredentials({ issuer, audience, clock, jwks: oidcJwks ?? `${issuer}/.well-known/jwks.json` })];
}

/**
 * Starts what answers probes and scrapes in a process without a session master; gives where it listens.
 *
 * @param checks what must be there for /readyz, asked at each request
 */
export async function startStatus(
  base: Base,
  listen: readonly HostPort[],
  checks: () => Readonly<Record<string, boolean>>,
): Promise<readonly Address[]> {
  const { runtime, log, metrics, life } = base;
  const { clock } = runtime;
  const app = createStatusApp({ clock, log, metrics, ready: () => readiness(life, checks()) });
  return await listenOnAll("metrics-listen", listen, async (at) => {
    const server = await runtime.serveHttp({ ...at, fetch: (request) => app.fetch(request) });
    life.add("metrics", () => server.close(SHUTDOWN_GRACE_MS));
    return server.address;
  });
}

/** The line of a start message that names these addresses; none where there are none. */
export function statusFacts(addresses: readonly Address[]): (readonly [string, string])[] {
  return addresses.length === 0
    ? []
    : [["metrics", addresses.map((at) => `${localUrl(at)}/metrics`).join(", ")]];
}

function readiness(life: Lifecycle, checks: Readonly<Record<string, boolean>>): Readiness {
  const stopping: Record<string, string> = life.stopped ? { process: "is stopping" } : {};
  const ok = !life.stopped && Object.values(checks).every((check) => check);
  return { ok, checks: { ...checks, ...stopping } };
}

/** The edge's address that tokens name: as set, else this machine and the port of the first agents' listener. */
export function publicAddress(config: Config, agents: readonly HostPort[]): HostPort {
  return config.publicAddress ?? { host: "localhost", port: agents[0]?.port ?? 8443 };
}

/**
 * Listens on every address. Where `[::]` is IPv4 too, `0.0.0.0` with the same port is covered by it; where there is no
 * IPv6, `replaceable` `[::]` becomes `0.0.0.0`.
 *
 * @param flag the flag that sets the addresses, without dashes, for the message where one can't be had
 * @throws SallyportError what `listen` threw, with the flag in its message
 */
export async function listenOnAll(
  flag: string,
  addresses: readonly HostPort[],
  listen: (at: HostPort) => Promise<Address>,
  { replaceable = false }: { readonly replaceable?: boolean } = {},
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
      if (inUse || !replaceable || at.host !== "::") throw withHint(error, flag, at);
      open.push(
        await listen({ ...at, host: "0.0.0.0" }).catch((cause) => Promise.reject(withHint(cause, flag, at))),
      );
    }
  }
  return open;
}

/** The error with what helps: another address, or the right to a port below 1024. */
function withHint(error: unknown, flag: string, { port }: HostPort): unknown {
  if (!(error instanceof SallyportError)) return error;
  const { code, message, side, retryable } = error;
  const denied = /EACCES|Permission ?denied/i.test(message) && port > 0 && port < 1024;
  const another = `--${flag} HOST:PORT takes another, with port 0 any that is free`;
  const hint = denied
    ? `ports below 1024 need a right: run it as a service (\`sallyport service install\`), give the program the ` +
      `right (\`sudo setcap cap_net_bind_service=+ep ${process.execPath}\`), or use a port from 1024`
    : another;
  return new SallyportError(code, `${message}; ${hint}`, { side, retryable, cause: error });
}

/**
 * Warns where agents elsewhere couldn't find the edge: it listens for others on an address that was set, and tokens
 * name this machine as `localhost`.
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

/** Addresses as a start message shows them. */
export function addressList(addresses: readonly Address[]): string {
  return addresses.map(formatHostPort).join(", ");
}

/** An HTTP address to reach a listener by from this machine. */
export function localUrl({ host, port }: Address): string {
  const reachable = host === "::" || host === "0.0.0.0" ? "127.0.0.1" : host;
  return `http://${formatHostPort({ host: reachable, port })}`;
}
