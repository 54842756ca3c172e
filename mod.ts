/**
 * Sallyport: a tunnel edge that speaks SniTun, on Deno and on Bun.
 *
 * As a library it exports the three parts and their building blocks; importing it has no side effects:
 *
 * - {@link createEdge}: the public node to which agents and visitors connect,
 * - {@link createAgent}: behind NAT, it dials the edge and passes visitors' streams to a {@link Connector},
 * - {@link createMasterApp}: the session master, a Hono app that issues tokens.
 *
 * Run as a program (`deno run -P mod.ts --help`), it is the command-line interface.
 *
 * @module
 */
// First, because libraries ask Deno for permissions when they are loaded.
import "./src/runtime/deno/ask_permissions.ts";

// The edge.
export { createEdge, type Edge, type EdgeListenOptions, type EdgeOptions } from "./src/edge/edge.ts";
export type { PublicPortsOptions } from "./src/edge/public_ports.ts";
export type { PortRange } from "./src/tunnel/ports/port_leases.ts";
export type { PublicAddress } from "./src/wire/snocat/demand_proxy.ts";
export type { AgentRequest, Authorize, EdgeTunnels } from "./src/edge/agent_request.ts";
export type { KeyUseStore } from "./src/edge/used_keys.ts";
export type { Accepts } from "./src/edge/protocol_detector.ts";

// The agent: its sources of tokens, and the handling of visitors' streams.
export { type Agent, type AgentOptions, createAgent } from "./src/agent/agent.ts";
export type { TransportName, TransportSetting } from "./src/transport/names.ts";
export type { DialerOptions, EdgePins } from "./src/transport/agent_transport.ts";
export type { RememberedTransport, TransportMemory } from "./src/agent/transport_choice.ts";
export type { Grant, GrantEdge, TokenGrant } from "./src/transport/grant.ts";
export { type GrantSource, type MasterGrantOptions, masterGrants } from "./src/agent/grant.ts";
export type { PublishedPort } from "./src/agent/publisher.ts";
export { type Connector, tcpConnector, type TcpConnectorOptions } from "./src/agent/connector.ts";
export { AccessList, type AccessListOptions } from "./src/agent/access_list.ts";

// TLS terminated in the agent: a fetch handler on the internet, services, certificates and their storage.
export { serve, type Served, type ServeOptions } from "./src/agent/serve.ts";
export type { FetchHandler } from "./src/agent/http/fetch_handler.ts";
export {
  type Service,
  type ServiceAuth,
  serviceDefaults,
  type ServiceLimits,
  type TlsMode,
} from "./src/agent/services/service.ts";
export { parseTarget, type Target } from "./src/agent/services/target.ts";
export { ServiceTable, type ServiceTableOptions } from "./src/agent/services/table.ts";
export type { CertificateFacts, ServiceConnectors } from "./src/agent/services/port.ts";
export {
  createServiceConnectors,
  type ServiceConnectorsOptions,
} from "./src/agent/tls/service_connectors.ts";
export {
  type AcceptOptions,
  type SecureStream,
  type TlsAnswer,
  TlsTerminator,
  type TlsTerminatorOptions,
} from "./src/agent/tls/terminator.ts";
export {
  CertificateManager,
  type CertificateManagerOptions,
  type ManagedCertificate,
} from "./src/agent/acme/certificate_manager.ts";
export { type CertificateStore, MemoryCertificateStore } from "./src/agent/acme/certificate_store.ts";
export { FileCertificateStore } from "./src/agent/acme/file_certificate_store.ts";
export { masterDnsHook, type MasterDnsOptions } from "./src/agent/acme/master_dns.ts";
export { type DnsHook, dnsHookProgram, type DnsRecord } from "./src/dns/dns_hook.ts";

// Transports between agents and an edge: the edge's table of transports, and the port for custom ones.
export type { EdgeContext, EdgeTransport } from "./src/transport/edge_transport.ts";
export type { AcceptedConnection, AgentAdmission } from "./src/transport/admission.ts";
export { snitunTransport, type SnitunTransportOptions } from "./src/transport/snitun/edge.ts";
export { sealedTransport, type SealedTransportOptions } from "./src/transport/sealed/edge.ts";
export type { FallbackProtocol } from "./src/transport/sealed/accept.ts";
export { curveTransport, type CurveTransportOptions } from "./src/transport/curve/edge.ts";
export { quicTransport, type QuicTransportOptions } from "./src/transport/quic/edge.ts";

// The key by which agents recognise an edge, and libsodium, which generates it.
export { type KeyPair, loadSodium, makeKeyPair, type SessionKeys, type Sodium } from "./src/crypto/sodium.ts";

// The curve transport: the edge's key, of the same kind, and the cryptography below it.
export type { CongestionName } from "./src/protocol/curve/congestion/congestion.ts";
export type { CurveIdentity } from "./src/transport/curve/accept.ts";

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

// A session master's state: agents, keys, usage, and the edges that receive it.
export { openStore } from "./src/master/store/sql_store.ts";
export type { Store } from "./src/master/store/store.ts";
export { Management, type ManagementOptions } from "./src/master/management.ts";
export { EdgeHub, type EdgeHubOptions, type Retention } from "./src/master/edge_hub.ts";
export { WebhookSender, type WebhookSenderOptions } from "./src/master/webhooks/sender.ts";
export { webhookFetch } from "./src/master/webhooks/destination.ts";
export { KeyRing } from "./src/master/key_ring.ts";
export { oidcCredentials, type OidcGrant, type OidcOptions } from "./src/master/oidc.ts";
export { firstOf } from "./src/master/credentials.ts";
export { EdgeLedger } from "./src/edge/ledger/ledger.ts";
export { type ControlLink, LedgerReporter } from "./src/edge/ledger/reporter.ts";
export { httpControlLink } from "./src/edge/ledger/http_link.ts";
export { GrantStock } from "./src/agent/grant_stock.ts";
export { enrolAgent, identityCredential, readIdentity } from "./src/agent/identity.ts";

// Tokens and their keys.
export {
  type CreatedToken,
  createToken,
  openToken,
  tokenId,
  type TokenRequest,
  type TokenSubject,
  type TokenUntil,
} from "./src/protocol/token/token.ts";
export type { TokenClaims } from "./src/wire/token/token_payload.ts";
export type { CipherName } from "./src/crypto/header_cipher.ts";
export {
  FernetError,
  type FernetFault,
  FernetRing,
  type FernetSealOptions,
  generateFernetKey,
} from "./src/crypto/fernet.ts";

// Tunnels: requests between both sides of a session, and their routers.
export {
  createRouter,
  type Router,
  type ServeStream,
  type TunnelRequest,
  type TunnelService,
} from "./src/tunnel/requests/router.ts";
export { type OpenTunnelOptions, Tunnel, type TunnelOptions } from "./src/tunnel/tunnel.ts";
export type { Carrier, CarrierHandler } from "./src/tunnel/carriers/carrier.ts";
export { type ProxyDestination, tcpProxy, type TcpProxyOptions } from "./src/tunnel/requests/tcp_proxy.ts";
export type { ProxyHostKind, ProxyTarget } from "./src/wire/snocat/proxy_target.ts";
export { httpService, type HttpServiceOptions } from "./src/tunnel/requests/http_service.ts";
export { formatTunnelAddress, parseTunnelAddress } from "./src/wire/snocat/tunnel_address.ts";

// Tunnel authentication: methods negotiated by name, each with a verifier and a prover.
export type {
  AuthContext,
  Authenticator,
  AuthSteps,
  TunnelCredential,
  TunnelIdentity,
} from "./src/tunnel/auth/port.ts";
export {
  tokenAuthenticator,
  type TokenAuthenticatorOptions,
  tokenCredential,
  type TunnelToken,
} from "./src/tunnel/auth/token.ts";
export { secretAuthenticator, secretCredential, type SecretEntry } from "./src/tunnel/auth/secret.ts";
export {
  certificateAuthenticator,
  certificateCredential,
  type CertificateEntry,
} from "./src/tunnel/auth/certificate.ts";
export { simpleAckAuthenticator, simpleAckCredential } from "./src/tunnel/auth/simple_ack.ts";

// Tunnels from connection to end: sources, a daemon, and a registry that several nodes share.
export {
  createTunnelDaemon,
  type TunnelDaemon,
  type TunnelDaemonOptions,
  type TunnelEvent,
} from "./src/tunnel/daemon/daemon.ts";
export { createTunnelSource, type TunnelSink, type TunnelSource } from "./src/tunnel/daemon/source.ts";
export { joinTunnel, type JoinTunnelOptions } from "./src/tunnel/daemon/join.ts";
export {
  dialQuicTunnel,
  listenQuicTunnels,
  type QuicTunnelDialOptions,
  type QuicTunnelListenOptions,
  type QuicTunnelSource,
  TUNNEL_ALPN,
} from "./src/tunnel/daemon/quic_source.ts";
export type {
  RegistryLifetimes,
  TunnelAttributes,
  TunnelKey,
  TunnelRecord,
  TunnelRegistry,
} from "./src/cluster/registry.ts";
export {
  createMemoryRegistry,
  type MemoryRegistryOptions,
  MemoryRegistryStore,
} from "./src/cluster/memory_registry.ts";
export { connectRedisRegistry, type RedisRegistryOptions } from "./src/cluster/redis_registry.ts";

// Sessions and the streams in them.
export type { Caller, Session, SessionStream } from "./src/transport/port.ts";
export type { ByteMeter } from "./src/transport/splice.ts";

// The runtime: Deno, Bun, or an in-memory network for tests.
export { currentRuntime } from "./src/runtime/mod.ts";
export {
  createMemoryNetwork,
  type LinkSettings,
  type MemoryNetwork,
  type MemoryNetworkOptions,
} from "./src/runtime/memory/memory.ts";
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
  Fetch,
  HttpOptions,
  HttpServer,
  Listener,
  ListenOptions,
  Runtime,
  Timer,
} from "./src/runtime/port.ts";

// Shared by all parts: errors, limits, networks, logs, metrics.
export {
  type Boundary,
  type ErrorCode,
  errorCode,
  type ErrorDetails,
  InternalError,
  SallyportError,
  type Side,
} from "./src/errors.ts";
export { DEFAULT_QUEUE_LIMITS, type QueueLimits } from "./src/protocol/mux/queue_limits.ts";
export { NetworkSet } from "./src/wire/ip/networks.ts";
export {
  createLogger,
  type LogFields,
  type Logger,
  type LogLevel,
  type LogOptions,
  type LogValue,
  silentLogger,
} from "./src/telemetry/log.ts";
export { SERVICE_METRICS } from "./src/agent/services/metrics.ts";
export { CURVE_METRICS } from "./src/transport/curve/metrics.ts";
export {
  type MetricGroup,
  type MetricInfo,
  METRICS,
  Metrics,
  type MetricsOptions,
  type Refusable,
  type SessionLabels,
} from "./src/telemetry/metrics.ts";
export { startOpenTelemetry, type Telemetry, wantsOpenTelemetry } from "./src/telemetry/open_telemetry.ts";
export type { Span, Tracer } from "./src/telemetry/tracing.ts";
export { VERSION } from "./src/version.ts";

// Run as a program it is the command line, which a library's user never loads. main.ts alone is the program without
// the library, which costs less memory.
if (import.meta.main) await import("./main.ts");

// snocat over QUIC: public TCP ports, with its own programs at either end; and certificates for QUIC.
export { SnocatClient, type SnocatClientOptions } from "./src/snocat/client.ts";
export { type SnocatServer, type SnocatServerOptions, startSnocatServer } from "./src/snocat/server.ts";
export {
  type AuthorityRequest,
  certificateFingerprint,
  type CertificateRequest,
  type Identity,
  makeAuthority,
  makeCertificate,
} from "./src/crypto/certificate.ts";
export type { QuicIdentity, QuicTrust } from "./src/runtime/quic_port.ts";
