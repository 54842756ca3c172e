/**
 * `master`: a session master without an edge.
 *
 * @module
 */
import { addExamples, addSettings, type CliContext, type Command, readSettings } from "./command.ts";
import { clusterNodes } from "./cluster.ts";
import { keyOrigin, Keys } from "./keys.ts";
import { agentCommand, pageStep, startMaster } from "./master_server.ts";
import { createBase, localUrl, publicAddress, warnOfPublicAddress } from "./parts.ts";
import { databaseFact, openManagement } from "./management.ts";
import { MasterPolicy } from "./master_policy.ts";
import { AdminCredential, reloadKeys } from "./key_reload.ts";
import { printStartup } from "./startup.ts";
import { formatHostPort } from "../wire/ip/host_port.ts";

/** Adds the command. */
export function addMaster(program: Command, context: CliContext): void {
  const { io } = context;
  const command = program.command("master").description(
    "Run only a session master. Its edges must have the same Fernet keys.",
  );
  addSettings(command, "master");
  addExamples(command, io, [
    { what: "for an edge on another machine", args: "master --public-address edge.example.org:8443" },
    { what: "for the edges of a cluster", args: "master --cluster redis://10.0.0.2:6379" },
  ]);
  command.action(async () => {
    const loaded = readSettings(command, "master", io);
    const { config } = loaded;
    const keys = new Keys(config);
    const [fernet, admin] = [await keys.fernet(), await keys.admin()];
    for (const warning of keys.warnings) io.err(`Warning: ${warning}`);
    warnOfPublicAddress(io, loaded, ["masterListen"]);
    const base = await createBase(config, io);
    context.exitCode = await base.life.run(async () => {
      const edgeAddress = publicAddress(config, []);
      const named = {
        ...edgeAddress,
        publicKey: config.edgePublicKey,
        curvePort: config.curvePort,
        quicPort: config.quicPort,
        certificateFingerprint: config.edgeCertificateFingerprint,
      };
      const policy = new MasterPolicy(config);
      const management = await openManagement(base, config, fernet, policy);
      const adminCredential = new AdminCredential(admin.value);
      reloadKeys(base, loaded, () => readSettings(command, "master", io), {
        policy,
        fernet: (texts) => management.reloadOwnKeys(texts),
        admin: (key) => adminCredential.replace(key),
      });
      const options = {
        ring: fernet.value,
        admin: adminCredential,
        edgeAddress: named,
        config,
        policy,
        management,
        nodes: await clusterNodes(base, config.cluster),
      };
      const masters = await startMaster(base, { ...options, listen: config.masterListen });
      printStartup(io, {
        runtime: base.runtime,
        facts: [
          ["session master", masters.map(localUrl).join(", ")],
          ["tokens name the edge", formatHostPort(edgeAddress)],
          ["Fernet keys", keyOrigin(fernet)],
          ["admin key", keyOrigin(admin)],
          databaseFact(config),
        ],
        next: [
          {
            what:
              "Next, once an edge has these Fernet keys, add an agent; this prints the command that starts it:",
            lines: agentCommand(io, masters[0] && localUrl(masters[0]), admin.from),
          },
          ...masters[0] === undefined ? [] : [pageStep(masters[0], admin)],
        ],
      });
    });
  });
}
