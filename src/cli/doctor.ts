/**
 * `doctor`: diagnoses why a name is unreachable.
 *
 * @module
 */
import { diagnose } from "../agent/doctor/diagnose.ts";
import { readStatus, STATUS_SOCKET } from "../agent/status/socket.ts";
import { SETTINGS } from "../config/config.ts";
import { hostPort, port as portValue } from "../config/values.ts";
import { SallyportError } from "../errors.ts";
import { currentRuntime } from "../runtime/mod.ts";
import { canonicalHostname } from "../wire/hostname.ts";
import { addExamples, type CliContext, type Command } from "./command.ts";
import { DataDir } from "./data_dir.ts";

interface DoctorFlags {
  readonly port: string;
  readonly at?: string;
  readonly dataDir?: string;
  readonly json?: boolean;
}

/** Adds the command. */
export function addDoctor(program: Command, context: CliContext): void {
  const { io } = context;
  const command = program.command("doctor").argument("<name>", "the name that visitors ask for")
    .description(
      "Find out why a name isn't reachable, step by step: DNS, port, edge, agent, token, policy, service, endpoint, certificate.\n" +
        "It works on any machine, and reports more where the agent runs.",
    )
    .option("--port <port>", "the edge's port for visitors", "443")
    .option("--at <host:port>", "connect to this address instead of the name's own")
    .option("--data-dir <folder>", "the data folder of an agent on this machine (SALLYPORT_DATA_DIR)")
    .option("--json", "print the steps as JSON");
  addExamples(command, io, [
    { what: "from anywhere", args: "doctor home.example.org" },
    { what: "where the agent runs", args: "doctor home.example.org --data-dir /var/lib/sallyport" },
    { what: "an edge on this machine", args: "doctor home.example.org --at 127.0.0.1:8443" },
  ]);
  command.action(async (given: string, flags: DoctorFlags) => {
    const name = canonicalHostname(given);
    const at = flags.at === undefined ? undefined : read(hostPort(1, "127.0.0.1:8443"), flags.at, "--at");
    const port = at?.port ?? read(portValue, flags.port, "--port");
    const dataDir = flags.dataDir ?? (io.env.SALLYPORT_DATA_DIR || SETTINGS.dataDir.default as string);
    // It isn't a fault if no agent runs on this machine: this may be the edge's machine, or neither.
    const ask = () => readStatus(new DataDir(dataDir).file(STATUS_SOCKET)).catch(() => undefined);
    const findings = await diagnose({
      ...{ runtime: await currentRuntime(), name, port, ask },
      ...at === undefined ? {} : { host: at.host },
    });
    const isSick = findings.some(({ fault }) => fault !== undefined);
    context.exitCode = isSick ? 1 : 0;
    if (flags.json === true) return io.out(JSON.stringify(findings, undefined, 2));
    for (const { step, fault, message, next } of findings) {
      io.out(`${fault === undefined ? "ok  " : "FAIL"}  ${step}: ${message}`);
      if (next !== undefined) io.out(`      ${next}`);
    }
    if (!isSick) io.out(`${name} is in order`);
  });
}

function read<T>(
  schema: {
    safeParse(
      given: string,
    ): { success: boolean; data?: T; error?: { issues: readonly { message: string }[] } };
  },
  given: string,
  flag: string,
): T {
  const result = schema.safeParse(given);
  if (result.success) return result.data as T;
  const message = `Cannot use ${flag}: ${result.error?.issues[0]?.message}`;
  throw new SallyportError("config_invalid", message, { side: "config" });
}
