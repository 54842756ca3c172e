/**
 * A fetch handler on the public internet: an agent whose only service is a function of this process.
 *
 * @module
 */
import { SallyportError } from "../errors.ts";
import { currentRuntime } from "../runtime/mod.ts";
import type { Runtime } from "../runtime/port.ts";
import { type Logger, silentLogger } from "../telemetry/log.ts";
import { SHUTDOWN_GRACE_MS } from "../transport/port.ts";
import { canonicalServedName } from "../wire/wildcard.ts";
import { AccessList, type AccessListOptions } from "./access_list.ts";
import { CertificateManager, type CertificateManagerOptions } from "./acme/certificate_manager.ts";
import { type CertificateStore, MemoryCertificateStore } from "./acme/certificate_store.ts";
import { type Agent, type AgentOptions, createAgent } from "./agent.ts";
import { type MasterGrantOptions, masterGrants } from "./grant.ts";
import { type FetchHandler, fetchHandler } from "./http/fetch_handler.ts";
import { visitorLines } from "../telemetry/log_sampler.ts";
import type { CertificateFacts, Targets } from "./services/port.ts";
import { isLocalName, serviceDefaults, type TlsMode } from "./services/service.ts";
import { createServiceConnectors } from "./tls/service_connectors.ts";
import { AlertDescription } from "../wire/tls/tls_alert.ts";

/** Options of {@link serve}. */
export interface ServeOptions extends Pick<MasterGrantOptions, "master" | "credential" | "aliases"> {
  /** The hostname that visitors request. */
  readonly hostname: string;
  /** Source of the certificate. Defaults to "acme" for public names and "self-signed" for all others. */
  readonly tls?: Exclude<TlsMode, "passthrough">;
  /** Storage for keys and certificates, such as a {@link FileCertificateStore}. Defaults to memory. */
  readonly store?: CertificateStore;
  /** The authority, its root certificate, the account. */
  readonly acme?: Omit<CertificateManagerOptions, "clock" | "store" | "log">;
  /** Permitted visitors, by their address. Defaults to all. */
  readonly access?: AccessListOptions;
  /** The runtime. Defaults to the current one. */
  readonly runtime?: Runtime;
  readonly log?: Logger;
  /** Further session options: transport, edge, pins. */
  readonly agent?: Omit<Partial<AgentOptions>, "runtime" | "log" | "grants" | "connector">;
}

/** A served handler. */
export interface Served {
  readonly agent: Agent;
  /** Facts about its certificates. */
  readonly certificates: readonly CertificateFacts[];
  /** Resolves when an edge has first admitted the agent; rejects if none will. */
  readonly connected: Promise<void>;
  /** Settles after `close`, or when the agent gives up. */
  readonly over: Promise<void>;
  /** Closes it; requests in progress may finish. */
  close(graceMs?: number): Promise<void>;
}

/**
 * Puts a fetch handler on the internet: dials the edge that the session master names, and gets a certificate. TLS ends in
 * this process.
 *
 * @example
 * ```ts
 * const served = await serve((request) => new Response(`hello from ${new URL(request.url).host}`), {
 *   master: "https://master.example.org",
 *   credential: "…",
 *   hostname: "home.example.org",
 *   store: new FileCertificateStore("./data/tls"),
 * });
 * await served.over;
 * ```
 */
export async function serve(handler: FetchHandler, options: ServeOptions): Promise<Served> {
  const { master, credential, access, acme, store = new MemoryCertificateStore(), log = silentLogger } =
    options;
  const runtime = options.runtime ?? await currentRuntime();
  const { clock } = runtime;
  const names = [options.hostname, ...options.aliases ?? []].map(canonicalServedName);
  const tls = options.tls ?? (names.every(isLocalName) ? "self-signed" : "acme");
  const connectors = createServiceConnectors({
    ...{ runtime, log, store, handler: fetchHandler(handler) },
    manager: () => new CertificateManager({ reachable: () => agent.online(), ...acme, clock, store, log }),
  });
  const service = serviceDefaults({ names, targets: [], tls });
  const connector = connectors.terminating(service, { runtime, log, targets: NONE, failed() {} });
  const sampler = visitorLines(log, clock);
  const accessList = access === undefined ? undefined : new AccessList(access);
  const connected = Promise.withResolvers<void>();
  const agent = createAgent({
    ...options.agent,
    ...{ runtime, log },
    grants: masterGrants({ master, credential, hostname: names[0] as string, aliases: names.slice(1) }),
    connector: (stream) => {
      if (accessList?.permits(stream.caller.address) !== false) return connector.connect(stream);
      const { address: visitor } = stream.caller;
      const why = "visitor is refused by the access list";
      const refused = () => sampler.info("access", { visitor, reason: "access_denied" }, why);
      connector.refuse?.({ stream, alert: AlertDescription.access_denied, refused });
    },
    connected(session, tunnel) {
      connected.resolve();
      options.agent?.connected?.(session, tunnel);
    },
  });
  const over = agent.run();
  over.then(
    () => connected.reject(new SallyportError("shutdown", "Cannot serve: it was closed", { side: "local" })),
    (error) => connected.reject(error),
  );
  // Callers may ignore either promise.
  over.catch(() => {});
  connected.promise.catch(() => {});
  return {
    agent,
    get certificates() {
      return connector.certificates?.() ?? [];
    },
    connected: connected.promise,
    over,
    async close(graceMs = SHUTDOWN_GRACE_MS) {
      await connector.close?.(graceMs);
      connectors.close();
      await agent.close(graceMs);
      await over.catch(() => {});
    },
  };
}

/** A handler in the same process isn't a target to dial. */
const NONE: Targets = {
  candidates: () => [],
  report() {},
  dial: () => Promise.reject(noTarget()),
  connect(handler) {
    queueMicrotask(() => handler.unreachable(noTarget()));
    return { late: () => 0 };
  },
};

function noTarget(): SallyportError {
  return new SallyportError("internal", "there is no target to dial", { side: "local" });
}
