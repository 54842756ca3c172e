/**
 * The command-line interface.
 *
 * @module
 */
import { errorMessage, SallyportError } from "../errors.ts";
import { VERSION } from "../version.ts";
import { addAgent } from "./agent.ts";
import { addAgents } from "./agents.ts";
import {
  addExamples,
  type CliContext,
  Command,
  CommanderError,
  HELP_ALL,
  helpConfiguration,
  Option,
  unknownCommand,
} from "./command.ts";
import { addCompletion } from "./completion.ts";
import { addCert } from "./cert.ts";
import { addDemo } from "./demo.ts";
import { addDoctor } from "./doctor.ts";
import { addEdge } from "./edge.ts";
import { type CliIo, commandLine, processIo } from "./io.ts";
import { addHealth } from "./health.ts";
import { addKeygen } from "./keygen.ts";
import { addMaster } from "./master.ts";
import { addMasterKeys } from "./master_keys.ts";
import { addPipe } from "./pipe.ts";
import { addRecords } from "./records.ts";
import { addServe } from "./serve.ts";
import { addService } from "./service.ts";
import { addSnocat } from "./snocat.ts";
import { shellWord } from "./startup.ts";
import { addToken } from "./token.ts";
import { addUpgrade } from "./upgrade.ts";
import { addWebhooks } from "./webhooks.ts";

/**
 * Runs the program.
 *
 * @param argv the arguments after the program's name
 * @returns the exit code: 0 success, 1 failure, 2 wrong usage or configuration
 */
export async function runCli(given: readonly string[], io: CliIo = processIo()): Promise<number> {
  const context: CliContext = { io, exitCode: 0 };
  const program = createProgram(context, given.includes(HELP_ALL));
  let argv = given.map((word) => word === HELP_ALL ? "--help" : word);
  if (argv[0] === "help") argv = [...argv.slice(1), "--help"];
  try {
    const names = program.commands.map((command) => command.name());
    const [first] = argv;
    if (first !== undefined && !first.startsWith("-") && !names.includes(first)) {
      io.err(unknownCommand(first, names, io));
      return 2;
    }
    await program.parseAsync(argv, { from: "user" });
    return context.exitCode;
  } catch (error) {
    if (error instanceof CommanderError) {
      // Commander has already printed its own messages; ours are in the error.
      if (error.code.startsWith("sallyport.")) io.err(error.message);
      return error.exitCode === 0 ? 0 : 2;
    }
    const denied = permissionAdvice(error, argv, io);
    io.err(`error: ${denied ?? errorMessage(error)}`);
    if (denied !== undefined) return 2;
    const wrongSettings = error instanceof SallyportError && error.code === "config_invalid";
    if (!(error instanceof SallyportError) && error instanceof Error) io.err(error.stack ?? "");
    return wrongSettings ? 2 : 1;
  } finally {
    await io.flushed?.();
  }
}

/** The commands in the program's help, in this order: group and short summary. */
const LISTED: Readonly<Record<string, readonly [group: string, summary: string]>> = {
  demo: ["Start here:", "everything at once on this machine, with a small site behind it"],
  serve: ["Start here:", "an edge and its session master in one process"],
  agent: ["Start here:", "connect servers behind NAT to an edge"],
  edge: ["Apart from each other:", "only an edge"],
  master: ["Apart from each other:", "only a session master"],
  agents: ["Manage a session master:", "its agents: add, list, suspend, rotate, remove"],
  sessions: ["Manage a session master:", "live sessions: list, kill"],
  usage: ["Manage a session master:", "bytes, streams and time by agent and day"],
  audit: ["Manage a session master:", "its audit log"],
  keys: ["Manage a session master:", "its Fernet keys: list, add, retire"],
  "api-keys": ["Manage a session master:", "keys of its API, with scopes and tenants"],
  webhooks: ["Manage a session master:", "its webhooks: add, list, test, remove, log"],
  backup: ["Manage a session master:", "copy its database while it is in use"],
  service: ["Run it for good:", "install as a service of this machine, remove it, show its state"],
  doctor: ["Run it for good:", "find out why a name cannot be reached, step by step"],
  upgrade: ["Run it for good:", "replace running workers by a new version, one by one"],
  health: ["Run it for good:", "check that a running program is ready"],
  completion: ["Run it for good:", "completion of commands and flags for bash, zsh and fish"],
  token: ["Keys and tokens:", "make a token without a session master"],
  keygen: ["Keys and tokens:", "make a Fernet key"],
  cert: ["Keys and tokens:", "make a certificate for `snocat server`"],
  pipe: ["Other protocols:", "send a file or a pipe to another machine, encrypted"],
  snocat: ["Other protocols:", "public TCP ports over QUIC, as snocat-cli 0.8 does it"],
};
/** Commands listed only by `--help-all`. */
const RARE: ReadonlySet<string> = new Set([
  "cert",
  "pipe",
  "snocat",
  "audit",
  "api-keys",
  "webhooks",
  "backup",
]);

function createProgram(context: CliContext, all: boolean): Command {
  const { io } = context;
  const program = new Command("sallyport");
  program.description(
    "A tunnel edge that speaks SniTun: visitors reach a server behind NAT by its " +
      "name, over TLS that only that server decrypts. Without a command: serve.",
  );
  program.version(`sallyport ${VERSION}`, "--version", "print the version");
  program.helpOption("-h, --help", "print this help");
  program.helpCommand(false);
  program.addOption(new Option(HELP_ALL, "print help with rare commands and flags"));
  program.configureHelp(helpConfiguration(all, RARE));
  program.exitOverride().configureOutput({
    writeOut: (text) => io.out(text.replace(/\n$/, "")),
    writeErr: (text) => io.err(text.replace(/\n$/, "")),
  });
  program.showHelpAfterError("(--help shows more)");
  for (
    const add of [
      addDemo,
      addServe,
      addAgent,
      addDoctor,
      addEdge,
      addMaster,
      addAgents,
      addRecords,
      addMasterKeys,
      addWebhooks,
      addService,
      addHealth,
      addUpgrade,
      addCompletion,
      addToken,
      addKeygen,
      addPipe,
      addSnocat,
      addCert,
    ]
  ) {
    add(program, context);
  }
  for (const command of program.commands) {
    const [group, summary] = LISTED[command.name()] ?? ["More:", command.description().split("\n")[0] ?? ""];
    command.helpGroup(group).summary(summary);
  }
  addExamples(program, io, [
    { what: "an edge and its session master, on ports 8443 and 8080", args: "" },
    { what: "all of it at once, with a small site behind it", args: "demo" },
    { what: "flags of a command", args: "agent --help" },
  ]);
  return program;
}

/** Advice on a permission that Deno denies: its own error names the flag, but not a working command line. */
function permissionAdvice(error: unknown, argv: readonly string[], io: CliIo): string | undefined {
  const found = /Requires (\w+) access(?: to "?([^"]+?)"?)?, run again with /.exec(errorMessage(error));
  if (found === null) return undefined;
  const [, access = "", what] = found;
  // The program also reads what it writes.
  const kinds = access === "write" ? ["read", "write"] : [access];
  const flags = kinds.map((kind) => shellWord(`--allow-${kind}${what === undefined ? "" : `=${what}`}`));
  const line = commandLine(io, argv.map(shellWord).join(" "));
  return `Deno doesn't permit ${access} access to ${what ?? "that"}. This line permits it: ` +
    line.replace(/^deno run (-\S+)/, `deno run $1 ${flags.join(" ")}`);
}
