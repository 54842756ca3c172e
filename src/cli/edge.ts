/**
 * `edge`: an edge without a session master.
 *
 * @module
 */
import { addExamples, addSettings, type CliContext, type Command, readSettings } from "./command.ts";
import { commandLine } from "./io.ts";
import { keyOrigin, Keys } from "./keys.ts";
import { joinMaster, makeLedger, masterLink } from "./ledger.ts";
import { listenerFacts, pipeFacts, startEdge } from "./edge_server.ts";
import { createBase, startStatus, statusFacts } from "./parts.ts";
import { findQuic, quicFacts, warnOfKeyLog } from "./quic.ts";
import { findSealed, sealedFacts } from "./sealed.ts";
import { reloadKeys } from "./key_reload.ts";
import { printStartup } from "./startup.ts";
import { clusterFacts, type ClusterPlace, findCluster, joinAsNode } from "./cluster.ts";
import { runWorker, startWorkers, workerAssignment, WorkerPlace } from "./workers.ts";

/** Adds the command. */
export function addEdge(program: Command, context: CliContext): void {
  const { io } = context;
  const command = program.command("edge").description(
    "Run only an edge. Its Fernet keys must be those of the session master.",
  );
  addSettings(command, "edge");
  addExamples(command, io, [
    { what: "with the master's keys", args: "edge --fernet-keys-file /etc/sallyport/fernet.keys" },
    {
      what: "with a port for agents by the sealed transport",
      args: "edge --fernet-keys-file /etc/sallyport/fernet.keys --sealed-listen 0.0.0.0:8445",
    },
    {
      what: "joined to the master: it learns of suspended agents and new keys, and reports usage",
      args: "edge --fernet-keys-file /etc/sallyport/fernet.keys --master https://master.example.org",
    },
    {
      what: "as one of several machines, which know each other by cluster.key of the data folder",
      args: "edge --fernet-keys-file /etc/sallyport/fernet.keys --cluster redis://10.0.0.2:6379",
    },
    { what: "on IPv4 only", args: "edge --listen 0.0.0.0:8443" },
    { what: "with metrics for this machine", args: "edge --metrics-listen 127.0.0.1:9090" },
  ]);
  command.action(async () => {
    const loaded = readSettings(command, "edge", io);
    const { config } = loaded;
    const keys = new Keys(config);
    const fernet = await keys.fernet();
    const sealedKey = await findSealed(keys, config, io);
    const quicPart = await findQuic(keys, config);
    const cluster = await findCluster(keys, config, sealedKey);
    for (const warning of keys.warnings) io.err(`Warning: ${warning}`);
    const base = await createBase(config, io);
    // Without a configured address, agents reach it only by the address configured at the master, if any.
    const offered = () => config.publicAddress;
    const startOwn = async (place?: WorkerPlace | ClusterPlace) => {
      const ledger = makeLedger(base, config, fernet);
      reloadKeys(base, loaded, () => readSettings(command, "edge", io), {
        // Keys sent by a session master are newer than the file's.
        fernet: (texts) => config.master === undefined ? fernet.value.replace(texts) : undefined,
      });
      const name = config.master === undefined ? undefined : await joinMaster(base, {
        ...{ ledger, config },
        ...place instanceof WorkerPlace ? { worker: place.name } : {},
        link: masterLink(base, config, config.master, fernet),
      });
      const edge = { ring: fernet.value, loaded, sealedKey, quicPart, ledger, place };
      return { name, ...await startEdge(base, edge) };
    };
    const assignment = workerAssignment(io.env);
    if (assignment !== undefined) {
      context.exitCode = await runWorker(base, { assignment, config, cluster, offered }, startOwn);
      return;
    }
    context.exitCode = await base.life.run(async () => {
      if (quicPart !== undefined) await warnOfKeyLog(io, base.runtime);
      const place = await joinAsNode(base, config, cluster, offered);
      const { name, ...part } = config.workers === undefined
        ? await startOwn(place)
        : { name: undefined, ...await startWorkers(base, config, config.workers) };
      const status = await startStatus(base, config.metricsListen, () => ({
        edge: part.ready(),
        keys: fernet.value.size > 0,
      }));
      printStartup(io, {
        runtime: base.runtime,
        facts: [
          ...listenerFacts(part, config),
          ...statusFacts(status),
          ["Fernet keys", keyOrigin(fernet)],
          ...name === undefined
            ? []
            : [["session master", `${config.master}, which knows this edge as ${name}`] as const],
          ...clusterFacts(cluster, place?.membership),
          ...sealedFacts(sealedKey),
          ...quicFacts(quicPart),
          ...pipeFacts(part.pipes),
        ],
        next: fernet.made
          ? {
            what: "The Fernet key is new. Next, give the session master the same one:",
            lines: [commandLine(io, `master --fernet-keys-file ${fernet.from}`)],
          }
          : undefined,
      });
    });
  });
}
