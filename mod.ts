/**
 * Sallyport: a tunnel edge that speaks SniTun, on Deno and on Bun.
 *
 * As a library it gives the three parts and what they are made of; importing it does nothing by itself:
 *
 * - {@link createEdge}: the public node at which agents and visitors arrive,
 * - {@link createAgent}: behind NAT, it dials the edge and hands visitors' streams to a {@link Connector},
 * - {@link createMasterApp}: the session master, a Hono app that issues tokens.
 *
 * Run as a program (`deno run -A mod.ts --help`) it is the command line.
 *
 * @module
 */
import process from "node:process";

// The edge.
export { createEdge, type Edge, type EdgeListenOptions, type EdgeOptions } from "./src/edge/edge.ts";
export type { PublicPortsOptions } from "./src/edge/public_ports.ts";
export type { PortRange } from "./src/tunnel/port_leases.ts";
export type { PublicAddress } from "./src/wire/demand_proxy.ts";
export type { AgentRequest, Authorize, EdgeTunnels } from "./src/edge/agent_request.ts";
export type { SealedKey } from "./src/edge/agents.ts";
export type { Accepts } from "./src/edge/entrance.ts";

// The agent: where its tokens come from, and what becomes of visitors' streams.
export { type Agent, type AgentOptions, createAgent } from "./src/agent/agent.ts";
export type {
  DialerOptions,
  EdgePins,
  TransportName,
  TransportSetting,
} from "./src/agent/transports/port.ts";
export type { RememberedTransport, TransportMemory } from "./src/agent/transport_choice.ts";
export {
  type Grant,
  type GrantEdge,
  type GrantSource,
  type MasterGrantOptions,
  masterGrants,
} from "./src/agent/grant.ts";
export type { PublishedPort } from "./src/agent/publisher.ts";
export { type Connector, tcpConnector, type TcpConnectorOptions } from "./src/agent/connector.ts";
export { AccessList, type AccessListOptions } from "./src/agent/access_list.ts";

// The sealed transport: an edge's key, and libsodium, which makes it.
export { type KeyPair, loadSodium, makeKeyPair, type SessionKeys, type Sodium } from "./src/crypto/sodium.ts";

// The curve transport: the edge's key, of the same kind, and the cryptography below it.
export { type CurveCrypto, type CurveKeyPair, loadCurveCrypto } from "./src/curve/crypto.ts";
export type { CongestionName } from "./src/curve/congestion.ts";
export type { CurveIdentity } from "./src/transport/curve_accept.ts";

// The session master.
export { createMasterApp, type EdgeAddress, type MasterOptions } from "./src/master/app.ts";
export {
  createStatusApp,
  type Readiness,
  type StatusOptions,
  type StatusRoutesOptions,
} from "./src/master/status.ts";
export {
  adminCredentials,
  type Credential,
  type Credentials,
  type StaticCredential,
  staticCredentials,
} from "./src/master/credentials.ts";
export type { MasterEnv } from "./src/master/env.ts";
export type { TokenTtl } from "./src/master/schemas.ts";

// Tokens and their keys.
export {
  type CreatedToken,
  createToken,
  openToken,
  tokenId,
  type TokenRequest,
  type TokenSubject,
  type TokenUntil,
} from "./src/handshake/token.ts";
export type { TokenClaims } from "./src/wire/token_payload.ts";
export type { CipherName } from "./src/crypto/header_cipher.ts";
export {
  FernetError,
  type FernetFault,
  FernetRing,
  type FernetSealOptions,
  generateFernetKey,
} from "./src/crypto/fernet.ts";

// Sessions and the streams in them.
export type { Caller, Session, SessionStream } from "./src/transport/port.ts";
export type { ByteMeter } from "./src/transport/splice.ts";

// The runtime below: Deno, Bun, or a network in memory for tests.
export { currentRuntime } from "./src/runtime/mod.ts";
export {
  createMemoryNetwork,
  type LinkSettings,
  type MemoryNetwork,
  type MemoryNetworkOptions,
} from "./src/runtime/memory.ts";
export type {
  Address,
  Bytes,
  ByteStream,
  ByteStreamHandler,
  Capabilities,
  Clock,
  Conn,
  DatagramOptions,
  DatagramSocket,
  DialOptions,
  HttpOptions,
  HttpServer,
  Listener,
  ListenOptions,
  Runtime,
  Timer,
} from "./src/runtime/port.ts";

// What all parts share: errors, limits, networks, logs, metrics.
export { type ErrorCode, errorCode, type ErrorDetails, SallyportError, type Side } from "./src/errors.ts";
export { DEFAULT_QUEUE_LIMITS, type QueueLimits } from "./src/limits.ts";
export { NetworkSet } from "./src/networks.ts";
export {
  createLogger,
  type LogFields,
  type Logger,
  type LogLevel,
  type LogOptions,
  type LogValue,
  silentLogger,
} from "./src/telemetry/log.ts";
export {
  type MetricInfo,
  METRICS,
  Metrics,
  type MetricsOptions,
  type Refusable,
  type SessionLabels,
} from "./src/telemetry/metrics.ts";
export { VERSION } from "./src/version.ts";

// Run as a program it is the command line, which a library's user never loads.
if (import.meta.main) {
  const { runCli } = await import("./src/cli/main.ts");
  process.exit(await runCli(process.argv.slice(2)));
}
