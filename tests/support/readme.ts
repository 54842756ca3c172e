/**
 * The parts of README.md that are made from the source: tables of settings, metrics, limits and examples. Run as
 * a program (`deno task readme`) it writes them; tests/readme_test.ts keeps them equal.
 *
 * @module
 */
import { readdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { type Setting, SETTINGS } from "../../src/config/config.ts";
import * as limits from "../../src/limits.ts";
import { METRICS } from "../../src/telemetry/metrics.ts";

const ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const README = join(ROOT, "README.md");

/** What README.md says of a limit; its value comes from src/limits.ts. */
const LIMITS: readonly (readonly [name: keyof typeof limits, meaning: string])[] = [
  ["HELLO_DEADLINE_MS", "A connection has shown what it is, a visitor its whole ClientHello; absolute"],
  ["TOKEN_DEADLINE_MS", "An agent's token is complete; absolute"],
  ["CHALLENGE_DEADLINE_MS", "The challenge is answered"],
  ["HELLO_MAX_BYTES", "Largest ClientHello"],
  ["TOKEN_MAX_BYTES", "Largest token"],
  ["NAMES_PER_SESSION_MAX", "Names in one token, its hostname included"],
  ["PENDING_CONNECTIONS_MAX", "Connections at the edge that aren't routed or let in yet"],
  ["PENDING_PER_SOURCE_MAX", "Of those, from one IPv4 address or IPv6 /64"],
  ["STREAMS_PER_SESSION_MAX", "Streams of one session"],
  ["FRAME_MAX_SEND_BYTES", "Largest payload of a frame that is sent"],
  ["FRAME_MAX_RECEIVE_BYTES", "Largest payload of a frame that is accepted"],
  [
    "SESSION_RECEIVE_BUDGET_BYTES",
    "Received bytes that one session holds; beyond it its socket isn't read",
  ],
  [
    "SESSION_SEND_BUDGET_BYTES",
    "Bytes that one session holds to send; beyond it the stream that overflows is reset",
  ],
  ["FLIGHT_MIN_BYTES", "What a session may have on its way, at least; it follows the path"],
  ["FLIGHT_MAX_BYTES", "The same, at most"],
  [
    "PAUSE_OVERRUN_BYTES",
    "What a peer may send on a stream after it has seen a PAUSE; beyond it the stream is closed",
  ],
  ["PAUSE_UNSEEN_BYTES", "The same as long as the peer can't be known to have seen it"],
  ["SESSION_STALL_MS", "A session whose budget stays used up that long loses its fullest stream"],
  ["SESSION_WRITE_STALL_MS", "A session whose peer reads nothing that long, with bytes waiting, is closed"],
  ["PING_INTERVAL_MS", "Between an agent's pings"],
  ["PONG_DEADLINE_MS", "The pong has come"],
  [
    "IDLE_TICK_MS",
    "Sessions and visitors found idle at four such ticks in a row are closed: after 90 to 120 s",
  ],
  [
    "HALF_CLOSE_GRACE_MS",
    "After a visitor's FIN the answer goes on until that long has passed without a byte",
  ],
  ["REPLACED_GRACE_MS", "Streams of a session that was replaced by a newer one may finish"],
  ["SHUTDOWN_GRACE_MS", "Streams may finish at a stop"],
  [
    "TAKEOVERS_PER_MINUTE_MAX",
    "Take-overs of a name by its owner's newer sessions in a minute; then it waits",
  ],
  ["TOKEN_RECHECK_MS", "A session whose token has expired is found and closed"],
  ["TOKEN_RENEW_AT", "The part of a token's life after which the agent changes to a fresh one"],
  ["DEMAND_CONNECTIONS_MAX", "Connections of one public port"],
  ["DEMAND_LEASES_PER_CLIENT_MAX", "Public ports of one client or session"],
  ["DEMAND_OPEN_DEADLINE_MS", "A public connection's stream to the client is open"],
  [
    "QUIC_STREAM_UNREAD_MAX_BYTES",
    "snocat on Bun: received bytes of a stream that nobody has read; beyond it the stream ends",
  ],
  ["QUIC_CARRIER_UNREAD_MAX_BYTES", "The same for all streams of a connection"],
  ["QUIC_LISTENER_UNREAD_MAX_BYTES", "The same for all connections of a listener, and"],
  ["QUIC_CARRIER_UNREAD_CROWDED_BYTES", "for a connection once that is reached"],
  ["DIAL_TIMEOUT_MS", "A connection to an edge or an endpoint stands"],
  ["RECONNECT_MAX_MS", "Longest delay between an agent's attempts, drawn from 0 to a doubling ceiling"],
  ["TOKEN_TTL_DEFAULT_S", "Life of a token that doesn't ask for another"],
  ["TOKEN_TTL_MIN_S", "Shortest life of a token"],
  ["TOKEN_TTL_MAX_S", "Longest life of a token"],
  ["AUTH_FAILURES_PER_MINUTE_MAX", "Wrong keys from one address in a minute, then 429"],
  ["TOKENS_PER_MINUTE_MAX", "Tokens for one key in a minute, then 429"],
  ["MASTER_BODY_MAX_BYTES", "Largest body of a request to the master"],
  ["MASTER_BODY_DEADLINE_MS", "That body is complete"],
];

/** The one example that README.md has in full. */
const SHOWN = "edge_with_own_authorisation.ts";

/** All parts by the name of their marker: `<!-- NAME -->` … `<!-- /NAME -->`. */
export async function readmeParts(): Promise<Map<string, string>> {
  const parts = new Map([
    ["settings", settingsTable(Object.values(SETTINGS).filter((setting) => "flag" in setting))],
    ["queue-settings", queueTable(Object.values(SETTINGS).filter((setting) => !("flag" in setting)))],
    ["metrics", metricsTable()],
    ["limits", limitsTable()],
  ]);
  const examples: string[][] = [];
  for (const name of (await readdir(join(ROOT, "examples"))).sort()) {
    const text = await readFile(join(ROOT, "examples", name), "utf8");
    examples.push([`[examples/${name}](examples/${name})`, leadingComment(text)]);
    if (name === SHOWN) parts.set(`examples/${name}`, `\`\`\`ts\n${text}\`\`\``);
  }
  parts.set("examples", table(["Example", "Shows"], examples));
  return parts;
}

/** The text between a part's markers, without the blank lines around it; undefined where a marker is missing. */
export function partOf(readme: string, name: string): string | undefined {
  const [, behind] = readme.split(`<!-- ${name} -->`);
  const [part, rest] = behind?.split(`<!-- /${name} -->`) ?? [];
  return rest === undefined ? undefined : part?.trim();
}

/** A table as it is compared: how wide its columns are drawn doesn't matter. */
export function plainTable(text: string): string {
  return text.split("\n").map((line) => line.replace(/ *\| */g, "|").replace(/-{3,}/g, "---")).join("\n");
}

/** What a file's first comment says. */
function leadingComment(text: string): string {
  const lines = text.split("\n");
  return lines.slice(0, lines.findIndex((line) => !line.startsWith("//"))).map((line) => line.slice(3)).join(
    " ",
  );
}

function settingsTable(settings: readonly Setting[]): string {
  return table(
    ["Flag, variable, member", "Default", "Commands", "Meaning"],
    settings.map((
      { flag, env, member, placeholder, many, default: standard, description, commands, required },
    ) => [
      `\`--${flag} ${placeholder}\`${many ? " …" : ""}<br>\`${env}\`${
        flag === "config" ? "" : `<br>\`${member}\``
      }`,
      standard === undefined || standard.length === 0 ? "" : `\`${[standard].flat().join(", ")}\``,
      commands.map((command) => required.includes(command) ? `**${command}**` : command).join(", "),
      description,
    ]),
  );
}

function queueTable(settings: readonly Setting[]): string {
  return table(
    ["Variable", "Default", "Meaning"],
    settings.map(({ env, default: standard, description }) => [`\`${env}\``, `\`${standard}\``, description]),
  );
}

function metricsTable(): string {
  return table(
    ["Metric", "Type", "Labels", "Meaning"],
    METRICS.map(({ name, type, labels, help }) => {
      return [`\`${name}\``, type, labels.map((label) => `\`${label}\``).join(", "), help];
    }),
  );
}

function limitsTable(): string {
  return table(
    ["What", "Value", "In `src/limits.ts`"],
    LIMITS.map(([name, meaning]) => [meaning, figure(name), `\`${name}\``]),
  );
}

/** A limit's value with its unit, which its name ends with. */
function figure(name: keyof typeof limits): string {
  const value = limits[name];
  if (typeof value !== "number") throw new Error(`Cannot write README.md: ${name} is no number`);
  if (name.endsWith("_MS")) return value % 1000 === 0 ? seconds(value / 1000) : `${value} ms`;
  if (name.endsWith("_S")) return seconds(value);
  if (!name.endsWith("_BYTES")) return value.toLocaleString("en-US");
  const KiB = 1024;
  return value % (KiB * KiB) === 0 ? `${value / KiB / KiB} MiB` : `${value / KiB} KiB`;
}

function seconds(value: number): string {
  const day = 24 * 3600;
  if (value > day && value % day === 0) return `${value / day} days`;
  return value > 3600 && value % 3600 === 0 ? `${value / 3600} h` : `${value} s`;
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) =>
    `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`;
  return [line(head), line(head.map(() => "---")), ...rows.map(line)].join("\n");
}

if (import.meta.main) {
  let text = await readFile(README, "utf8");
  for (const [name, part] of await readmeParts()) {
    const old = partOf(text, name);
    if (old === undefined) throw new Error(`Cannot write README.md: it has no place for ${name}`);
    const [before] = text.split(`<!-- ${name} -->`);
    const [, after] = text.split(`<!-- /${name} -->`);
    text = `${before}<!-- ${name} -->\n\n${part}\n\n<!-- /${name} -->${after}`;
  }
  await writeFile(README, text);
}
