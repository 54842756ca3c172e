/**
 * `sessions`, `usage`, `audit`: a session master's current and past records.
 *
 * @module
 */
import { DAY_MS, dayOf } from "../calendar.ts";
import { addExamples, type CliContext, type Command } from "./command.ts";
import { manages, printDone, printEntries } from "./manage.ts";
import { formatBytes } from "../bytes/format_bytes.ts";
import { daysBetween } from "../master/model.ts";

interface SessionAnswer {
  readonly id: string;
  readonly edge: string;
  readonly hostname: string;
  readonly remote_address: string;
  readonly transport: string;
  readonly cipher: string;
  readonly protocol_version: number | null;
  readonly since: string;
  readonly streams: number;
  readonly bytes_to_agent: number;
  readonly bytes_to_visitor: number;
}

interface UsageAnswer {
  readonly day: string;
  readonly name: string;
  readonly agent: string;
  readonly bytes_to_agent: number;
  readonly bytes_to_visitor: number;
  readonly streams: number;
  readonly connected_seconds: number;
}

interface AuditAnswer {
  readonly at: string;
  readonly actor: string;
  readonly action: string;
  readonly subject: string;
  readonly detail: Readonly<Record<string, unknown>>;
}

/** Adds the commands. */
export function addRecords(program: Command, context: CliContext): void {
  const sessions = program.command("sessions").description(
    "List and end the live sessions of a session master's edges.",
  );
  const list = sessions.command("list").description("List live sessions.")
    .option("--agent <agent>", "only this agent, by name or id");
  manages(list, context, async (master, _, { agent }) => {
    const found = await master.list("/v1/sessions", { agent }) as SessionAnswer[];
    printEntries(master, found, [
      ["HOSTNAME", ({ hostname }) => hostname],
      ["FROM", ({ remote_address }) => remote_address],
      [
        "TRANSPORT",
        ({ transport, protocol_version, cipher }) =>
          [transport, protocol_version, cipher].filter((part) => part !== null).join(" "),
      ],
      ["SINCE", ({ since }) => since],
      ["STREAMS", ({ streams }) => streams],
      ["TO AGENT", ({ bytes_to_agent }) => formatBytes(bytes_to_agent)],
      ["TO VISITORS", ({ bytes_to_visitor }) => formatBytes(bytes_to_visitor)],
      ["EDGE", ({ edge }) => edge],
      ["ID", ({ id }) => id],
    ], "There are no sessions.");
  });
  const kill = sessions.command("kill").argument("<session>", "its id").description(
    "End a session. Its agent may reconnect.",
  );
  manages(kill, context, async (master, [id]) => {
    await master.call("DELETE", `/v1/sessions/${encodeURIComponent(id ?? "")}`);
    printDone(master, { id, killed: true }, `Ended ${id}.`);
  });

  const usage = program.command("usage").description(
    "Bytes, streams and connected time by agent and day (UTC).",
  )
    .option("--agent <agent>", "only this agent, by name or id")
    .option("--from <day>", "first day; default: 30 days ago")
    .option("--to <day>", "last day; default: today")
    .option("--csv", "print CSV for spreadsheets");
  manages(usage, context, async (master, _, { agent, from, to, csv }) => {
    const queries = usageQueries({ agent, from, to });
    if (csv === true) {
      for (const [index, query] of queries.entries()) {
        const [heading, ...rows] = (await master.text(`/v1/usage?${query}&format=csv`)).trimEnd().split(
          "\r\n",
        );
        for (const row of index === 0 ? [heading!, ...rows] : rows) master.io.out(row);
      }
      return;
    }
    const answers: { readonly items: readonly UsageAnswer[] }[] = [];
    for (const query of queries) answers.push(await master.call("GET", `/v1/usage?${query}`));
    const items = answers.flatMap((answer) => answer.items);
    printEntries(master, items, [
      ["DAY", ({ day }) => day],
      ["AGENT", ({ name }) => name],
      ["TO AGENT", ({ bytes_to_agent }) => formatBytes(bytes_to_agent)],
      ["TO VISITORS", ({ bytes_to_visitor }) => formatBytes(bytes_to_visitor)],
      ["STREAMS", ({ streams }) => streams],
      ["CONNECTED", ({ connected_seconds }) => `${(connected_seconds / 3600).toFixed(1)} h`],
    ], "There is no usage.");
  });
  addExamples(usage, context.io, [
    { what: "one month, for a bill", args: "usage --from 2026-10-01 --to 2026-10-31 --csv" },
  ]);

  const audit = program.command("audit").description("Print the audit log of a session master, newest first.")
    .option("--subject <id>", "only entries about this agent, key or session")
    .option("--limit <count>", "number of entries", "50");
  manages(audit, context, async (master, _, { subject, limit }) => {
    const found = await master.list("/v1/audit", { subject }, Number(limit) || 50) as AuditAnswer[];
    printEntries(master, found, [
      ["AT", ({ at }) => at],
      ["WHO", ({ actor }) => actor],
      ["WHAT", ({ action }) => action],
      ["TO", ({ subject }) => subject],
      ["DETAIL", ({ detail }) => detail],
    ], "There are no entries.");
  });
}

/**
 * Queries for usage, one for each day: an answer about thousands of agents and many days would be large. Days that make
 * no sense are left to the session master to refuse.
 */
function usageQueries(
  { agent, ...given }: Readonly<Record<"agent" | "from" | "to", string | undefined>>,
): string[] {
  const nowMs = Date.now();
  const query = (days: Readonly<Record<string, string | undefined>>) => {
    const parameters = Object.entries({ ...days, agent }).flatMap(([name, value]) =>
      value === undefined ? [] : [[name, value]]
    );
    return String(new URLSearchParams(parameters));
  };
  const days = daysBetween(given.from ?? dayOf(nowMs - 30 * DAY_MS), given.to ?? dayOf(nowMs));
  return days === undefined ? [query(given)] : days.map((day) => query({ from: day, to: day }));
}
