/**
 * `doctor`: diagnoses why a name is unreachable.
 *
 * @module
 */
import { diagnose, type Finding, type NameRecord } from "../agent/doctor/diagnose.ts";
import type { StatusReport } from "../agent/status/report.ts";
import { readStatus, STATUS_SOCKET } from "../agent/status/socket.ts";
import type { Config } from "../config/config.ts";
import { hostPort, port as portValue } from "../config/values.ts";
import { SallyportError } from "../errors.ts";
import { currentRuntime } from "../runtime/mod.ts";
import { canonicalHostname } from "../wire/hostname.ts";
import { addExamples, addSettings, type CliContext, type Command, readSettings } from "./command.ts";
import { ADMIN_FILE, DataDir } from "./data_dir.ts";
import type { CliIo } from "./io.ts";
import { openMaster } from "./manage.ts";

interface DoctorFlags {
  readonly port: string;
  readonly at?: string;
  readonly json?: boolean;
}

/** Adds the command. */
export function addDoctor(program: Command, context: CliContext): void {
  const { io } = context;
  const command = program.command("doctor").argument("<name>", "the name that visitors ask for")
    .description(
      "Find out why a name isn't reachable, step by step: DNS, port, edge, agent, token, policy, service, endpoint, certificate.\n" +
        "It works on any machine, and reports more where the agent or the session master runs.",
    )
    .option("--port <port>", "the edge's port for visitors", "443")
    .option("--at <host:port>", "connect to this address instead of the name's own")
    .option("--json", "print the steps as JSON");
  addSettings(command, "manage");
  addExamples(command, io, [
    { what: "from anywhere", args: "doctor home.example.org" },
    {
      what: "on the machine of the agent or of the session master",
      args: "doctor home.example.org --data-dir /var/lib/sallyport",
    },
    { what: "an edge on this machine", args: "doctor home.example.org --at 127.0.0.1:8443" },
  ]);
  command.action(async (given: string, flags: DoctorFlags) => {
    const name = canonicalHostname(given);
    const at = flags.at === undefined ? undefined : read(hostPort(1, "127.0.0.1:8443"), flags.at, "--at");
    const port = at?.port ?? read(portValue, flags.port, "--port");
    const { config } = readSettings(command, "manage", io);
    const data = new DataDir(config.dataDir);
    // It isn't a fault if no agent runs on this machine: this may be the edge's side, or neither.
    const ask = () => readStatus(data.file(STATUS_SOCKET)).catch(() => undefined);
    const askMaster = await masterOf(config, data, name, io);
    const findings = [
      await side(ask, askMaster),
      ...await diagnose({
        ...{ runtime: await currentRuntime(), name, port, ask, askMaster },
        ...at === undefined ? {} : { host: at.host },
      }),
    ];
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

type AskMaster = () => Promise<NameRecord | undefined>;

/** How to query the session master: with the key of the settings, or with that of its own machine. */
async function masterOf(config: Config, data: DataDir, name: string, io: CliIo): Promise<AskMaster> {
  const isKnown = config.credential !== undefined ||
    await data.read(ADMIN_FILE).catch(() => {}) !== undefined;
  if (!isKnown) return () => Promise.resolve(undefined);
  const master = await openMaster(config, io, true);
  return async () => {
    try {
      return await master.call("GET", `/v1/names/${name}`) as NameRecord;
    } catch (error) {
      // One that was named has to answer; one of this machine may not run.
      if (config.master !== undefined) throw error;
      return undefined;
    }
  };
}

/** Where this machine stands. */
async function side(ask: () => Promise<StatusReport | undefined>, askMaster: AskMaster): Promise<Finding> {
  const report = await ask();
  const message = report !== undefined
    ? `the agent's: process ${report.pid} answers`
    : await askMaster() !== undefined
    ? "the edge's: its session master answers"
    : "neither the agent's nor the edge's: both can say more, each with its --data-dir";
  return { step: "side", message };
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
