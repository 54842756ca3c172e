/**
 * Starts an edge for `serve`, `edge` and `demo`; it loads the transports for which the edge has a key or a listener.
 *
 * @module
 */
import type { EdgeOffer } from "../cluster/directory.ts";
import type { Membership } from "../cluster/membership.ts";
import { type Config, type LoadedConfig, queueLimits } from "../config/config.ts";
import { fingerprintText } from "../crypto/certificate.ts";
import type { FernetRing } from "../crypto/fernet.ts";
import { createEdge, type Edge } from "../edge/edge.ts";
import type { EdgeLedger } from "../edge/ledger/ledger.ts";
import type { Accepts } from "../edge/protocol_detector.ts";
import type { KeyUseStore } from "../edge/used_keys.ts";
import { errorCode, errorMessage, SallyportError } from "../errors.ts";
import type { Address, Runtime } from "../runtime/port.ts";
import { keyText } from "../transport/edge_key.ts";
import type { EdgeTransport } from "../transport/edge_transport.ts";
import { noTracer } from "../telemetry/tracing.ts";
import type { PortGroup } from "../transport/port_group.ts";
import { SHUTDOWN_GRACE_MS } from "../transport/port.ts";
import { formatHostPort, type HostPort } from "../wire/ip/host_port.ts";
import { snitunTransport } from "../transport/snitun/edge.ts";
import { addressList, type Base, listenOnAll, networks } from "./parts.ts";
import type { PipePart } from "./pipe_gate.ts";
import { checkQuicConsent, type QuicPart } from "./quic.ts";
import type { SealedPart } from "./sealed.ts";

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
  /** Whether a process that it replaces may still use its ports. */
  readonly succeeds?: boolean;
  /** The processes that share its UDP ports, if any. */
  readonly portGroup?: PortGroup;
  /** How long streams may continue when it stops without a signal. */
  readonly graceMs: number;
  /** The address advertised to agents, given the agents' listeners; absent if agents must not be sent here. */
  readonly offered?: (agents: readonly Address[]) => HostPort | undefined;
  /** The settings of this process. */
  settings(config: Config): Config;
  /** Announces to the others that it is about to stop. */
  draining?(): Promise<void>;
}

/** How often a port that the process before this one still uses is tried again. */
const PORT_RETRY_MS = 200;

/** Options of {@link startEdge} besides the base. */
interface EdgeStart {
  readonly ring: FernetRing;
  readonly loaded: LoadedConfig;
  /** The key of the sealed and the curve transport, if they are used. */
  readonly sealedKey?: SealedPart | undefined;
  /** The certificate of the QUIC transport, if it is used. */
  readonly quicPart?: QuicPart | undefined;
  /** Agents' limits and usage. Defaults to a new one that reports to nobody. */
  readonly ledger?: EdgeLedger;
  readonly place?: EdgePlace | undefined;
  /** Whether a free port takes the place of a default one that is in use. */
  readonly otherPort?: boolean;
}

/** Starts an edge. */
export async function startEdge(
  base: Base,
  { ring, loaded, sealedKey, quicPart, ledger, place, otherPort }: EdgeStart,
): Promise<EdgePart> {
  const pipes = loaded.config.pipeFolder === undefined
    ? undefined
    : await (await import("./pipe_gate.ts")).findPipes(base, loaded.config, sealedKey?.sodium);
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
    transports: await edgeTransports(config, sealedKey, quicPart, pipes, place?.portGroup),
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
    otherPort: otherPort === true && !origins.has("listen"),
  });
  const agents = await listenOnAll("agent-listen", config.agentListen, open("agents"));
  const sealed = await listenOnAll("sealed-listen", config.sealedListen, open("sealed"));
  const curve = await listenOnAll("curve-listen", config.curveListen, open("curve"));
  const quic = await listenOnAll(
    "quic-listen",
    config.quicListen,
    place?.succeeds === true ? (at) => openWhenFree(base, at, open("quic")) : open("quic"),
  );
  const address = place?.offered?.(agents.length > 0 ? agents : visitors);
  if (place !== undefined && address !== undefined) {
    place.offer = {
      ...address,
      ...sealedKey === undefined ? {} : { publicKey: keyText(sealedKey.found.value.publicKey) },
      ...optional("curvePort", loaded.config.curvePort ?? curve[0]?.port),
      ...optional("quicPort", loaded.config.quicPort ?? quic[0]?.port),
      ...optional("certificateFingerprint", quicPart && fingerprintText(quicPart.fingerprint)),
    };
    await place.membership.node.announce();
  }
  return { ready: () => edge.addresses.length > 0, visitors, agents, sealed, curve, quic, pipes };
}

/**
 * Opens a listener now, or when the process that this one replaces has left the address. Ports of QUIC can't be shared,
 * and the sessions of the old process need its own until they end.
 */
async function openWhenFree(
  { runtime: { clock }, log, life }: Base,
  at: HostPort,
  open: (at: HostPort) => Promise<Address>,
): Promise<Address> {
  const retry = async (): Promise<void> => {
    if (life.stopped) return;
    try {
      await open(at);
      log.info({ address: formatHostPort(at) }, "listening for QUIC, as the old worker has ended");
    } catch (error) {
      if (errorCode(error) === "address_in_use") clock.after(PORT_RETRY_MS, () => void retry());
      else log.error({ reason: errorCode(error) }, errorMessage(error));
    }
  };
  try {
    return await open(at);
  } catch (error) {
    if (errorCode(error) !== "address_in_use") throw error;
    log.info({ address: formatHostPort(at) }, "listening for QUIC when the old worker has ended");
    clock.after(PORT_RETRY_MS, () => void retry());
    return at;
  }
}

function optional<Name extends string, Value>(
  name: Name,
  value: Value | undefined,
): Partial<Record<Name, Value>> {
  return value === undefined ? {} : { [name]: value } as Partial<Record<Name, Value>>;
}

/** The table of transports: those for which the edge has a key or a certificate, and which may be used. */
async function edgeTransports(
  config: Config,
  sealedKey: SealedPart | undefined,
  quicPart: QuicPart | undefined,
  pipes: PipePart | undefined,
  group: PortGroup | undefined,
): Promise<readonly EdgeTransport[]> {
  const { congestion, throttling } = config;
  const limits = { queueLimits: queueLimits(config) };
  const { sodium } = sealedKey ?? {};
  const keys = sealedKey?.found.value;
  const transports = [snitunTransport({ ...limits, throttling })];
  if (sodium && keys) {
    const { sealedTransport } = await import("../transport/sealed/edge.ts");
    transports.push(sealedTransport({ ...limits, sodium, keys, fallback: pipes?.gate }));
    if (config.curveListen.length > 0) {
      const { curveTransport } = await import("../transport/curve/edge.ts");
      transports.push(curveTransport({ ...limits, crypto: sodium, keys, congestion, group }));
    }
  }
  if (quicPart) {
    const { quicTransport } = await import("../transport/quic/edge.ts");
    transports.push(quicTransport({ ...limits, identity: quicPart.identity }));
  }
  return transports;
}

/** The destination of transfers, for a start message. */
export function pipeFacts(part: PipePart | undefined): (readonly [string, string])[] {
  if (part === undefined) return [];
  return [["transfers by pipe", `into ${part.folder}, public key ${part.publicKey}`]];
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

/** The start message's lines with an edge's addresses. */
export function listenerFacts(
  { visitors, agents, sealed, curve, quic }: EdgePart,
  { publishPorts, publishListen, workers }: Config,
): (readonly [string, string])[] {
  const facts: (readonly [string, string])[] = [
    [agents.length > 0 ? "visitors" : "visitors and agents", addressList(visitors)],
  ];
  if (agents.length > 0) facts.push(["agents", addressList(agents)]);
  if (sealed.length > 0) facts.push(["sealed agents", addressList(sealed)]);
  if (curve.length > 0) facts.push(["curve agents (UDP)", addressList(curve)]);
  if (quic.length > 0) {
    const where = workers === undefined ? "" : ", all at the first worker";
    facts.push(["QUIC agents (UDP)", `${addressList(quic)}${where}`]);
  }
  if (publishPorts !== undefined) {
    facts.push(["public ports", `${publishPorts.first}-${publishPorts.last} on ${publishListen}`]);
  }
  return facts;
}
