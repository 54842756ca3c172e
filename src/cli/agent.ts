/**
 * `agent`: connects servers behind NAT to an edge.
 *
 * @module
 */
import { AccessList } from "../agent/access_list.ts";
import { createAgent } from "../agent/agent.ts";
import { tcpConnector } from "../agent/connector.ts";
import { masterGrants } from "../agent/grant.ts";
import { GrantStock } from "../agent/grant_stock.ts";
import { identityCredential, keepHostnames } from "../agent/identity.ts";
import type { Service } from "../agent/services/service.ts";
import { ServiceMetrics } from "../agent/services/metrics.ts";
import { ServiceTable } from "../agent/services/table.ts";
import type { Target } from "../agent/services/target.ts";
import { agentServices } from "../config/agent_services.ts";
import {
  changedSettings,
  checkFile,
  type Config,
  loadConfig,
  type LoadedConfig,
  queueLimits,
  type SettingName,
  SETTINGS,
} from "../config/config.ts";
import { randomBytes } from "node:crypto";
import process from "node:process";
import { errorCode, errorMessage, SallyportError } from "../errors.ts";
import { VERSION } from "../version.ts";
import { STATUS_VERSION, type StatusReport } from "../agent/status/report.ts";
import { readStatus, serveStatus, STATUS_SOCKET } from "../agent/status/socket.ts";
import { statusText } from "../agent/status/text.ts";
import { DataDir } from "./data_dir.ts";
import { SHUTDOWN_GRACE_MS } from "../transport/port.ts";
import { formatPublishClaim } from "../wire/token/claims.ts";
import { isWildcard } from "../wire/wildcard.ts";
import { AccessLogs } from "./access_log.ts";
import { CertificateReports } from "../agent/certificate_reports.ts";
import { agentNetwork } from "./agent_proxy.ts";
import { askForMissing } from "./ask.ts";
import { serviceConnectors } from "./certificates.ts";
import { addExamples, addSettings, type CliContext, type Command, readSettings } from "./command.ts";
import { Connecting } from "./connecting.ts";
import { type CliIo, commandLine } from "./io.ts";
import { type AgentAccess, findAccess } from "./identity.ts";
import { transportMemory } from "./known_transports.ts";
import { type Base, createBase, startStatus, statusFacts } from "./parts.ts";
import { addPassword } from "./password.ts";
import { edgePins } from "./pins.ts";
import { warnOfKeyLog } from "./quic.ts";
import { watchForReload } from "./reload.ts";
import { libsodiumBuild } from "./sealed.ts";
import { printStartup, shellWord, type Step } from "./startup.ts";
import { formatHostPort, type HostPort } from "../wire/ip/host_port.ts";

/** Most services that the start message lists; for more it gives the number. */
const SERVICES_SHOWN_MAX = 12;

/** Adds the command. */
export function addAgent(program: Command, context: CliContext): void {
  const { io } = context;
  const command = program.command("agent").description(
    "Connect services to an edge, and stay connected: visitors of a name reach its target.\n" +
      "Nothing on the way decrypts their traffic: TLS ends at the target or in this agent.",
  );
  addSettings(command, "agent");
  const master = "agent --master https://master.example.org --credential-file agent.key ";
  const base = `${master}--hostname home.example.org --to 127.0.0.1:443`;
  addExamples(command, io, [
    {
      what: "the first time, with the link that `agents add` printed; later without it",
      args: "agent --join https://master.example.org/#CODE --to 127.0.0.1:443",
    },
    {
      what:
        "a server on this machine that speaks TLS; the credential by file, since other users can see arguments",
      args: base,
    },
    {
      what: "a server of plain HTTP: the agent gets a certificate for it, and TLS ends here",
      args: `${master}--hostname home.example.org --to http://127.0.0.1:3000`,
    },
    {
      what: "two services, each with a name of its own",
      args: `${master}--service app.example.org=http://127.0.0.1:3000 --service nas.example.org=10.0.0.5:443`,
    },
    {
      what: "services from a file, which may change while the agent runs",
      args: "agent --config agent.yaml",
    },
    {
      what: "so that observers can't recognise the protocol",
      args: `${base} --transport sealed`,
    },
    {
      what: "over QUIC, so that a lost packet delays only one visitor",
      args: `${base} --transport quic`,
    },
    {
      what: "over UDP, for lossy networks and changing addresses",
      args: `${base} --transport curve`,
    },
    {
      what: "by the first transport that connects",
      args: `${base} --transport auto`,
    },
    {
      what: "and SSH through a public port of the edge",
      args: `${base} --publish tcp:2222=127.0.0.1:22`,
    },
    {
      what: "with sessions at two edges of a cluster, so that the loss of one goes unnoticed",
      args: `${base} --edges 2`,
    },
    {
      what: "only for visitors from two networks",
      args: `${base} --allow 192.0.2.0/24 --allow 2001:db8::/32`,
    },
  ]);
  command.action(async () => {
    context.exitCode = await runAgent(command, context);
  });
  addCheck(command, context);
  addPassword(command, context);
  addStatus(command, context);
}

async function runAgent(command: Command, { io }: CliContext): Promise<number> {
  await askForMissing(command, io);
  const loaded = readSettings(command, "agent", io);
  const { config } = loaded;
  const { edge, protocolVersion, cipher, allow, block, publish } = config;
  const base = await createBase(config, io);
  const { runtime, log, metrics, life } = base;
  return await life.run(async () => {
    const network = agentNetwork(config, io, runtime);
    const access = await findAccess(loaded, network.fetch);
    const enrolled = new EnrolledNames(loaded, access);
    const services = agentServices(enrolled.loaded);
    if (config.transport === "quic") await warnOfKeyLog(io, runtime);
    const accessLogs = new AccessLogs({ io, clock: runtime.clock, log });
    const master = {
      tracer: base.tracer,
      ...network.fetch === undefined ? {} : { fetch: network.fetch },
      master: access.master,
      credential: access.identity === undefined
        ? access.credential
        : identityCredential(access.identity, () => runtime.clock.wallMs()),
      insecure: config.insecureMaster,
    };
    const table = new ServiceTable({
      ...{ runtime, log, meter: metrics, accessLog: accessLogs.open },
      connectors: serviceConnectors(config, base, master),
    });
    table.apply(services);
    metrics.group(ServiceMetrics).source = () =>
      table.facts.map((facts) => ({ ...facts, name: facts.names[0]! }));
    const names = new TokenNames(table);
    const accessList = new AccessList({ allow, block });
    const published = publish.map(({ port, target = defaultPublished(config.to) }) => ({ port, target }));
    const connecting = new Connecting(runtime.clock, log);
    life.add("progress", () => connecting.done());
    const instance = randomBytes(12).toString("base64url");
    const grants = masterGrants({
      ...{ ...master, protocolVersion, cipher, anyEdge: edge !== undefined },
      // A token bound to one transport can't be used with another. SniTun's own masters don't know this member.
      transports: ["auto", "snitun"].includes(config.transport) ? undefined : [config.transport],
      get hostname() {
        return enrolled.own ? undefined : names.hostname;
      },
      get aliases() {
        return names.aliases;
      },
      get shared() {
        return table.services.some((service) => service.shared) ? instance : undefined;
      },
      publish: publish.map(formatPublishClaim),
      ...{ region: config.region, edges: config.edges },
    });
    if (access.identity !== undefined) {
      const reports = new CertificateReports({
        ...{ ...master, clock: runtime.clock, log },
        certificates: () => table.certificates,
      });
      reports.start();
      life.add("certificate reports", () => reports.close());
    }
    // Each of the agent's sessions has its own grants.
    const stocks = Array.from({ length: config.edges }, (_, slot) =>
      new GrantStock(async () => {
        const grant = await grants(slot);
        if (await enrolled.heard([grant.hostname, ...grant.aliases])) {
          table.apply(agentServices(enrolled.loaded));
          log.info({ hostnames: table.names }, "the session master has other names for this agent");
        }
        return grant;
      }, { clock: runtime.clock, log }));
    life.add("grants", () => stocks.forEach((stock) => stock.close()));
    const agent = createAgent({
      runtime: network.runtime,
      log,
      metrics,
      edge,
      queueLimits: queueLimits(config),
      transport: config.transport,
      libsodium: libsodiumBuild(config.libsodium),
      edgePublicKey: config.edgePublicKey,
      edgeCertificateFingerprint: config.edgeCertificateFingerprint,
      edgePins: edgePins(config.dataDir),
      congestion: config.congestion,
      transportMemory: transportMemory(config.dataDir),
      edges: config.edges,
      grants: async (slot = 0) => {
        connecting.asksMaster(access.master);
        const grant = await stocks[slot]!.take();
        connecting.dials(edge ?? grant.edge, config.transport);
        return grant;
      },
      discardGrants: (slot = 0) => stocks[slot]!.discard(),
      connected: () => connecting.done(),
      publish: published.map(({ port, target }) => ({
        port,
        connector: tcpConnector({ runtime, log, accessList, meter: metrics, plain: true, ...target }),
      })),
      connector: table.connector,
    });
    life.add("services", () => table.close(SHUTDOWN_GRACE_MS));
    life.add("agent", () => agent.close(SHUTDOWN_GRACE_MS));
    const status = await startStatus(base, config.metricsListen, () => ({
      session: agent.session !== undefined,
    }));
    const startedMs = runtime.clock.wallMs();
    await openStatusSocket(base, config.dataDir, table, () => ({
      statusVersion: STATUS_VERSION,
      version: VERSION,
      runtime: `${runtime.name} ${runtime.version}`,
      pid: process.pid,
      ...{ startedMs, nowMs: runtime.clock.wallMs(), master: access.master },
      agent: agent.facts,
      services: table.facts,
      certificates: table.certificates,
      published: agent.published.map((address) => address === undefined ? null : formatHostPort(address)),
    }));
    const reload = () => {
      accessLogs.reopen();
      const fresh = readSettings(command, "agent", io);
      const before = table.names;
      const wasShared = table.services.some((service) => service.shared);
      enrolled.reload(fresh);
      const applied = table.apply(agentServices(enrolled.loaded));
      const { kept, ...changes } = applied;
      log.info({ ...changes, kept: kept.length }, "configuration reloaded");
      for (const name of changedSettings(loaded.config, fresh.config)) {
        if (SERVICE_SETTINGS.includes(name)) continue;
        log.warn({ setting: name }, `${name} has changed; restart the agent to apply it`);
      }
      const isShared = table.services.some((service) => service.shared);
      if (before.join() !== table.names.join() || wasShared !== isShared) agent.renew();
    };
    life.add(
      "configuration",
      watchForReload({
        ...{ io, clock: runtime.clock, log, reload },
        paths: loaded.file === undefined ? [] : [loaded.file],
      }),
    );
    printStartup(io, {
      runtime,
      facts: [
        ...serviceFacts(services),
        ...published.map(({ port, target }) =>
          ["public port", `${formatPublishClaim({ port })} to ${formatHostPort(target)}`] as const
        ),
        ["session master", access.master],
        ...access.identity === undefined
          ? []
          : [["identity", `${access.identity.id}, in ${access.file.place}`] as const],
        ["edge", edge === undefined ? "the one that the token names" : formatHostPort(edge)],
        ...network.text === undefined ? [] : [["proxy", network.text] as const],
        ...config.transport === "snitun" ? [] : [["transport", config.transport] as const],
        ...statusFacts(status),
      ],
      next: agentSteps(io, config, table.names),
    });
    return { over: agent.run() };
  });
}

/** How to check, from another terminal, that it works. */
function agentSteps(io: CliIo, config: Config, names: readonly string[]): Step[] {
  const folder = config.dataDir === SETTINGS.dataDir.default
    ? ""
    : ` --data-dir ${shellWord(config.dataDir)}`;
  const name = names.find((name) => !isWildcard(name));
  return [{
    what: "From another terminal, show its state, and check that visitors get through:",
    lines: [
      commandLine(io, `agent status${folder}`),
      ...name === undefined ? [] : [commandLine(io, `doctor ${name}${folder}`)],
    ],
  }];
}

/** The names of an enrolled agent: if the settings give none for `--to`, those that the session master has for it. */
class EnrolledNames {
  readonly #access: AgentAccess;
  #loaded: LoadedConfig;
  #names: readonly string[];

  constructor(loaded: LoadedConfig, access: AgentAccess) {
    this.#access = access;
    this.#loaded = loaded;
    this.#names = access.identity?.hostnames ?? [];
  }

  /** Whether the session master decides the names. */
  get own(): boolean {
    const { config, services } = this.#loaded;
    return this.#access.identity !== undefined && config.hostname === undefined &&
      config.service.length === 0 &&
      services.length === 0;
  }

  /** The settings, with the session master's names if they have none. */
  get loaded(): LoadedConfig {
    const [hostname, ...alias] = this.#names;
    if (!this.own || hostname === undefined) return this.#loaded;
    return { ...this.#loaded, config: { ...this.#loaded.config, hostname, alias } };
  }

  reload(loaded: LoadedConfig): void {
    this.#loaded = loaded;
  }

  /** Stores a grant's names; returns whether they have changed. */
  async heard(names: readonly string[]): Promise<boolean> {
    const { identity } = this.#access;
    if (identity === undefined || !this.own || names.join() === this.#names.join()) return false;
    this.#names = names;
    await keepHostnames(this.#access.file, identity, names);
    return true;
  }
}

/**
 * Opens the socket for `agent status` and `doctor`; an agent without it still serves.
 *
 * @throws SallyportError `config_invalid` if an agent with the same data folder already serves one of the names: they
 * would keep replacing each other at the edge
 */
async function openStatusSocket(
  { io, log, life }: Base,
  dataDir: string,
  table: ServiceTable,
  report: () => StatusReport,
): Promise<void> {
  const data = new DataDir(dataDir);
  const path = data.file(STATUS_SOCKET);
  try {
    await data.make();
    const socket = await serveStatus(path, report);
    life.add("status", () => socket.close());
  } catch (error) {
    const other = errorCode(error) === "address_in_use" ? await readStatus(path).catch(() => {}) : undefined;
    const taken = new Set(other?.services.flatMap(({ names }) => names));
    const twice = table.services.filter(({ shared }) => !shared).flatMap(({ names }) => names)
      .find((name) => taken.has(name));
    if (other !== undefined && twice !== undefined) {
      const why = `process ${other.pid} serves ${twice} already, with the same data folder ${dataDir}; ` +
        "stop that one first, or give this one another name and its own --data-dir";
      throw new SallyportError("config_invalid", `Cannot start agent: ${why}`, { side: "config" });
    }
    log.warn(
      { reason: errorCode(error) },
      `\`${commandLine(io, "agent status")}\` won't work: ${errorMessage(error)}`,
    );
  }
}

function addStatus(agent: Command, context: CliContext): void {
  const { io } = context;
  const status = agent.command("status").option("--json", "print all of it as JSON")
    .description("Show the state of the agent that runs with this --data-dir.");
  addExamples(status, io, [
    { what: "an agent with its data in ./data", args: "agent status" },
    {
      what: "another agent, as JSON for a program",
      args: "agent status --data-dir /var/lib/sallyport --json",
    },
  ]);
  status.action(async ({ json = false }: { readonly json?: boolean }) => {
    // --data-dir and --config are flags of `agent`, regardless of their position.
    const { config } = loadConfig("agent", { flags: agent.opts(), env: io.env, partial: true });
    const report = await readStatus(new DataDir(config.dataDir).file(STATUS_SOCKET));
    if (json) io.out(JSON.stringify(report, undefined, 2));
    else for (const line of statusText(report)) io.out(line);
  });
}

/**
 * The names for tokens: the hostname stays the same as long as it is served, so that a new session replaces the old
 * one.
 */
class TokenNames {
  readonly #table: ServiceTable;
  #hostname: string | undefined;

  constructor(table: ServiceTable) {
    this.#table = table;
  }

  get hostname(): string {
    const { names } = this.#table;
    if (this.#hostname === undefined || !names.includes(this.#hostname)) {
      this.#hostname = names.find((name) => !isWildcard(name)) ?? names[0];
    }
    return this.#hostname!;
  }

  get aliases(): readonly string[] {
    return this.#table.names.filter((name) => name !== this.hostname);
  }
}

/** The settings that are reloaded with the services. */
const SERVICE_SETTINGS: readonly SettingName[] = [
  ...["hostname", "alias", "to", "service", "tls", "proxyProtocol", "idleTimeout", "accessLog"] as const,
];

/** The start message's lines on services: `a.example.org, b.example.org → http://127.0.0.1:3000 (acme)`. */
function serviceFacts(services: readonly Service[]): (readonly [string, string])[] {
  const shown = services.slice(0, SERVICES_SHOWN_MAX).map(({ names, targets, tls }) => {
    const where = targets.map(({ text }) => text).join(", ");
    return [
      "service",
      `${names.join(", ")} to ${where} (TLS: ${typeof tls === "string" ? tls : "file"})`,
    ] as const;
  });
  const more = services.length - shown.length;
  return more === 0 ? shown : [...shown, ["services", `and ${more} more`]];
}

/** The default target of a public port: the server of `--to`. */
function defaultPublished(to: Target | undefined): HostPort {
  if (to !== undefined && to.protocol !== "files" && "host" in to.endpoint) return to.endpoint;
  const why = "it needs its own target, such as tcp:2222=127.0.0.1:22, since --to names no server";
  throw new SallyportError("config_invalid", `Cannot use --publish: ${why}`, { side: "config" });
}

function addCheck(agent: Command, context: CliContext): void {
  const { io } = context;
  const check = agent.command("check").argument("<file>", "the configuration file, YAML or JSON")
    .description("Check a configuration file, and report faults by line and column.");
  addExamples(check, io, [{ what: "before it is put in place", args: "agent check agent.yaml" }]);
  check.action((path: string) => {
    const { services, faults } = checkFile(path);
    for (const { line, column, message } of faults) io.err(`${path}:${line}:${column}: ${message}`);
    if (faults.length > 0) context.exitCode = 2;
    else io.out(`${path} is fine: ${services.length} ${services.length === 1 ? "service" : "services"}`);
  });
}
