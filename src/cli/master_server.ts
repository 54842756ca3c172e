/**
 * Starts a session master for `serve`, `master` and `demo`; other commands never load it.
 *
 * @module
 */
import type { NodeRecord } from "../cluster/directory.ts";
import type { Config } from "../config/config.ts";
import type { FernetRing } from "../crypto/fernet.ts";
import { dnsHookProgram } from "../dns/dns_hook.ts";
import { SallyportError } from "../errors.ts";
import { createMasterApp, type EdgeAddress, type MasterOptions } from "../master/app.ts";
import { type Credentials, firstOf } from "../master/credentials.ts";
import { DatabaseCheck } from "../master/database_check.ts";
import { DnsChallenges } from "../master/dns_challenges.ts";
import { EdgeChoice } from "../master/edge_choice.ts";
import type { Management } from "../master/management.ts";
import { oidcCredentials, type OidcGrant } from "../master/oidc.ts";
import type { Address } from "../runtime/port.ts";
import { SHUTDOWN_GRACE_MS } from "../transport/port.ts";
import type { HostPort } from "../wire/ip/host_port.ts";
import { type CliIo, commandLine } from "./io.ts";
import type { FoundKey } from "./keys.ts";
import type { MasterPolicy } from "./master_policy.ts";
import { type Base, listenOnAll, localUrl, networks, readiness } from "./parts.ts";
import { shellWord, type Step } from "./startup.ts";

/** Options of {@link startMaster} besides the base. */
interface MasterPartOptions {
  readonly ring: FernetRing;
  /** The credential of the admin key. */
  readonly admin: Credentials;
  readonly listen: readonly HostPort[];
  /** Whether a free port takes the place of one that is in use. */
  readonly otherPort?: boolean;
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
    | "acmeDnsHook"
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
  const dnsChallenges = config?.acmeDnsHook === undefined
    ? undefined
    : new DnsChallenges({ hook: dnsHookProgram(config.acmeDnsHook), clock: runtime.clock, log });
  if (dnsChallenges !== undefined) life.add("DNS records", () => dnsChallenges.close());
  const databaseCheck = management &&
    new DatabaseCheck({ store: management.store, clock: runtime.clock, log });
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
    dnsChallenges,
    pageProvider: pageProvider(config),
    clock: runtime.clock,
    metrics,
    log,
    tracer: base.tracer,
    async ready() {
      const keys = ring.size > 0;
      const stored: Record<string, boolean> = {};
      if (databaseCheck !== undefined) stored.database = await databaseCheck.run();
      if (edgeReady === undefined) return readiness(life, { keys, ...stored });
      // Visitors need no database: a load balancer must not turn them away while it is unavailable.
      return readiness(life, { edge: edgeReady(), keys }, stored);
    },
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
  }, { otherPort: options.otherPort ?? false });
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

/** The page for managing agents in a browser, and the key that opens it. */
export function pageStep(master: Address, admin: FoundKey<unknown>): Step {
  const key = admin.from === "settings" ? "the admin key" : `the key in ${admin.from}`;
  return {
    what: `Agents, sessions and usage, in a browser; ${key} logs in:`,
    lines: [`${localUrl(master)}/`],
  };
}

/** The command that adds an agent, with the admin key read from its file so that it isn't printed. */
export function agentCommand(
  io: Pick<CliIo, "program">,
  master: string | undefined,
  keyFrom: string,
): string[] {
  const key = keyFrom === "settings" ? "--credential KEY" : `--credential-file ${shellWord(keyFrom)}`;
  return [
    commandLine(io, "agents add demo --hostname demo.localhost \\"),
    `  --master ${master ?? "URL"} ${key}`,
  ];
}
