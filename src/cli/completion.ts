/**
 * `completion`: shell completion of this program's commands, flags and choices.
 *
 * @module
 */
import { addExamples, type CliContext, type Command, CommanderError } from "./command.ts";

const SHELLS = ["bash", "zsh", "fish"] as const;
type Shell = (typeof SHELLS)[number];

/** A flag for completion. */
interface Flag {
  readonly name: string;
  readonly about: string;
  readonly takesValue: boolean;
  /** Its values, if they are few. */
  readonly choices: readonly string[];
}

/** A command with its path, such as `pipe send`; the program itself has an empty one. */
interface Node {
  readonly path: string;
  readonly commands: readonly { readonly name: string; readonly about: string }[];
  readonly flags: readonly Flag[];
}

/** Adds the command. */
export function addCompletion(program: Command, { io }: CliContext): void {
  const command = program.command("completion").argument("<shell>", SHELLS.join(", "))
    .description("Print the script with which bash, zsh or fish completes commands and flags.");
  addExamples(command, io, [
    {
      what: "bash: in ~/.bashrc",
      args: "completion bash > ~/.local/share/bash-completion/completions/sallyport",
    },
    { what: "zsh: in a folder of $fpath", args: "completion zsh > ~/.zfunc/_sallyport" },
    { what: "fish", args: "completion fish > ~/.config/fish/completions/sallyport.fish" },
  ]);
  command.action((shell: string) => {
    if (!SHELLS.includes(shell as Shell)) {
      const why = `error: no completion for ${JSON.stringify(shell)}, only for ${SHELLS.join(", ")}`;
      throw new CommanderError(2, "sallyport.shell", why);
    }
    const nodes = nodesOf(program);
    io.out(shell === "bash" ? forBash(nodes) : shell === "zsh" ? forZsh(nodes) : forFish(nodes));
  });
}

function nodesOf(program: Command): Node[] {
  const nodes: Node[] = [];
  const visit = (command: Command, path: string) => {
    const flags = command.options.filter(({ long }) => long !== undefined).map((option): Flag => ({
      name: option.long as string,
      about: aboutOf(option.description),
      takesValue: option.required || option.optional,
      choices: option.argChoices ?? [],
    }));
    const help: Flag = { name: "--help", about: "print help", takesValue: false, choices: [] };
    const commands = command.commands.map((each) => ({
      name: each.name(),
      about: aboutOf(each.summary() || each.description()),
    }));
    nodes.push({ path, commands, flags: [...flags, help] });
    for (const each of command.commands) visit(each, `${path} ${each.name()}`.trim());
  };
  visit(program, "");
  return nodes;
}

/** The first line without parentheses, short enough for a list. */
function aboutOf(description: string): string {
  const line = (description.split("\n")[0] ?? "").replace(/ \([^)]*\)$/, "");
  return line.length > 70 ? `${line.slice(0, 67)}...` : line;
}

/** The walk that bash and zsh share: the words before the cursor that name commands. */
function walk(nodes: readonly Node[], words: string): string {
  const steps = nodes.flatMap(({ path, commands }) =>
    commands.map(({ name }) => `      "${`${path} ${name}`.trim()}") at="${`${path} ${name}`.trim()}" ;;`)
  );
  return [
    `  local at="" word`,
    `  for word in ${words}; do`,
    `    case "\${at:+$at }$word" in`,
    ...steps,
    `    esac`,
    `  done`,
  ].join("\n");
}

function forBash(nodes: readonly Node[]): string {
  const values = new Map(
    nodes.flatMap(({ flags }) => flags).filter(({ takesValue }) => takesValue)
      .map(({ name, choices }) => [name, choices]),
  );
  const choices = [...values].filter(([, known]) => known.length > 0);
  const free = [...values].filter(([, known]) => known.length === 0).map(([name]) => name);
  return [
    "# bash completion for sallyport",
    "_sallyport() {",
    `  local cur="\${COMP_WORDS[COMP_CWORD]}" prev="\${COMP_WORDS[COMP_CWORD-1]}"`,
    "  COMPREPLY=()",
    `  case "$prev" in`,
    ...choices.map(([name, known]) =>
      `    ${name}) COMPREPLY=($(compgen -W "${known.join(" ")}" -- "$cur")); return ;;`
    ),
    `    ${free.join("|") || "--"}) return ;;`,
    "  esac",
    walk(nodes, `"\${COMP_WORDS[@]:1:COMP_CWORD-1}"`),
    `  case "$at" in`,
    ...nodes.map(({ path, commands, flags }) =>
      `    "${path}") COMPREPLY=($(compgen -W "${
        [...commands, ...flags].map(({ name }) => name).join(" ")
      }" -- "$cur")) ;;`
    ),
    "  esac",
    "}",
    // If nothing of ours matches, such as after --data-dir, bash completes files.
    "complete -o default -F _sallyport sallyport",
  ].join("\n");
}

function forZsh(nodes: readonly Node[]): string {
  const flag = ({ name, about, takesValue, choices }: Flag) => {
    const value = choices.length > 0 ? `:value:(${choices.join(" ")})` : takesValue ? ":value:_files" : "";
    return inZsh(`*${name}[${about.replace(/[\\[\]:]/g, "\\$&")}]${value}`);
  };
  return [
    "#compdef sallyport",
    "_sallyport() {",
    walk(nodes, `"\${(@)words[2,CURRENT-1]}"`),
    // _arguments offers no flags behind a word that it has no place for: the commands are taken away.
    "  local -a named=(${=at}) commands",
    `  words=(sallyport "\${(@)words[$#named+2,-1]}")`,
    "  (( CURRENT -= $#named ))",
    `  case "$at" in`,
    ...nodes.map(({ path, commands, flags }) =>
      [
        `    "${path}")`,
        `      commands=(${commands.map(({ name, about }) => inZsh(`${name}:${about}`)).join(" ")})`,
        `      _arguments ${flags.map(flag).join(" ")} ${
          commands.length > 0 ? "'1: :{_describe command commands}'" : "'*: :_files'"
        } ;;`,
      ].join("\n")
    ),
    "  esac",
    "}",
    `if [ "$funcstack[1]" = "_sallyport" ]; then _sallyport "$@"; else compdef _sallyport sallyport; fi`,
  ].join("\n");
}

/** A word between single quotes, where zsh knows no escapes. */
function inZsh(word: string): string {
  return `'${word.replaceAll("'", "'\\''")}'`;
}

/** A word between single quotes, where fish knows two escapes. */
function inFish(word: string): string {
  return `'${word.replace(/[\\']/g, "\\$&")}'`;
}

function forFish(nodes: readonly Node[]): string {
  const lines = ["# fish completion for sallyport"];
  for (const { path, commands, flags } of nodes) {
    const seen = path.split(" ").map((name) => `__fish_seen_subcommand_from ${name}`).join("; and ");
    const deeper = commands.map(({ name }) => name).join(" ");
    const notDeeper = deeper === "" ? "" : `; and not __fish_seen_subcommand_from ${deeper}`;
    const here = path === "" ? "__fish_use_subcommand" : `${seen}${notDeeper}`;
    for (const { name, about } of commands) {
      lines.push(`complete -c sallyport -f -n '${here}' -a ${name} -d ${inFish(about)}`);
    }
    for (const { name, about, takesValue, choices } of flags) {
      const value = choices.length > 0 ? ` -x -a '${choices.join(" ")}'` : takesValue ? " -r" : "";
      lines.push(`complete -c sallyport -n '${here}' -l ${name.slice(2)}${value} -d ${inFish(about)}`);
    }
  }
  return lines.join("\n");
}
