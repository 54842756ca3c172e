/**
 * `agent`: connects a server behind NAT to an edge.
 *
 * @module
 */
import { AccessList } from "../agent/access_list.ts";
import { createAgent } from "../agent/agent.ts";
import { tcpConnector } from "../agent/connector.ts";
import { masterGrants } from "../agent/grant.ts";
import { type Config, formatHostPort, type HostPort, queueLimits } from "../config/config.ts";
import { formatPublishClaim } from "../wire/token/publish_claim.ts";
import { addExamples, addSettings, type CliContext, type Command, readSettings } from "./command.ts";
import { transportMemory } from "./known_transports.ts";
import { edgePins } from "./pins.ts";
import { createBase, startStatus, statusFacts } from "./parts.ts";
import { warnOfKeyLog } from "./quic.ts";
import { libsodiumBuild } from "./sealed.ts";
import { printStartup } from "./startup.ts";
import { SHUTDOWN_GRACE_MS } from "../transport/port.ts";

/** The settings that the agent doesn't start without, so that they are there. */
type AgentConfig = Config & {
  readonly master: string;
  readonly credential: string;
  readonly hostname: string;
  readonly to: HostPort;
};

/** Adds the command. */
export function addAgent(program: Command, context: CliContext): void {
  const { io } = context;
  const command = program.command("agent").description(
    "Connect a server to an edge, and stay connected: visitors who ask for the name reach it.\n" +
      "The server speaks TLS itself; nobody on the way decrypts it.",
  );
  addSettings(command, "agent");
  const base = "agent --master https://master.example.org --credential-file agent.key " +
    "--hostname home.example.org --to 127.0.0.1:443";
  addExamples(command, io, [
    {
      what: "a server on this machine; the credential by file, since other users can see arguments",
      args: base,
    },
    {
      what: "so that nobody on the way sees what it is",
      args: `${base} --transport sealed`,
    },
    {
      what: "over QUIC, so that a lost packet delays one visitor alone",
      args: `${base} --transport quic`,
    },
    {
      what: "over UDP, where packets are lost or the address changes",
      args: `${base} --transport curve`,
    },
    {
      what: "by the first way that gets through",
      args: `${base} --transport auto`,
    },
    {
      what: "and SSH by a public port of the edge",
      args: `${base} --publish tcp:2222=127.0.0.1:22`,
    },
    {
      what: "for visitors from two networks alone",
      args: `${base} --allow 192.0.2.0/24 --allow 2001:db8::/32`,
    },
  ]);
  command.action(async () => {
    const loaded = readSettings(command, "agent", io);
    const config = loaded.config as AgentConfig;
    const { master, credential, hostname, alias, to, edge, protocolVersion, cipher, allow, block, publish } =
      config;
    const base = await createBase(config, io);
    const { runtime, log, metrics, life } = base;
    context.exitCode = await life.run(async () => {
      if (config.transport === "quic") await warnOfKeyLog(io, runtime);
      const accessList = new AccessList({ allow, block });
      const agent = createAgent({
        runtime,
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
        grants: masterGrants({
          ...{ master, credential, hostname, aliases: alias, protocolVersion, cipher },
          publish: publish.map(formatPublishClaim),
        }),
        publish: publish.map(({ port, target = to }) => ({
          port,
          connector: tcpConnector({ runtime, log, accessList, meter: metrics, plain: true, ...target }),
        })),
        connector: tcpConnector({ runtime, log, accessList, meter: metrics, ...to }),
      });
      life.add("agent", () => agent.close(SHUTDOWN_GRACE_MS));
      const status = await startStatus(base, config.metricsListen, () => ({
        session: agent.session !== undefined,
      }));
      printStartup(io, {
        runtime,
        facts: [
          ["names", [hostname, ...alias].join(", ")],
          ["endpoint", formatHostPort(to)],
          ...publish.map((port) =>
            ["public port", `${formatPublishClaim(port)} to ${formatHostPort(port.target ?? to)}`] as const
          ),
          ["session master", master],
          ["edge", edge === undefined ? "the one that the token names" : formatHostPort(edge)],
          ...config.transport === "snitun" ? [] : [["transport", config.transport] as const],
          ...statusFacts(status),
        ],
      });
      return { over: agent.run() };
    });
  });
}
