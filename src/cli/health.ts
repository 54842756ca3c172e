/**
 * `health`: checks whether a program running on this machine is ready; for probes without curl.
 *
 * @module
 */
import { errorMessage } from "../errors.ts";
import { addExamples, type CliContext, type Command } from "./command.ts";

/** The response must arrive within this time. */
const HEALTH_TIMEOUT_MS = 5_000;

/** Adds the command. */
export function addHealth(program: Command, context: CliContext): void {
  const { io } = context;
  const command = program.command("health").argument(
    "[url]",
    "address to ask; default: the one in the settings",
  )
    .description("Ask a running serve, edge, master or agent whether it is ready; ends with 0 or 1.");
  addExamples(command, io, [
    { what: "serve or master", args: "health" },
    {
      what: "an edge or an agent with --metrics-listen 127.0.0.1:9090",
      args: "health http://127.0.0.1:9090",
    },
  ]);
  command.action(async (given: string | undefined) => {
    const listen = io.env.SALLYPORT_METRICS_LISTEN || io.env.SALLYPORT_MASTER_LISTEN || "127.0.0.1:8080";
    // Uses the first of several addresses; a wildcard address includes this machine.
    const at = (listen.split(",")[0] ?? "").trim().replace(/^(\[::\]|0\.0\.0\.0):/, "127.0.0.1:");
    try {
      const url = new URL("/readyz", given ?? `http://${at}`);
      const response = await fetch(url, {
        signal: AbortSignal.timeout(HEALTH_TIMEOUT_MS),
        redirect: "error",
      });
      io.out((await response.text()).trim());
      if (!response.ok) context.exitCode = 1;
    } catch (error) {
      io.err(`not ready: ${errorMessage(error)}`);
      context.exitCode = 1;
    }
  });
}
