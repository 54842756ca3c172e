/**
 * Shared by the commands that call a session master's management API: its address, and output.
 *
 * @module
 */
import { MasterClient } from "../agent/master_client.ts";
import type { Config } from "../config/config.ts";
import { SallyportError } from "../errors.ts";
import { addSettings, type CliContext, type Command, readSettings } from "./command.ts";
import { ADMIN_FILE, DataDir } from "./data_dir.ts";
import type { CliIo } from "./io.ts";

/** Largest response that a management command reads: a day's usage of 50,000 agents. */
export const MANAGE_ANSWER_MAX_BYTES = 16 * 1024 * 1024;
/** Default address of a session master on this machine. */
const LOCAL_MASTER = "http://127.0.0.1:8080";

/** A session master whose API a command calls. */
export interface ManagedMaster {
  /** Its base URL. */
  readonly url: string;
  readonly io: CliIo;
  /** Print JSON for scripts. */
  readonly json: boolean;
  /**
   * Calls the API; returns the response's body.
   *
   * @throws SallyportError with the master's message if it refuses
   */
  // deno-lint-ignore no-explicit-any -- the answers are the API's own, described in its OpenAPI document
  call(method: string, path: string, body?: unknown): Promise<any>;
  /** The same for an answer that isn't JSON. */
  text(path: string): Promise<string>;
  /** All entries of a list, page by page, at most `max`. */
  // deno-lint-ignore no-explicit-any -- as above
  list(path: string, query: Readonly<Record<string, string | undefined>>, max?: number): Promise<any[]>;
}

/** Adds the flags for the session master's address, `--json`, and the action. */
export function manages(
  command: Command,
  context: CliContext,
  // deno-lint-ignore no-explicit-any -- commander's own options, as each command declares them
  action: (master: ManagedMaster, args: string[], options: Record<string, any>) => Promise<void>,
): Command {
  addSettings(command, "manage").option("--json", "print JSON, for scripts");
  return command.action(async (...given: unknown[]) => {
    const args = given.filter((arg): arg is string => typeof arg === "string");
    const options = command.opts();
    const { config } = readSettings(command, "manage", context.io);
    await action(await openMaster(config, context.io, options.json === true), args, options);
  });
}

/** The session master of these settings. */
export async function openMaster(config: Config, io: CliIo, json: boolean): Promise<ManagedMaster> {
  const url = config.master ?? LOCAL_MASTER;
  const credential = config.credential ?? await adminKey(config.dataDir);
  const client = new MasterClient({
    master: url,
    credential,
    insecure: config.insecureMaster,
    what: "Cannot get an answer",
    answerMaxBytes: MANAGE_ANSWER_MAX_BYTES,
  });
  const accepted = async (method: string, path: string, body?: unknown) => {
    const answer = await client.call(method, path, body);
    if (answer.status >= 300) throw inOwnWords(client.mistake(answer)) ?? client.refusal(answer);
    return answer;
  };
  const call: ManagedMaster["call"] = async (method, path, body) => (await accepted(method, path, body)).body;
  return {
    ...{ url, io, json, call },
    text: async (path) => (await accepted("GET", path)).text,
    async list(path, query, max = 100_000) {
      const items = [];
      let cursor: string | null | undefined;
      do {
        const page = new URLSearchParams({ limit: String(Math.min(500, max)) });
        for (const [name, value] of Object.entries(query)) if (value !== undefined) page.set(name, value);
        if (cursor) page.set("cursor", cursor);
        const answer = await call("GET", `${path}?${page}`);
        items.push(...answer.items);
        cursor = answer.next;
      } while (cursor && items.length < max);
      return items.slice(0, max);
    },
  };
}

/** The same error with this program's command where the API names one of its paths. */
function inOwnWords(error: SallyportError | undefined): SallyportError | undefined {
  if (error === undefined) return undefined;
  const text = error.message.replace(/GET \/v1\/([a-z-]+) lists them/, "`$1 list` shows them");
  return new SallyportError(error.code, text, { side: error.side });
}

/** The admin key from the data folder, so that it needn't be typed on the session master's machine. */
async function adminKey(dataDir: string): Promise<string> {
  const folder = new DataDir(dataDir);
  const key = (await folder.read(ADMIN_FILE))?.trim();
  if (key !== undefined && key !== "") return key;
  const why =
    `--credential is missing (or --credential-file, or SALLYPORT_CREDENTIAL in the environment), and there is ` +
    `no ${folder.file(ADMIN_FILE)}`;
  throw new SallyportError("config_invalid", `Cannot call session master: ${why}`, { side: "config" });
}

/** A column of a table: its heading, and the cell of an entry. */
export type Column<Entry> = readonly [string, (entry: Entry) => unknown];

/** Prints entries: a table for people, a JSON array for scripts. */
export function printEntries<Entry>(
  { io, json }: Pick<ManagedMaster, "io" | "json">,
  entries: readonly Entry[],
  columns: readonly Column<Entry>[],
  none: string,
): void {
  if (json) return io.out(JSON.stringify(entries, undefined, 2));
  if (entries.length === 0) return io.out(none);
  const rows = [
    columns.map(([heading]) => heading),
    ...entries.map((entry) => columns.map(([, cell]) => cellText(cell(entry)))),
  ];
  // One by one: a call takes fewer arguments than a fleet has days of usage.
  const widths = columns.map((_, column) =>
    rows.reduce((most, row) => Math.max(most, row[column]!.length), 0)
  );
  for (const row of rows) {
    io.out(row.map((text, column) => text.padEnd(widths[column]!)).join("  ").trimEnd());
  }
}

/** Prints one entry: its members one by one for people, JSON for scripts. */
export function printEntry(
  { io, json }: Pick<ManagedMaster, "io" | "json">,
  entry: Record<string, unknown>,
): void {
  if (json) return io.out(JSON.stringify(entry, undefined, 2));
  const width = Math.max(...Object.keys(entry).map((name) => name.length));
  for (const [name, value] of Object.entries(entry)) {
    io.out(`${name.replaceAll("_", " ").padEnd(width)}  ${cellText(value)}`);
  }
}

/** Prints that something is done: `text` for people, `facts` as one line of JSON for scripts. */
export function printDone(
  { io, json }: Pick<ManagedMaster, "io" | "json">,
  facts: Record<string, unknown>,
  text: string,
): void {
  io.out(json ? JSON.stringify(facts) : text);
}

/** A value in a table: nothing in it may control a terminal. */
function cellText(value: unknown): string {
  if (value === null || value === undefined || value === "") return "-";
  const text = Array.isArray(value)
    ? value.length === 0 ? "-" : value.join(", ")
    : typeof value === "object"
    ? Object.entries(value).map(([name, item]) => `${name}=${item}`).join(" ") || "-"
    : String(value);
  // deno-lint-ignore no-control-regex
  return text.replace(/[\x00-\x1f\x7f-\x9f]/g, "�");
}
