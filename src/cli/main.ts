/**
 * The command-line interface.
 *
 * @module
 */
import { resolve, sep } from "node:path";
import { errorMessage, SallyportError } from "../errors.ts";
import { VERSION } from "../version.ts";
import {
  addExamples,
  type CliContext,
  Command,
  CommanderError,
  Help,
  HELP_ALL,
  helpConfiguration,
  Option,
  unknownCommand,
} from "./command.ts";
import { type CliIo, commandLine, processIo } from "./io.ts";
import { shellWord } from "./startup.ts";

/**
 * Runs the program.
 *
 * @param argv the arguments after the program's name
 * @returns the exit code: 0 success, 1 failure, 2 wrong usage or configuration
 */
export async function runCli(given: readonly string[], io: CliIo = processIo()): Promise<number> {
  const context: CliContext = { io, exitCode: 0 };
  let argv = given.map((word) => word === HELP_ALL ? "--help" : word);
  if (argv[0] === "help") argv = [...argv.slice(1), "--help"];
  try {
    const [first] = argv;
    const chosen = first === undefined || first.startsWith("-") ? DEFAULT_COMMAND : first;
    if (!COMMANDS.has(chosen)) {
      io.err(unknownCommand(chosen, [...COMMANDS.keys()], io));
      return 2;
    }
    const program = await createProgram(context, chosen, given.includes(HELP_ALL));
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

/** The command of a command line that names none. */
const DEFAULT_COMMAND = "serve";

/** Adds a command, or several that share a module, with their flags. */
type AddCommand = (program: Command, context: CliContext) => void;

/** A command in the program's help. */
interface Listed {
  readonly summary: string;
  /** Whether only `--help-all` lists it. */
  readonly rare?: true;
  /** Loads its module: a process keeps in memory only what its own command needs. */
  readonly load: () => Promise<AddCommand>;
}

const records = async () => (await import("./records.ts")).addRecords;
const masterKeys = async () => (await import("./master_keys.ts")).addMasterKeys;

/** The commands in the program's help, by group, in this order. */
const GROUPS: Readonly<Record<string, Readonly<Record<string, Listed>>>> = {
  "Start here:": {
    demo: {
      summary: "everything at once on this machine, with a small site behind it",
      load: async () => (await import("./demo.ts")).addDemo,
    },
    serve: {
      summary: "an edge and its session master in one process",
      load: async () => (await import("./serve.ts")).addServe,
    },
    agent: {
      summary: "connect servers behind NAT to an edge",
      load: async () => (await import("./agent.ts")).addAgent,
    },
  },
  "Apart from each other:": {
    edge: { summary: "only an edge", load: async () => (await import("./edge.ts")).addEdge },
    master: { summary: "only a session master", load: async () => (await import("./master.ts")).addMaster },
  },
  "Manage a session master:": {
    agents: {
      summary: "its agents: add, import, list, suspend, rotate, remove",
      load: async () => (await import("./agents.ts")).addAgents,
    },
    sessions: { summary: "live sessions: list, kill", load: records },
    usage: { summary: "bytes, streams and time by agent and day", load: records },
    audit: { summary: "its audit log", rare: true, load: records },
    keys: { summary: "its Fernet keys: list, add, retire", load: masterKeys },
    "api-keys": { summary: "keys of its API, with scopes and tenants", rare: true, load: masterKeys },
    webhooks: {
      summary: "its webhooks: add, list, test, remove, log",
      rare: true,
      load: async () => (await import("./webhooks.ts")).addWebhooks,
    },
    backup: { summary: "copy its database while it is in use", rare: true, load: masterKeys },
  },
  "Run it for good:": {
    service: {
      summary: "install as a service of this machine, remove it, show its state",
      load: async () => (await import("./service.ts")).addService,
    },
    doctor: {
      summary: "find out why a name cannot be reached, step by step",
      load: async () => (await import("./doctor.ts")).addDoctor,
    },
    upgrade: {
      summary: "replace running workers by a new version, one by one",
      load: async () => (await import("./upgrade.ts")).addUpgrade,
    },
    health: {
      summary: "check that a running program is ready",
      rare: true,
      load: async () => (await import("./health.ts")).addHealth,
    },
    completion: {
      summary: "completion of commands and flags for bash, zsh and fish",
      load: async () => (await import("./completion.ts")).addCompletion,
    },
  },
  "Keys and tokens:": {
    token: {
      summary: "make a token without a session master",
      rare: true,
      load: async () => (await import("./token.ts")).addToken,
    },
    keygen: {
      summary: "make a Fernet key",
      rare: true,
      load: async () => (await import("./keygen.ts")).addKeygen,
    },
    cert: {
      summary: "make a certificate for `snocat server`",
      rare: true,
      load: async () => (await import("./cert.ts")).addCert,
    },
  },
  "Other protocols:": {
    pipe: {
      summary: "send a file or a pipe to another machine, encrypted",
      rare: true,
      load: async () => (await import("./pipe.ts")).addPipe,
    },
    snocat: {
      summary: "public TCP ports over QUIC, as snocat-cli 0.8 does it",
      rare: true,
      load: async () => (await import("./snocat.ts")).addSnocat,
    },
  },
};
const COMMANDS: ReadonlyMap<string, Listed> = new Map(Object.values(GROUPS).flatMap(Object.entries));
const RARE: ReadonlySet<string> = new Set([...COMMANDS].filter(([, { rare }]) => rare).map(([name]) => name));

/**
 * The program with its chosen command. The others stand in its help, but have no flags; with `completion`, which lists
 * the flags of all, all are there.
 */
async function createProgram(context: CliContext, chosen: string, all: boolean): Promise<Command> {
  const { io } = context;
  const loaded = [...COMMANDS].filter(([name]) => name === chosen || chosen === "completion");
  const program = new Command("sallyport");
  program.description("Visitors reach a server behind NAT by its name, over TLS that only it decrypts.");
  program.version(`sallyport ${VERSION}`, "--version", "print the version");
  program.helpOption("-h, --help", "print this help");
  program.helpCommand(false);
  program.addOption(new Option(HELP_ALL, "print help with rare commands and flags"));
  program.configureHelp({ ...helpConfiguration(all, RARE), ...all ? {} : { formatHelp: shortHelp } });
  program.exitOverride().configureOutput({
    writeOut: (text) => io.out(text.replace(/\n$/, "")),
    writeErr: (text) => io.err(text.replace(/\n$/, "")),
  });
  program.showHelpAfterError("(--help tells more)");
  for (const add of new Set(await Promise.all(loaded.map(([, { load }]) => load())))) add(program, context);
  const added = new Set(program.commands.map((command) => command.name()));
  for (const [group, commands] of Object.entries(GROUPS)) {
    for (const [name, { summary }] of Object.entries(commands)) {
      if (!added.has(name)) program.command(name);
      program.commands.find((command) => command.name() === name)!.helpGroup(group).summary(summary);
    }
  }
  if (all) {
    addExamples(program, io, [
      { what: "an edge and its session master, on ports 8443 and 8080", args: "" },
      { what: "all of it at once, with a small site behind it", args: "demo" },
      { what: "flags of a command", args: "agent --help" },
    ]);
  }
  return program;
}

/** Help of the program that fits 24 lines with a prompt: commands alone, without blank lines between their groups. */
function shortHelp(program: Command, helper: Help): string {
  if (program.parent !== null) return Help.prototype.formatHelp.call(helper, program, helper);
  const groups = helper.groupItems(
    [...program.commands],
    helper.visibleCommands(program),
    (each) => each.helpGroup(),
  );
  const width = helper.padWidth(program, helper);
  const items = (commands: readonly Command[]) =>
    commands.map((each) => helper.formatItem(helper.subcommandTerm(each), width, each.summary(), helper));
  const wrap = (text: string) => helper.boxWrap(text, helper.helpWidth ?? 80);
  return [
    wrap(`Usage: ${program.name()} [COMMAND] [FLAGS]    (without a command: serve)`),
    ...["", wrap(program.description()), ""],
    ...[...groups].flatMap(([group, commands]) => commands.length === 0 ? [] : [group, ...items(commands)]),
    ...["", wrap("COMMAND --help shows its flags and examples; --help-all lists the rare ones too.")],
  ].join("\n") + "\n";
}

/** Advice on a permission that Deno denies: its own error names the flag, but not a working command line. */
function permissionAdvice(error: unknown, argv: readonly string[], io: CliIo): string | undefined {
  const found = /Requires (\w+) access(?: to "?([^"]+?)"?)?, run again with /.exec(errorMessage(error));
  if (found === null) return undefined;
  const [, access = "", named] = found;
  // One line must do: a command that reads a file of its data folder also writes there.
  const folder = dataFolderOf(argv, io);
  const inFolder = named !== undefined && folder !== undefined &&
    `${named}${sep}`.startsWith(`${folder}${sep}`);
  const what = inFolder ? folder : named;
  // The program also reads what it writes.
  const kinds = inFolder || access === "write" ? ["read", "write"] : [access];
  const flags = kinds.map((kind) => shellWord(`--allow-${kind}${what === undefined ? "" : `=${what}`}`));
  const line = commandLine(io, argv.map((word) => shellWord(word)).join(" "));
  return `Deno doesn't permit ${access} access to ${what ?? "that"}. This line permits it: ` +
    line.replace(/^deno run (-\S+)/, `deno run $1 ${flags.join(" ")}`);
}

/** The data folder that the command line or the environment names, as a whole path. */
function dataFolderOf(argv: readonly string[], io: CliIo): string | undefined {
  const at = argv.findIndex((word) => /^--data-dir(=|$)/.test(word));
  const given = at < 0 ? io.env.SALLYPORT_DATA_DIR : argv[at]!.slice("--data-dir=".length) || argv[at + 1];
  return given ? resolve(given) : undefined;
}
