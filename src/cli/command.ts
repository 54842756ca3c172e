/**
 * Shared by all commands: flags from the table of settings, and help texts.
 *
 * @module
 */
import { Command, CommanderError, Help, Option } from "commander";
import {
  type CommandName,
  loadConfig,
  type LoadedConfig,
  type Setting,
  settingsOf,
} from "../config/config.ts";
import { didYouMean } from "../config/suggest.ts";
import { passedSockets, withSockets } from "./activation.ts";
import { type CliIo, commandLine } from "./io.ts";

export { Command, CommanderError, Help, Option };

/** What a command receives besides its settings. */
export interface CliContext {
  readonly io: CliIo;
  /** The exit code: 0 success, 1 failure, 2 wrong usage or configuration. */
  exitCode: number;
}

/** An example in a help text: what it does, and the arguments after the program's name. */
interface Example {
  readonly what: string;
  readonly args: string;
}

/** Flags that a first setup needs; help without `--help-all` shows these, and those that a command requires. */
const COMMON_FLAGS: ReadonlySet<string> = new Set([
  ...["config", "data-dir", "log-level", "metrics-listen"],
  ...["listen", "agent-listen", "master-listen", "public-address", "fernet-keys-file", "proxy-protocol-from"],
  ...[
    "master",
    "credential-file",
    "join",
    "hostname",
    "alias",
    "to",
    "service",
    "tls",
    "edge",
    "transport",
    "publish",
  ],
  ...["allow", "ttl"],
]);

/** A description with fewer columns than this beside its term is placed below it. */
const DESCRIPTION_COLUMNS_MIN = 40;

/** The flag that shows all flags and commands. */
export const HELP_ALL = "--help-all";

/** Adds the flags of a command's settings. */
export function addSettings(command: Command, name: CommandName): Command {
  let hidden = 0;
  const twins = new Map(settingsOf(name).map(([, { fileOf, flag }]) => [fileOf, flag]));
  for (const [settingName, setting] of settingsOf(name)) {
    if (setting.flag === undefined) continue;
    const option = new Option(
      setting.placeholder === "" ? `--${setting.flag}` : `--${setting.flag} <${setting.placeholder}>`,
      helpOf(setting, name, twins.get(settingName)),
    );
    // A single-value flag given twice is a mistake; otherwise the later value would silently win.
    if (setting.placeholder !== "") {
      option.argParser((text: string, before: string[] | string | undefined) => {
        if (!setting.many && before !== undefined) {
          throw new CommanderError(2, "sallyport.repeated", `error: --${setting.flag} is given twice`);
        }
        return setting.many ? [...(before ?? []), text] : text;
      });
    }
    const choices = choicesOf(setting);
    if (choices !== undefined) option.argChoices = choices;
    if (!COMMON_FLAGS.has(setting.flag) && !setting.required.includes(name)) {
      option.hidden = true;
      hidden++;
    }
    command.addOption(option);
  }
  if (hidden > 0) {
    command.addHelpText(
      "after",
      (context) => showsAll(context.command) ? "" : `\n${HELP_ALL} lists ${hidden} more flags.`,
    );
  }
  const others = settingsOf(name).filter(([, { flag }]) => flag === undefined);
  if (others.length > 0) {
    const names = others.map(([, { env, default: figure }]) => `  ${env} (default: ${figure})`);
    const text = `\nSniTun's queue figures, in bytes, from the environment:\n${names.join("\n")}`;
    command.addHelpText("after", ({ command: of }) => showsAll(of) ? text : "");
  }
  return command;
}

/** Collects the values of an option that may be given several times. */
export function several(value: string, before: readonly string[] = []): string[] {
  return [...before, value];
}

/** Whether a command's help shows everything: {@link HELP_ALL} was given. */
function showsAll(command: Command): boolean {
  return command.configureHelp().visibleOptions === visibleWithHidden;
}

/**
 * The help format of the program and its commands. Without `all` it omits rarely needed flags, and the commands in
 * `rare`.
 */
export function helpConfiguration(all: boolean, rare: ReadonlySet<string>): Partial<Help> {
  return {
    subcommandTerm: (command) => command.name(),
    // It already includes defaults and choices.
    optionDescription: (option) => option.description,
    minWidthToWrap: 20,
    formatItem: (term, termWidth, description, helper) => {
      const width = helper.helpWidth ?? 80;
      const besides = width - termWidth - 4;
      if (description === "" || besides >= DESCRIPTION_COLUMNS_MIN) {
        return Help.prototype.formatItem.call(helper, term, termWidth, description, helper);
      }
      return `  ${term}\n      ${helper.boxWrap(description, width - 6).replaceAll("\n", "\n      ")}`;
    },
    ...all ? { visibleOptions: visibleWithHidden } : {
      visibleCommands: (command) =>
        new Help().visibleCommands(command).filter((each) => !rare.has(each.name())),
    },
  };
}

function visibleWithHidden(command: Command): Option[] {
  for (const option of command.options) option.hidden = false;
  return new Help().visibleOptions(command);
}

/** The choices of a setting with few values, derived from its schema's error message. */
function choicesOf({ schema, many }: Setting): string[] | undefined {
  if (many) return undefined;
  const message = schema.safeParse("?").error?.issues[0]?.message ?? "";
  return / is not one of (.*)$/.exec(message)?.[1]?.split(", ");
}

/** Adds examples to a command's help, as they can be typed here. */
export function addExamples(command: Command, io: CliIo, examples: readonly Example[]): Command {
  const lines = examples.map(({ what, args }) => `  # ${what}\n  ${commandLine(io, args)}`);
  return command.addHelpText("after", `\nExamples:\n${lines.join("\n")}`);
}

/** Determines a command's settings from its flags and the environment, and warns of likely mistakes. */
export function readSettings(command: Command, name: CommandName, io: CliIo): LoadedConfig {
  const loaded = loadConfig(name, { flags: command.opts(), env: io.env });
  for (const warning of loaded.warnings) io.err(`Warning: ${warning}`);
  const sockets = passedSockets(io.env);
  return sockets.length === 0 ? loaded : { ...loaded, config: withSockets(name, loaded.config, sockets) };
}

/** The message for an unknown command. */
export function unknownCommand(word: string, names: readonly string[], io: CliIo): string {
  const start = `error: unknown command ${JSON.stringify(word)}.`;
  const more = `\`${commandLine(io, "--help")}\` shows more.`;
  const near = didYouMean(word, names);
  return near === "" ? `${start} Commands: ${names.join(", ")}; ${more}` : `${start}${near} ${more}`;
}

function helpOf(setting: Setting, name: CommandName, twin: string | undefined): string {
  const { description, default: standard, env, many, required } = setting;
  const notes: string[] = [];
  if (required.includes(name)) notes.push(`required${twin === undefined ? "" : `, or --${twin}`}`);
  if (many) notes.push("several");
  if (standard !== undefined && standard.length > 0) notes.push(`default: ${[standard].flat().join(", ")}`);
  notes.push(env);
  return `${description} (${notes.join("; ")})`;
}
