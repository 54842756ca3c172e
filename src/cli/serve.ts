/**
 * `serve`: an edge and its session master in one process.
 *
 * @module
 */
import { addExamples, addSettings, type CliContext, type Command, readSettings } from "./command.ts";
import { keyOrigin, Keys } from "./keys.ts";
import { listenerFacts, pipeFacts, startEdge } from "./edge_server.ts";
import { agentCommand, pageStep, startMaster } from "./master_server.ts";
import { createBase, localUrl, publicAddress, warnOfPublicAddress } from "./parts.ts";
import { findQuic, quicFacts, warnOfKeyLog } from "./quic.ts";
import { findSealed, sealedFacts } from "./sealed.ts";
import { hubLink, joinMaster, makeLedger } from "./ledger.ts";
import { databaseFact, openManagement } from "./management.ts";
import { MasterPolicy } from "./master_policy.ts";
import { AdminCredential, reloadKeys } from "./key_reload.ts";
import { printStartup } from "./startup.ts";
import { clusterFacts, clusterNodes, findCluster, joinAsNode } from "./cluster.ts";
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
    const loaded = readSettings(command, "serve", io);
    const { config } = loaded;
    const keys = new Keys(config);
    const [fernet, admin] = [await keys.fernet(), await keys.admin()];
    const sealedKey = await findSealed(keys, config, io);
    const quicPart = await findQuic(keys, config);
    const cluster = await findCluster(keys, config, sealedKey);
    for (const warning of keys.warnings) io.err(`Warning: ${warning}`);
    warnOfPublicAddress(io, loaded, ["listen", "agentListen"]);
    const base = await createBase(config, io);
    const offered = (agents: readonly Address[]) => publicAddress(config, agents);
    const assignment = workerAssignment(io.env);
    if (assignment !== undefined) {
      context.exitCode = await runWorker(base, { assignment, config, cluster, offered }, async (place) => {
        const ledger = makeLedger(base, config, { ...fernet, from: "settings" });
        await joinMaster(base, { ledger, config, ...place.masterLink() });
        return await startEdge(base, fernet.value, loaded, sealedKey, quicPart, ledger, place);
      });
      return;
    }
    context.exitCode = await base.life.run(async () => {
      if (quicPart !== undefined) await warnOfKeyLog(io, base.runtime);
      const policy = new MasterPolicy(config);
      const management = await openManagement(base, config, fernet, policy);
      const adminCredential = new AdminCredential(admin.value);
      reloadKeys(base, loaded, () => readSettings(command, "serve", io), {
        policy,
        fernet: (texts) => management.reloadOwnKeys(texts),
        admin: (key) => adminCredential.replace(key),
      });
      const place = await joinAsNode(base, config, cluster, offered);
      const startOwn = async () => {
        // The master in this process stores the keys.
        const ledger = makeLedger(base, config, { ...fernet, from: "settings" });
        await joinMaster(base, { ledger, config, link: () => hubLink(management.hub) });
        return await startEdge(base, fernet.value, loaded, sealedKey, quicPart, ledger, place);
      };
      const part = config.workers === undefined
        ? await startOwn()
        : await startWorkers(base, config, config.workers, management.hub);
      const { visitors, agents, curve, quic } = part;
      const edgeAddress = publicAddress(config, agents.length > 0 ? agents : visitors);
      const publicKey = sealedKey?.found.value.publicKey;
      const options = {
        ring: fernet.value,
        admin: adminCredential,
        config,
        policy,
        management,
        edgeAddress: {
          ...edgeAddress,
          publicKey,
          curvePort: config.curvePort ?? curve[0]?.port,
          quicPort: config.quicPort ?? quic[0]?.port,
          certificateFingerprint: quicPart?.fingerprint,
        },
        edgeReady: part.ready,
        nodes: place === undefined ? await clusterNodes(base, config.cluster) : () => place.nodes(),
      };
      const masters = await startMaster(base, { ...options, listen: config.masterListen });
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
            what:
              "Then visit its server by its name, through the tunnel (-k if its certificate is self-signed):",
            lines: [`curl -k https://demo.localhost:${visitors[0]?.port ?? 8443}/`],
          },
          ...masters[0] === undefined ? [] : [pageStep(masters[0], admin)],
        ],
      });
    });
  });
}
