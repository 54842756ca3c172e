/**
 * The parts of the documents that are made from the source: tables of settings, metrics, limits and examples. Run as
 * a program (`deno task docs`) it writes them; tests/docs_test.ts fails where they differ.
 *
 * @module
 */
import { readdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { DAY_MS } from "../../src/calendar.ts";
import { type Setting, SETTINGS } from "../../src/config/config.ts";
import { configJsonSchema } from "../../src/config/json_schema.ts";
import { SERVICE_METRICS } from "../../src/agent/services/metrics.ts";
import { METRICS } from "../../src/telemetry/metrics.ts";
import { CURVE_METRICS } from "../../src/transport/curve/metrics.ts";

const ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))));

/** The one example that docs/library.md has in full. */
const SHOWN = "edge_with_own_authorisation.ts";

/** A generated part: the document that holds it, and its text. */
export interface DocumentPart {
  /** Relative to the project. */
  readonly file: string;
  readonly text: string;
}

/** All parts by the name of their marker: `<!-- NAME -->` … `<!-- /NAME -->`. */
export async function documentParts(): Promise<Map<string, DocumentPart>> {
  const settings = Object.values(SETTINGS);
  const configuration = "docs/configuration.md";
  const library = "docs/library.md";
  const parts = new Map<string, DocumentPart>([
    ["settings", {
      file: configuration,
      text: settingsTable(settings.filter((setting) => "flag" in setting)),
    }],
    [
      "queue-settings",
      { file: configuration, text: queueTable(settings.filter((setting) => !("flag" in setting))) },
    ],
    ["metrics", { file: "docs/reference/metrics.md", text: metricsTable() }],
    ["limits", { file: "docs/reference/limits.md", text: await limitsTable() }],
    ["errors", { file: "docs/reference/errors.md", text: await errorsTable() }],
  ]);
  const examples: string[][] = [];
  for (const name of (await readdir(join(ROOT, "examples"))).sort()) {
    const text = await readFile(join(ROOT, "examples", name), "utf8");
    examples.push([`[examples/${name}](../examples/${name})`, leadingComment(text)]);
    if (name === SHOWN) parts.set(`examples/${name}`, { file: library, text: `\`\`\`ts\n${text}\`\`\`` });
  }
  parts.set("examples", { file: library, text: table(["Example", "Shows"], examples) });
  return parts;
}

/** The documents that people read: those of the root folder and of docs/, relative to the project. */
export async function documents(): Promise<string[]> {
  const found: string[] = [];
  for (const entry of await readdir(ROOT)) if (entry.endsWith(".md")) found.push(entry);
  for (const entry of await readdir(join(ROOT, "docs"), { recursive: true })) {
    if (entry.endsWith(".md")) found.push(`docs/${entry.replaceAll("\\", "/")}`);
  }
  return found.sort();
}

/** The text between a part's markers, without the blank lines around it; undefined where a marker is missing. */
export function partOf(document: string, name: string): string | undefined {
  const [, behind] = document.split(`<!-- ${name} -->`);
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
      `\`${`--${flag} ${placeholder}`.trimEnd()}\`${many ? " …" : ""}<br>\`${env}\`${
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
    [...METRICS, ...CURVE_METRICS, ...SERVICE_METRICS].map(({ name, type, labels, help }) => {
      return [`\`${name}\``, type, labels.map((label) => `\`${label}\``).join(", "), help];
    }),
  );
}

/**
 * Every limit: each constant of src whose name ends with a unit or a bound and whose value is arithmetic, with the
 * comment in front of it.
 */
async function limitsTable(): Promise<string> {
  const limit =
    /\/\*\*((?:(?!\*\/)[\s\S])*)\*\/\n(?:export )?const ([A-Z][A-Z_\d]*(?:_MS|_S|_BYTES|_MAX|_LENGTH|_DAYS|_TICKS|_RECORDS)) = ((?:[\d_.*+ ]|DAY_MS)+);/g;
  const rows: string[][] = [];
  for (const entry of await readdir(join(ROOT, "src"), { recursive: true, withFileTypes: true })) {
    if (!entry.isFile() || !entry.name.endsWith(".ts")) continue;
    const path = join(entry.parentPath, entry.name);
    const file = relative(ROOT, path).replaceAll("\\", "/");
    for (const [, comment, name, expression] of (await readFile(path, "utf8")).matchAll(limit)) {
      // A unit, not a limit.
      if (name === "DAY_MS") continue;
      const meaning = comment!.replace(/^\s*\* ?/gm, " ").replace(/\s+/g, " ").trim();
      rows.push([meaning, figure(name!, arithmetic(expression!)), `\`${name}\``, `\`${file}\``]);
    }
  }
  rows.sort((a, b) => (a[3]! + a[2]!).localeCompare(b[3]! + b[2]!, "en"));
  return table(["Meaning", "Value", "Name", "File"], rows);
}

/** Every error code: whose doing it is, and how its messages begin. */
async function errorsTable(): Promise<string> {
  const made = /new SallyportError\(\s*"([a-z_]+)",\s*["`]([^"`$]+)[\s\S]{0,400}?side: "([a-z]+)"/g;
  const codes = new Map<string, { readonly sides: Set<string>; readonly messages: Set<string> }>();
  const source = await readFile(join(ROOT, "src", "errors.ts"), "utf8");
  const [, union = ""] = /export type ErrorCode =([^;]*);/.exec(source) ?? [];
  for (const [, code] of union.matchAll(/"([a-z_]+)"/g)) {
    codes.set(code!, { sides: new Set(), messages: new Set() });
  }
  for (const entry of await readdir(join(ROOT, "src"), { recursive: true, withFileTypes: true })) {
    if (!entry.isFile() || !entry.name.endsWith(".ts")) continue;
    for (
      const [, code, message, side] of (await readFile(join(entry.parentPath, entry.name), "utf8")).matchAll(
        made,
      )
    ) {
      const known = codes.get(code!);
      known?.sides.add(side!);
      known?.messages.add(message!.split(":")[0]!.trim());
    }
  }
  const rows = [...codes].sort((
    [a],
    [b],
  ) => a.localeCompare(b, "en"))
    .map(([code, { sides, messages }]) => [
      `\`${code}\``,
      [...sides].sort().join(", "),
      [...messages].sort((a, b) => a.localeCompare(b, "en")).slice(0, 3).join("; "),
    ]);
  return table(["Code", "Side", "Messages begin with"], rows);
}

/** The value of sums and products of whole numbers and decimals. */
function arithmetic(expression: string): number {
  const number = (text: string) =>
    text.trim() === "DAY_MS" ? DAY_MS : Number(text.trim().replaceAll("_", ""));
  const product = (text: string) => text.split("*").map(number).reduce((a, b) => a * b);
  return expression.split("+").map(product).reduce((a, b) => a + b);
}

/** A limit's value with its unit, which its name ends with. */
function figure(name: string, value: number): string {
  if (name.endsWith("_MS")) return value % 1000 === 0 ? seconds(value / 1000) : `${value} ms`;
  if (name.endsWith("_S")) return seconds(value);
  if (!name.endsWith("_BYTES")) return value.toLocaleString("en-US");
  const KiB = 1024;
  if (value % (KiB * KiB) === 0) return `${value / KiB / KiB} MiB`;
  return value % KiB === 0 ? `${value / KiB} KiB` : `${value.toLocaleString("en-US")} bytes`;
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

/** The JSON Schema of the configuration file, and where it is published. */
export const CONFIG_SCHEMA = { file: "docs/reference/config.schema.json", make: configJsonSchema };

if (import.meta.main) {
  await writeFile(join(ROOT, CONFIG_SCHEMA.file), `${JSON.stringify(CONFIG_SCHEMA.make(), null, 2)}\n`);
  for (const [name, { file, text }] of await documentParts()) {
    const path = join(ROOT, file);
    const document = await readFile(path, "utf8");
    if (partOf(document, name) === undefined) {
      throw new Error(
        `Cannot write ${file}: it has no place for ${name}; add <!-- ${name} --> and <!-- /${name} -->`,
      );
    }
    const [before] = document.split(`<!-- ${name} -->`);
    const [, after] = document.split(`<!-- /${name} -->`);
    await writeFile(path, `${before}<!-- ${name} -->\n\n${text}\n\n<!-- /${name} -->${after}`);
  }
}
