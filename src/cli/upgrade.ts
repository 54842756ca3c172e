/**
 * `upgrade`: makes a running serve or edge replace its workers with processes of the currently installed version.
 *
 * @module
 */
import type { UpgradeProgress } from "../cluster/supervisor.ts";
import { requestUpgrade, UPGRADE_SOCKET } from "../cluster/upgrade_socket.ts";
import { loadConfig } from "../config/config.ts";
import { errorCode, errorMessage } from "../errors.ts";
import { currentRuntime } from "../runtime/mod.ts";
import { addExamples, type CliContext, type Command } from "./command.ts";
import { DataDir } from "./data_dir.ts";

/** Adds the command. */
export function addUpgrade(program: Command, context: CliContext): void {
  const { io } = context;
  const command = program.command("upgrade")
    .option("--data-dir <FOLDER>", "the data folder of the edge (default: ./data)")
    .option("--wait", "also wait until the old workers' last streams have ended")
    .description(
      "Replace the workers of the serve or edge that runs with this data folder, one by one, by the version that is " +
        "installed now. No visitor is refused, and streams continue for --drain-timeout.\n" +
        "Ends with 0 when the new workers serve, with 1 when one did not start (the old ones continue), and with 2 when " +
        "no such process runs.",
    );
  addExamples(command, io, [
    { what: "after a new version has been installed", args: "upgrade" },
    { what: "in a script, machine after machine", args: "upgrade --data-dir /var/lib/sallyport --wait" },
  ]);
  command.action(
    async ({ dataDir, wait = false }: { readonly dataDir?: string; readonly wait?: boolean }) => {
      const { config } = loadConfig("serve", { flags: { dataDir }, env: io.env, partial: true });
      const path = new DataDir(config.dataDir).file(UPGRADE_SOCKET);
      const hear = (progress: UpgradeProgress) => io.out(progressText(progress));
      try {
        const last = await requestUpgrade({ runtime: await currentRuntime(), path, wait, hear });
        if (last.kind === "failed") context.exitCode = 1;
      } catch (error) {
        io.err(errorMessage(error));
        context.exitCode = errorCode(error) === "connection_refused" ? 2 : 1;
      }
    },
  );
}

function progressText(progress: UpgradeProgress): string {
  switch (progress.kind) {
    case "begun":
      return `replacing ${progress.workers === 1 ? "1 worker" : `${progress.workers} workers`}`;
    case "serves": {
      const { worker, before, now } = progress;
      return `worker ${worker} serves (${before === now ? now : `${before} -> ${now}`})`;
    }
    case "done":
      return "the new workers serve; the old ones let their streams finish";
    case "ended":
      return "the old workers have ended";
    case "failed":
      return `Cannot upgrade: ${progress.reason}; the old workers go on`;
  }
}
