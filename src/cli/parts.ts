/**
 * The building blocks of `serve`, `edge`, `master` and `demo`.
 *
 * @module
 */
import { type Config, type LoadedConfig, queueLimits } from "../config/config.ts";
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
import { type Credentials, firstOf } from "../master/credentials.ts";
import { oidcCredentials, type OidcGrant } from "../master/oidc.ts";
import type { Management } from "../master/management.ts";
import { createStatusApp, type Readiness } from "../master/status.ts";
import { NetworkSet } from "../wire/ip/networks.ts";
import { currentRuntime } from "../runtime/mod.ts";
import type { Address, Runtime } from "../runtime/port.ts";
import { reportFault } from "../telemetry/faults.ts";
import { createLogger, type Logger } from "../telemetry/log.ts";
import { Metrics } from "../telemetry/metrics.ts";
import type { MasterPolicy } from "./master_policy.ts";
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

/** An edge's listening addresses. */
export interface EdgePart {
  /** Whether visitors and agents are accepted. */
  ready(): boolean;
  /** Visitors' addresses; also the agents', unless those have separate ones. */
  readonly visitors: readonly Address[];
  /** Empty if agents use the visitors' port. */
  readonly agents: readonly Address[];
  /** Addresses for sealed agents only. */
  readonly sealed: readonly Address[];
  /** UDP sockets of the curve transport. */
  readonly curve: readonly Address[];
  /** UDP sockets of the QUIC transport. */
  readonly quic: readonly Address[];
  /** Receives transfers on the sealed agents' addresses. */
  readonly pipes?: PipePart | undefined;
}

/** The role of an edge's process among others: a worker on its machine, or a node of a cluster. */
export interface EdgePlace {
  /** Set to the edge before it listens. */
  edge: Edge | undefined;
  readonly membership: Pick<Membership, "node">;
  readonly keyUses: KeyUseStore;
  /** How agents reach the edge, if the session master sends agents to it. */
  offer: EdgeOffer | undefined;
  /** Whether it shares TCP ports with other processes. */
  readonly reusePort: boolean;
  /** How long streams may continue when it stops without a signal. */
  readonly graceMs: number;
  /** The address advertised to agents, given the agents' listeners; absent if agents must not be sent here. */
  readonly offered?: (agents: readonly Address[]) => HostPort | undefined;
  /** The settings of this process. */
  settings(config: Config): Config;
  /** Announces to the others that it is about to stop. */
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
  const { runtime, log, metrics, tracer, life } = base;
  await checkQuicConsent(config, runtime);
  const publishHost = config.publishPorts &&
    await hostThatListens(runtime, config.publishListen, !origins.has("publishListen"));
  const edge = createEdge({
    runtime,
    ring,
    log,
    metrics,
    ...tracer === noTracer ? {} : { tracer },
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

/** The table of transports: those for which the edge has a key or a certificate. */
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

/** The address of public ports, tested once: without IPv6, `replaceable` `::` becomes `0.0.0.0`. */
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

/** The start message's line with an edge's public ports, if any. */
export function publishFacts({ publishPorts, publishListen }: Config): (readonly [string, string])[] {
  if (publishPorts === undefined) return [];
  return [["public ports", `${publishPorts.first}-${publishPorts.last} on ${publishListen}`]];
}

/** A set of networks from the settings; undefined if there are none. */
export function networks(cidrs: readonly string[]): NetworkSet | undefined {
  return cidrs.length > 0 ? new NetworkSet(cidrs) : undefined;
}

/** Options of {@link startMaster} besides the base. */
interface MasterPartOptions {
  readonly ring: FernetRing;
  /** The credential of the admin key. */
  readonly admin: Credentials;
  readonly listen: readonly HostPort[];
  /** The edge's address in tokens. */
  readonly edgeAddress: EdgeAddress;
  /** Whether the edge of the same process accepts, for /readyz. */
  readonly edgeReady?: () => boolean;
  /** The settings of its API; absent ones have their defaults. */
  readonly config?: Pick<
    Config,
    | "forwardedFrom"
    | "oidcIssuer"
    | "oidcJwks"
    | "oidcAudience"
    | "oidcAdmin"
    | "oidcReader"
    | "oidcLoginScope"
    | "oidcClientId"
    | "oidcClientSecret"
  >;
  /** The settings that may change while it runs. */
  readonly policy?: MasterPolicy;
  /** Agents, keys and usage; without it the master issues tokens only to the admin key. */
  readonly management?: Management;
  /** The live nodes of the cluster, if any: the master sends agents to their edges. */
  readonly nodes?: (() => Promise<readonly NodeRecord[]>) | undefined;
}

/** Starts a session master; returns its listening addresses. */
export async function startMaster(base: Base, options: MasterPartOptions): Promise<readonly Address[]> {
  const { runtime, log, metrics, life } = base;
  const { ring, edgeReady, config, policy, management, nodes } = options;
  const edges = nodes === undefined ? undefined : new EdgeChoice({ nodes, clock: runtime.clock, log });
  const app = createMasterApp({
    ring,
    credentials: firstOf(options.admin, ...identityProvider(config, base)),
    edgeAddress: options.edgeAddress,
    ...edges === undefined ? {} : { edges: (region) => edges.choose(region) },
    forwardedFrom: networks(config?.forwardedFrom ?? []),
    ...policy === undefined ? {} : {
      tokensPerMinute: () => policy.current.tokensPerMinute,
      apiRequestsPerMinute: () => policy.current.apiRequestsPerMinute,
    },
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
      // Edges and browsers with open event streams would keep the server open until the grace period ends.
      management?.hub.close();
      return server.close(SHUTDOWN_GRACE_MS);
    });
    return server.address;
  });
}

/** The identity provider for logins at the page, if the session master is registered with one. */
function pageProvider(config: MasterPartOptions["config"]): MasterOptions["pageProvider"] {
  const { oidcIssuer: issuer, oidcClientId: clientId, oidcClientSecret: clientSecret } = config ?? {};
  if (config === undefined || clientId === undefined) return undefined;
  if (issuer === undefined) {
    throw new SallyportError("config_invalid", "Cannot use --oidc-client-id: it needs --oidc-issuer", {
      side: "config",
    });
  }
  const shared = { issuer, clientId, loginScopes: config.oidcLoginScope, grants: oidcGrants(config) };
  return { ...shared, ...clientSecret === undefined ? {} : { clientSecret } };
}

/** Accepts JWTs of the operator's identity provider, if configured. */
function identityProvider(
  config: MasterPartOptions["config"],
  { runtime: { clock }, log }: Pick<Base, "runtime" | "log">,
): Credentials[] {
  if (config?.oidcIssuer === undefined) return [];
  const { oidcIssuer: issuer, oidcJwks: jwks, oidcAudience: audience } = config;
  const grants = oidcGrants(config);
  return [oidcCredentials({ issuer, audience, clock, grants, log, ...jwks === undefined ? {} : { jwks } })];
}

function oidcGrants({ oidcAdmin, oidcReader }: Pick<Config, "oidcAdmin" | "oidcReader">): OidcGrant[] {
  return [
    ...oidcAdmin.map((grant) => ({ ...grant, scope: "admin" as const })),
    ...oidcReader.map((grant) => ({ ...grant, scope: "read" as const })),
  ];
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
  const { runtime, log, metrics, life } = base;
  const { clock } = runtime;
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

function readiness(life: Lifecycle, checks: Readonly<Record<string, boolean>>): Readiness {
  const stopping: Record<string, string> = life.stopped ? { process: "is stopping" } : {};
  const ok = !life.stopped && Object.values(checks).every((check) => check);
  return { ok, checks: { ...checks, ...stopping } };
}

/** The edge's address in tokens: as configured, else this machine and the port of the agents' first listener. */
export function publicAddress(config: Config, agents: readonly HostPort[]): HostPort {
  return config.publicAddress ?? { host: "localhost", port: agents[0]?.port ?? 8443 };
}

/**
 * Listens on every address. If `[::]` includes IPv4, it covers `0.0.0.0` with the same port; without IPv6,
 * `replaceable` `[::]` becomes `0.0.0.0`.
 *
 * @param flag the flag that sets the addresses, without dashes, for the message if one can't be used
 * @throws SallyportError the error of `listen`, with the flag in its message
 */
export async function listenOnAll(
  flag: string,
  addresses: readonly HostPort[],
  listen: (at: HostPort) => Promise<Address>,
  { replaceable = false }: { readonly replaceable?: boolean } = {},
): Promise<readonly Address[]> {
  const open: Address[] = [];
  // [::] first: after 0.0.0.0 its port would be in use.
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

/** Adds advice to the error: another address, or the privilege for a port below 1024. */
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
