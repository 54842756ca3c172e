/**
 * `agent status`, and the socket of the running agent that answers it.
 *
 * @module
 */
import { readStatus, serveStatus, STATUS_SOCKET } from "../agent/status/socket.ts";
import type { StatusReport } from "../agent/status/report.ts";
import { statusText } from "../agent/status/text.ts";
import type { ServiceTable } from "../agent/services/table.ts";
import { loadConfig } from "../config/config.ts";
import { errorCode, errorMessage, SallyportError } from "../errors.ts";
import { addExamples, type CliContext, type Command } from "./command.ts";
import { DataDir } from "./data_dir.ts";
import { commandLine } from "./io.ts";
import type { Base } from "./parts.ts";

/**
 * Opens the socket for `agent status` and `doctor`; an agent without it still serves.
 *
 * @throws SallyportError `config_invalid` if an agent with the same data folder already serves one of the names: they
 * would keep replacing each other at the edge
 */
export async function openStatusSocket(
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

/** Adds the command. */
export function addStatus(agent: Command, context: CliContext): void {
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
