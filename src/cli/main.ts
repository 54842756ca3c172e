/**
 * The command line.
 *
 * @module
 */
import { errorMessage, SallyportError } from "../errors.ts";
import { VERSION } from "../version.ts";
import { addAgent } from "./agent.ts";
import { addAgents } from "./agents.ts";
import { addExamples, type CliContext, Command, CommanderError, unknownCommand } from "./command.ts";
import { addCert } from "./cert.ts";
import { addDemo } from "./demo.ts";
import { addEdge } from "./edge.ts";
import { type CliIo, commandLine, flushed, processIo } from "./io.ts";
import { addKeygen } from "./keygen.ts";
import { addMaster } from "./master.ts";
import { addMasterKeys } from "./master_keys.ts";
import { addPipe } from "./pipe.ts";
import { addRecords } from "./records.ts";
import { addServe } from "./serve.ts";
import { addSnocat } from "./snocat.ts";
import { shellWord } from "./startup.ts";
import { addToken } from "./token.ts";

/**
 * Runs the program.
 *
 * @param argv the arguments behind the program's name
 * @returns the exit code: 0 fine, 1 failed, 2 wrong usage or configuration
 */
export async function runCli(argv: readonly string[], io: CliIo = processIo()): Promise<number> {
  const context: CliContext = { io, exitCode: 0 };
  const program = createProgram(context);
  try {
    const names = program.commands.map((command) => command.name());
    const [first] = argv;
    if (first !== undefined && !first.startsWith("-") && first !== "help" && !names.includes(first)) {
      io.err(unknownCommand(first, names, io));
      return 2;
    }
    await program.parseAsync(argv, { from: "user" });
    return context.exitCode;
  } catch (error) {
    if (error instanceof CommanderError) {
      // Its own messages are out already; those that are ours come with the error.
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
    await flushed();
  }
}

function createProgram(context: CliContext): Command {
  const { io } = context;
  const program = new Command("sallyport");
  program.description(
    "Sallyport: a tunnel edge that speaks SniTun. Visitors reach a server behind NAT by its name,\n" +
      "over TLS that only that server decrypts. Without a command: serve.",
  );
  program.version(`sallyport ${VERSION}`, "--version", "print the version");
  program.helpOption("-h, --help", "print this help");
  program.exitOverride().configureOutput({
    writeOut: (text) => io.out(text.replace(/\n$/, "")),
    writeErr: (text) => io.err(text.replace(/\n$/, "")),
  });
  program.showHelpAfterError("(--help tells more)");
  for (
    const add of [
      addServe,
      addEdge,
      addMaster,
      addAgent,
      addAgents,
      addRecords,
      addMasterKeys,
      addToken,
      addKeygen,
      addPipe,
      addSnocat,
      addCert,
      addDemo,
    ]
  ) {
    add(program, context);
  }
  addExamples(program, io, [
    { what: "an edge and its session master, on ports 8443 and 8080", args: "" },
    { what: "all of it at once, with a small site behind it", args: "demo" },
    { what: "what a command takes", args: "agent --help" },
  ]);
  return program;
}

/** What to do about a permission that Deno denies: its own error names the flag, but not the line that works. */
function permissionAdvice(error: unknown, argv: readonly string[], io: CliIo): string | undefined {
  const found = /Requires (\w+) access(?: to "?([^"]+?)"?)?, run again with /.exec(errorMessage(error));
  if (found === null) return undefined;
  const [, access = "", what] = found;
  // What the program writes it also reads.
  const kinds = access === "write" ? ["read", "write"] : [access];
  const flags = kinds.map((kind) => shellWord(`--allow-${kind}${what === undefined ? "" : `=${what}`}`));
  const line = commandLine(io, argv.map(shellWord).join(" "));
  return `Deno doesn't permit ${access} access to ${what ?? "that"}. This line permits it: ` +
    line.replace(/^deno run (-\S+)/, `deno run $1 ${flags.join(" ")}`);
}
