/**
 * `agents`: the agents of a session master.
 *
 * @module
 */
import { SallyportError } from "../errors.ts";
import { LIMIT_NAMES } from "../wire/token/agent_claim.ts";
import { formatJoinLink } from "../wire/token/join_link.ts";
import { importAgents } from "./agents_import.ts";
import { addExamples, type CliContext, type Command, several } from "./command.ts";
import { type Column, type ManagedMaster, manages, printDone, printEntries, printEntry } from "./manage.ts";
import { commandLine } from "./io.ts";
import { shellWord } from "./startup.ts";

interface AgentAnswer {
  readonly id: string;
  readonly name: string;
  readonly state: string;
  readonly enrolled: boolean;
  readonly hostnames: readonly string[];
  readonly [member: string]: unknown;
}

type JoiningAnswer = AgentAnswer & { readonly join_code: string; readonly join_expires_at: string };
type Options = Readonly<Record<string, string | string[] | undefined>>;

type ListedAnswer = AgentAnswer & { readonly sessions: number };

const COLUMNS: readonly Column<ListedAnswer>[] = [
  ["NAME", ({ name }) => name],
  ["STATE", ({ state, enrolled }) => state === "active" && !enrolled ? "not enrolled" : state],
  ["ONLINE", ({ sessions }) => sessions > 1 ? `${sessions} sessions` : sessions === 1 ? "yes" : "no"],
  ["HOSTNAMES", ({ hostnames }) => hostnames],
  ["ID", ({ id }) => id],
];

/** Adds the command. */
export function addAgents(program: Command, context: CliContext): void {
  const { io } = context;
  const agents = program.command("agents").description(
    "Add, show, suspend and remove the agents of a session master; tables for people, --json for scripts.",
  );
  const add = agents.command("add").argument("<name>", "the agent's name").description(
    "Add an agent, and print the command that starts it. Its code can be used once.",
  );
  policyOptions(add).option("--tenant <name>", "the tenant that it belongs to")
    .option("--join-ttl <seconds>", "lifetime of the join code");
  manages(add, context, async (master, [name], options) => {
    const body = { name, ...policyOf(options), tenant: options.tenant, ...joinTtl(options) };
    if (body.hostnames === undefined) throw wrong("--hostname is missing, the name that visitors ask for");
    printJoining(master, await master.call("POST", "/v1/agents", body) as JoiningAnswer);
  });
  addExamples(add, io, [
    {
      what: "on the machine of `serve`, whose admin key is in ./data",
      args: "agents add home --hostname home.example.org",
    },
    {
      what: "from a script on another machine",
      args:
        "agents add home --hostname home.example.org --master https://master.example.org --credential KEY --json",
    },
    {
      what: "with limits",
      args:
        "agents add home --hostname home.example.org --limit streams=200 --limit monthly_bytes=100000000000",
    },
  ]);
  const imported = agents.command("import").argument(
    "<file>",
    "a JSON list, as `agents list --json` prints it",
  )
    .description("Add many agents, and print a line for each with its name and the link for `agent --join`.")
    .option("--join-ttl <seconds>", "lifetime of the join codes");
  manages(imported, context, (master, [file], options) => importAgents(master, file ?? "", joinTtl(options)));
  addExamples(imported, io, [
    {
      what: "hundreds of them, whose links are good for a week",
      args: "agents import fleet.json --join-ttl 604800",
    },
  ]);
  const list = agents.command("list").description("List agents, and whether they are online.")
    .option("--search <text>", "text in the name, a hostname or the notes")
    .option("--state <state>", "active or suspended")
    .option("--tenant <name>", "only agents of this tenant");
  manages(list, context, async (master, _, { search, state, tenant }) => {
    printEntries(
      master,
      await master.list("/v1/agents", { search, state, tenant }),
      COLUMNS,
      "There are no agents.",
    );
  });
  const one = (verb: string, description: string) =>
    agents.command(verb).argument("<agent>", "its name or id").description(description);
  manages(one("show", "Show an agent."), context, async (master, [agent]) => {
    printEntry(master, await master.call("GET", path(agent)));
  });
  manages(
    policyOptions(one("change", "Change an agent. What isn't given stays as it is."))
      .option("--name <name>", "another name"),
    context,
    async (master, [agent], options) => {
      printEntry(
        master,
        await master.call("PATCH", path(agent), { ...policyOf(options), name: options.name }),
      );
    },
  );
  manages(
    one("suspend", "End an agent's sessions on every edge, and refuse it until it is resumed."),
    context,
    (master, [agent]) => changeState(master, agent, "suspend"),
  );
  manages(
    one("resume", "Admit a suspended agent again."),
    context,
    (master, [agent]) => changeState(master, agent, "resume"),
  );
  manages(
    one("rotate", "Revoke an agent's key, and print a new command that starts it.")
      .option("--join-ttl <seconds>", "lifetime of the join code"),
    context,
    async (master, [agent], options) => {
      printJoining(
        master,
        await master.call("POST", `${path(agent)}/rotate`, joinTtl(options)) as JoiningAnswer,
      );
    },
  );
  manages(
    one("remove", "Remove an agent: its sessions end, its hostnames are free."),
    context,
    async (master, [agent]) => {
      const { id, name } = await master.call("GET", path(agent)) as AgentAnswer;
      await master.call("DELETE", path(id));
      printDone(master, { id, name, removed: true }, `Removed ${name}.`);
    },
  );
}

function policyOptions(command: Command): Command {
  return command
    .option(
      "--hostname <name>",
      "a name that visitors ask for, or *.NAME for all below it; repeatable",
      several,
    )
    .option("--alias <name>", "a further name; repeatable", several)
    .option("--publish <tcp[:PORT]>", "a public TCP port that it may open; repeatable", several)
    .option("--limit <name=number>", `a limit: ${LIMIT_NAMES.join(", ")}; several`, several)
    .option("--agent-network <cidr>", "a network from which it may connect; repeatable", several)
    .option("--visitor-network <cidr>", "a network from which visitors are admitted; repeatable", several)
    .option("--group <name>", "agents of one group share hostnames")
    .option("--expires <time>", "no tokens are issued after this time, such as 2027-01-31T00:00:00Z")
    .option("--notes <text>", "notes for people");
}

function policyOf(options: Options) {
  const names = [...options.hostname ?? [], ...options.alias ?? []];
  return {
    hostnames: names.length === 0 ? undefined : names,
    publish: options.publish,
    limits: options.limit === undefined ? undefined : limitsOf(options.limit as string[]),
    agent_networks: options.agentNetwork,
    visitor_networks: options.visitorNetwork,
    group: options.group,
    expires_at: options.expires,
    notes: options.notes,
  };
}

function limitsOf(given: readonly string[]): Record<string, number> {
  return Object.fromEntries(given.map((text) => {
    const [, name = "", figure = ""] = /^([a-z_]+)=(\d{1,15})$/.exec(text) ?? [];
    if (!(LIMIT_NAMES as readonly string[]).includes(name)) {
      throw wrong(`--limit ${JSON.stringify(text)} is not NAME=NUMBER with one of ${LIMIT_NAMES.join(", ")}`);
    }
    return [name, Number(figure)];
  }));
}

function joinTtl({ joinTtl }: Options) {
  if (joinTtl === undefined) return {};
  if (!/^\d{1,9}$/.test(String(joinTtl))) {
    throw wrong(`--join-ttl ${JSON.stringify(joinTtl)} isn't a number of seconds`);
  }
  return { join_ttl_seconds: Number(joinTtl) };
}

async function changeState(
  master: ManagedMaster,
  agent: string | undefined,
  verb: "suspend" | "resume",
): Promise<void> {
  const changed = await master.call("POST", `${path(agent)}/${verb}`) as AgentAnswer;
  if (master.json) master.io.out(JSON.stringify(changed, undefined, 2));
  else master.io.out(`${changed.name} is ${changed.state} now.`);
}

/** Prints the start command for people, or the whole response for scripts. */
function printJoining(master: ManagedMaster, answer: JoiningAnswer): void {
  const { io, json, url } = master;
  const { join_code: code, ...agent } = answer;
  const join = formatJoinLink({ master: url, code });
  if (json) return io.out(JSON.stringify({ ...agent, join }, undefined, 2));
  io.out(
    `Start ${agent.name} with this command, on its own machine. --to is what visitors reach: http://HOST:PORT for a`,
  );
  io.out("server of plain HTTP, HOST:PORT for one that speaks TLS itself. The code can be used once,");
  io.out(`until ${answer.join_expires_at}:\n`);
  io.out(`  ${commandLine(io, `agent --join ${shellWord(join)} --to http://127.0.0.1:3000`)}`);
}

function path(agent: string | undefined): string {
  return `/v1/agents/${encodeURIComponent(agent ?? "")}`;
}

function wrong(why: string): SallyportError {
  return new SallyportError("config_invalid", `Cannot call session master: ${why}`, { side: "config" });
}
