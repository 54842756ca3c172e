/**
 * `agent`: connects servers behind NAT to an edge.
 *
 * @module
 */
import { randomBytes } from "node:crypto";
import process from "node:process";
import { AccessList } from "../agent/access_list.ts";
import { type Agent, createAgent } from "../agent/agent.ts";
import { CertificateReports } from "../agent/certificate_reports.ts";
import { tcpConnector } from "../agent/connector.ts";
import { systemLookup } from "../agent/edge_place.ts";
import { type MasterGrantOptions, masterGrants } from "../agent/grant.ts";
import { GrantStock } from "../agent/grant_stock.ts";
import { identityCredential } from "../agent/identity.ts";
import { MasterClock } from "../agent/late_clock.ts";
import { ServiceMetrics } from "../agent/services/metrics.ts";
import type { Service } from "../agent/services/service.ts";
import { ServiceTable } from "../agent/services/table.ts";
import type { Target } from "../agent/services/target.ts";
import { STATUS_VERSION, type StatusReport } from "../agent/status/report.ts";
import { agentServices } from "../config/agent_services.ts";
import {
  changedSettings,
  checkFile,
  type Config,
  type LoadedConfig,
  queueLimits,
  type SettingName,
  SETTINGS,
} from "../config/config.ts";
import { SallyportError } from "../errors.ts";
import type { Runtime } from "../runtime/port.ts";
import type { Logger } from "../telemetry/log.ts";
import { SHUTDOWN_GRACE_MS } from "../transport/port.ts";
import { VERSION } from "../version.ts";
import { formatHostPort, type HostPort } from "../wire/ip/host_port.ts";
import { formatPublishClaim, type PublishClaim } from "../wire/token/claims.ts";
import { isWildcard } from "../wire/wildcard.ts";
import { AccessLogs } from "./access_log.ts";
import { EnrolledNames, TokenNames } from "./agent_names.ts";
import { type AgentNetwork, agentNetwork } from "./agent_proxy.ts";
import { addStatus, openStatusSocket } from "./agent_status.ts";
import { askForMissing } from "./ask.ts";
import { serviceConnectors } from "./certificates.ts";
import { addExamples, addSettings, type CliContext, type Command, readSettings } from "./command.ts";
import { Connecting } from "./connecting.ts";
import { type AgentAccess, findAccess } from "./identity.ts";
import { type CliIo, commandLine } from "./io.ts";
import { transportMemory } from "./known_transports.ts";
import { type Base, createBase, startStatus, statusFacts } from "./parts.ts";
import { addPassword } from "./password.ts";
import { edgePins } from "./pins.ts";
import { warnOfKeyLog } from "./quic.ts";
import { watchForReload } from "./reload.ts";
import { libsodiumBuild } from "./sealed.ts";
import { printStartup, shellWord, type Step } from "./startup.ts";

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
      args: "agent --join https://master.example.org/#CODE --to http://127.0.0.1:3000",
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
  const base = await createAgentBase(config, io);
  const { runtime, log, metrics, life } = base;
  return await life.run(async () => {
    const network = agentNetwork(config, io, runtime, log);
    const access = await findAccess(loaded, network.fetch);
    const enrolled = new EnrolledNames(loaded, access);
    const services = agentServices(enrolled.loaded);
    if (config.transport === "quic") await warnOfKeyLog(io, runtime);
    const accessLogs = new AccessLogs({ io, clock: runtime.clock, log });
    const master: MasterAccess = {
      tracer: base.tracer,
      fetch: network.fetch,
      ...config.proxy === undefined ? { lookup: systemLookup } : {},
      master: access.master,
      credential: access.identity === undefined
        ? access.credential
        : identityCredential(access.identity, () => runtime.clock.wallMs()),
      insecure: config.insecureMaster,
    };
    const table = new ServiceTable({
      ...{ runtime, log, meter: metrics, accessLog: accessLogs.open },
      connectors: serviceConnectors(config, base, network.late, master, () => agent.online()),
    });
    metrics.group(ServiceMetrics).source = () =>
      table.facts.map((facts) => ({ ...facts, name: facts.names[0]! }));
    const published = config.publish.map(({ port, target = defaultPublished(config.to) }) => ({
      port,
      target,
    }));
    const agent = connectAgent({ base, config, network, master, enrolled, table, published });
    table.apply(services);
    if (access.identity !== undefined) startCertificateReports(base, master, table);
    const status = await startStatus(base, config.metricsListen, () => ({
      session: agent.session !== undefined,
    }));
    await openStatusSocket(base, config.dataDir, table, statusReport(base, access.master, agent, table));
    const reload = () => {
      accessLogs.reopen();
      const fresh = readSettings(command, "agent", io);
      applySettings({ loaded, fresh, log, enrolled, table, agent });
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
        ...connectionFacts(config, access, network),
        ...statusFacts(status),
      ],
      next: agentSteps(io, config, table.names),
    });
    return { over: agent.run() };
  });
}

/** The parts of an agent's process, by a clock that the session master corrects. */
type AgentBase = Base & { readonly runtime: Runtime & { readonly clock: MasterClock } };

async function createAgentBase(config: Config, io: CliIo): Promise<AgentBase> {
  const base = await createBase(config, io);
  return { ...base, runtime: { ...base.runtime, clock: new MasterClock(base.runtime.clock) } };
}

/** How requests reach the session master. */
type MasterAccess = Pick<
  MasterGrantOptions,
  "master" | "credential" | "insecure" | "fetch" | "tracer" | "lookup"
>;

/** What an agent's sessions are made of. */
interface AgentParts {
  readonly base: Base;
  readonly config: Config;
  readonly network: AgentNetwork;
  readonly master: MasterAccess;
  readonly enrolled: EnrolledNames;
  readonly table: ServiceTable;
  /** The public ports, and where their visitors' bytes go. */
  readonly published: readonly { readonly port: PublishClaim["port"]; readonly target: HostPort }[];
}

/** Creates the agent, which gets its grants from the session master; `run` connects it. */
function connectAgent(parts: AgentParts): Agent {
  const { base: { runtime, log, metrics, life }, config, network, master, table, published } = parts;
  const { edge, edges, transport, dataDir } = config;
  const accessList = new AccessList({ allow: config.allow, block: config.block });
  const connecting = new Connecting(runtime.clock, log);
  life.add("progress", () => connecting.done());
  const stocks = grantStocks(parts);
  life.add("grants", () => stocks.forEach((stock) => stock.close()));
  const agent = createAgent({
    ...{ runtime: network.runtime, log, metrics, edge, edges, transport },
    queueLimits: queueLimits(config),
    libsodium: libsodiumBuild(config.libsodium),
    edgePublicKey: config.edgePublicKey,
    edgeCertificateFingerprint: config.edgeCertificateFingerprint,
    edgePins: edgePins(dataDir),
    congestion: config.congestion,
    transportMemory: transportMemory(dataDir),
    grants: async (slot = 0) => {
      connecting.asksMaster(master.master);
      const grant = await stocks[slot]!.take();
      connecting.dials(edge ?? grant.edge, transport);
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
  return agent;
}

/** Grants from the session master, separate ones for each of the agent's sessions. */
function grantStocks({ base: { runtime, log }, config, master, enrolled, table }: AgentParts): GrantStock[] {
  const { edge, transport, protocolVersion, cipher, publish, region, edges } = config;
  const names = new TokenNames(table);
  const instance = randomBytes(12).toString("base64url");
  const grants = masterGrants({
    ...{ ...master, protocolVersion, cipher, region, edges, anyEdge: edge !== undefined },
    // A token bound to one transport can't be used with another. SniTun's own masters don't know this member.
    transports: ["auto", "snitun"].includes(transport) ? undefined : [transport],
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
  });
  return Array.from({ length: edges }, (_, slot) =>
    new GrantStock(async () => {
      const grant = await grants(slot);
      if (await enrolled.heard([grant.hostname, ...grant.aliases])) {
        table.apply(agentServices(enrolled.loaded));
        log.info({ hostnames: table.names }, "the session master has other names for this agent");
      }
      return grant;
    }, { clock: runtime.clock, log }));
}

/** Tells the session master about the certificates, for its page and its warnings. */
function startCertificateReports(
  { runtime: { clock }, log, life }: Base,
  master: MasterAccess,
  table: ServiceTable,
): void {
  const reports = new CertificateReports({
    ...{ ...master, clock, log },
    certificates: () => table.certificates,
  });
  reports.start();
  life.add("certificate reports", () => reports.close());
}

/** The answer to `agent status`. */
function statusReport(
  { runtime }: Base,
  master: string,
  agent: Agent,
  table: ServiceTable,
): () => StatusReport {
  const startedMs = runtime.clock.wallMs();
  return () => ({
    statusVersion: STATUS_VERSION,
    version: VERSION,
    runtime: `${runtime.name} ${runtime.version}`,
    pid: process.pid,
    ...{ startedMs, nowMs: runtime.clock.wallMs(), master },
    agent: agent.facts,
    services: table.facts,
    published: agent.published.map((address) => address === undefined ? null : formatHostPort(address)),
  });
}

/** Applies the services of new settings, and names the settings that need a restart. */
function applySettings({ loaded, fresh, log, enrolled, table, agent }: {
  readonly loaded: LoadedConfig;
  readonly fresh: LoadedConfig;
  readonly log: Logger;
  readonly enrolled: EnrolledNames;
  readonly table: ServiceTable;
  readonly agent: Agent;
}): void {
  const isShared = () => table.services.some((service) => service.shared);
  const before = { names: table.names.join(), shared: isShared() };
  enrolled.reload(fresh);
  const { kept, ...changes } = table.apply(agentServices(enrolled.loaded));
  log.info({ ...changes, kept: kept.length }, "configuration reloaded");
  for (const name of changedSettings(loaded.config, fresh.config)) {
    if (SERVICE_SETTINGS.includes(name)) continue;
    log.warn({ setting: name }, `${name} has changed; restart the agent to apply it`);
  }
  if (before.names !== table.names.join() || before.shared !== isShared()) agent.renew();
}

/** The start message's lines on how the agent connects. */
function connectionFacts(
  { edge, transport }: Config,
  access: AgentAccess,
  network: AgentNetwork,
): (readonly [string, string])[] {
  return [
    ["session master", access.master],
    ...access.identity === undefined
      ? []
      : [["identity", `${access.identity.id}, in ${access.file.place}`] as const],
    ["edge", edge === undefined ? "the one that the token names" : formatHostPort(edge)],
    ...network.text === undefined ? [] : [["proxy", network.text] as const],
    ...transport === "snitun" ? [] : [["transport", transport] as const],
  ];
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
