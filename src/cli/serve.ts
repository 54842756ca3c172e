/**
 * `serve`: an edge and its session master in one process.
 *
 * @module
 */
import type { LoadedConfig } from "../config/config.ts";
import { addExamples, addSettings, type CliContext, type Command, readSettings } from "./command.ts";
import type { CliIo } from "./io.ts";
import { keyOrigin, Keys } from "./keys.ts";
import { type EdgePart, type EdgePlace, listenerFacts, pipeFacts, startEdge } from "./edge_server.ts";
import { agentCommand, pageStep, startMaster } from "./master_server.ts";
import { createBase, localUrl, publicAddress, warnOfPublicAddress } from "./parts.ts";
import { findQuic, quicFacts, warnOfKeyLog } from "./quic.ts";
import { findSealed, sealedFacts } from "./sealed.ts";
import { hubLink, joinMaster, makeLedger } from "./ledger.ts";
import { databaseFact, openManagement } from "./management.ts";
import { MasterPolicy } from "./master_policy.ts";
import { AdminCredential, reloadKeys } from "./key_reload.ts";
import { printStartup } from "./startup.ts";
import { clusterFacts, clusterNodes, type ClusterPlace, findCluster, joinAsNode } from "./cluster.ts";
import { runWorker, startWorkers, workerAssignment } from "./workers.ts";
import type { Address } from "../runtime/port.ts";
import { formatHostPort } from "../wire/ip/host_port.ts";

/** Adds the command, which is also the default. */
export function addServe(program: Command, context: CliContext): void {
  const { io } = context;
  const command = program.command("serve", { isDefault: true }).description(
    "Run an edge and a session master in one process; keys are made on the first start.",
  );
  addSettings(command, "serve");
  addExamples(command, io, [
    { what: "on ports 8443 and 8080, keys in ./data", args: "serve" },
    {
      what: "with agents on a port of their own, for others to reach",
      args: "serve --listen [::]:443 --agent-listen [::]:8443 --public-address edge.example.org:8443",
    },
    { what: "behind a proxy that sends PROXY headers", args: "serve --proxy-protocol-from 10.0.0.0/8" },
  ]);
  command.action(async () => {
    context.exitCode = await runServe(io, () => readSettings(command, "serve", io));
  });
}

/** The settings and keys of this process, and what all its parts share. */
type Prepared = Awaited<ReturnType<typeof prepare>>;

async function prepare(io: CliIo, loaded: LoadedConfig) {
  const { config } = loaded;
  const keys = new Keys(config);
  const [fernet, admin] = [await keys.fernet(), await keys.admin()];
  const sealedKey = await findSealed(keys, config, io);
  const quicPart = await findQuic(keys, config);
  const cluster = await findCluster(keys, config, sealedKey);
  for (const warning of keys.warnings) io.err(`Warning: ${warning}`);
  warnOfPublicAddress(io, loaded, ["listen", "agentListen"]);
  const base = await createBase(config, io);
  return { base, loaded, config, fernet, admin, sealedKey, quicPart, cluster };
}

/** Runs the command, or the worker that the environment assigns to this process. */
async function runServe(io: CliIo, reread: () => LoadedConfig): Promise<number> {
  const prepared = await prepare(io, reread());
  const { base, config, cluster } = prepared;
  const offered = (agents: readonly Address[]) => publicAddress(config, agents);
  const assignment = workerAssignment(io.env);
  if (assignment === undefined) {
    return await base.life.run(async () => {
      if (prepared.quicPart !== undefined) await warnOfKeyLog(io, base.runtime);
      const master = await openMaster(prepared, reread);
      const { hub } = master.management;
      const place = await joinAsNode(base, config, cluster, offered);
      const part = config.workers === undefined
        ? await startOwnEdge(prepared, { link: () => hubLink(hub) }, place)
        : await startWorkers(base, config, config.workers, hub);
      await startOwnMaster(prepared, master, part, place);
    });
  }
  return await runWorker(
    base,
    { assignment, config, cluster, offered },
    (place) => startOwnEdge(prepared, place.masterLink(), place),
  );
}

/** Opens the session master's data; its keys and policy follow changes of the settings. */
async function openMaster({ base, loaded, config, fernet, admin }: Prepared, reread: () => LoadedConfig) {
  const policy = new MasterPolicy(config);
  const management = await openManagement(base, config, fernet, policy);
  const adminCredential = new AdminCredential(admin.value);
  reloadKeys(base, loaded, reread, {
    policy,
    fernet: (texts) => management.reloadOwnKeys(texts),
    admin: (key) => adminCredential.replace(key),
  });
  return { policy, management, admin: adminCredential };
}

/** Starts the edge of this process, which reports to the session master behind the link. */
async function startOwnEdge(
  { base, loaded, config, fernet, sealedKey, quicPart }: Prepared,
  joining: Pick<Parameters<typeof joinMaster>[1], "link" | "worker">,
  place: EdgePlace | undefined,
): Promise<EdgePart> {
  // The master stores the keys.
  const ledger = makeLedger(base, config, { ...fernet, from: "settings" });
  await joinMaster(base, { ledger, config, ...joining });
  return await startEdge(base, { ring: fernet.value, loaded, sealedKey, quicPart, ledger, place });
}

/** Starts the session master, and prints what runs and what comes next. */
async function startOwnMaster(
  { base, config, fernet, admin, sealedKey, quicPart, cluster }: Prepared,
  master: Awaited<ReturnType<typeof openMaster>>,
  part: EdgePart,
  place: ClusterPlace | undefined,
): Promise<void> {
  const { io } = base;
  const { visitors, agents, curve, quic } = part;
  const edgeAddress = publicAddress(config, agents.length > 0 ? agents : visitors);
  const masters = await startMaster(base, {
    ...master,
    ring: fernet.value,
    config,
    edgeAddress: {
      ...edgeAddress,
      publicKey: sealedKey?.found.value.publicKey,
      curvePort: config.curvePort ?? curve[0]?.port,
      quicPort: config.quicPort ?? quic[0]?.port,
      certificateFingerprint: quicPart?.fingerprint,
    },
    edgeReady: part.ready,
    nodes: place === undefined ? await clusterNodes(base, config.cluster) : () => place.nodes(),
    listen: config.masterListen,
  });
  printStartup(io, {
    runtime: base.runtime,
    facts: [
      ...listenerFacts(part, config),
      ["session master", masters.map(localUrl).join(", ")],
      ["tokens name the edge", formatHostPort(edgeAddress)],
      ["Fernet keys", keyOrigin(fernet)],
      ["admin key", keyOrigin(admin)],
      databaseFact(config),
      ...clusterFacts(cluster, place?.membership),
      ...sealedFacts(sealedKey),
      ...quicFacts(quicPart),
      ...pipeFacts(part.pipes),
    ],
    next: [
      {
        what: "Next, add an agent; this prints the command that starts it:",
        lines: agentCommand(io, masters[0] && localUrl(masters[0]), admin.from),
      },
      {
        what: "Then visit its server by its name, through the tunnel (-k if its certificate is self-signed):",
        lines: [`curl -k ${new URL(`https://demo.localhost:${visitors[0]?.port ?? 8443}/`)}`],
      },
      ...masters[0] === undefined ? [] : [pageStep(masters[0], admin)],
    ],
  });
}
