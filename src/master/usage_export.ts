/**
 * Usage as JSON or CSV, sent day by day: many days of thousands of agents together would take much memory, and keep the
 * process from its other work.
 *
 * @module
 */
import type { z } from "@hono/zod-openapi";
import { usageJson, UsageSchema } from "./api/schemas.ts";
import { daysBetween, USAGE_DAYS_MAX } from "./model.ts";
import { Problem } from "./problem.ts";
import type { Store, UsageQuery } from "./store/store.ts";

type UsageFormat = "json" | "csv";

/** The days of a usage query. Throws 422 for invalid days, and for too many. */
export function usageDays(from: string, to: string): readonly string[] {
  const days = daysBetween(from, to);
  if (days !== undefined) return days;
  const refuse = (member: string, detail: string) =>
    new Problem(422, `Cannot list usage: ${member} ${detail}`, { errors: [{ member, detail }] });
  for (const [member, day] of Object.entries({ from, to })) {
    if (daysBetween(day, day) === undefined) throw refuse(member, "must be a day such as 2026-11-27");
  }
  throw refuse("from", from > to ? "is after to" : `is more than ${USAGE_DAYS_MAX} days before to`);
}

/** The body of an answer. Rejects where the store can't answer for the first day; later the stream fails. */
export async function usageBody(
  store: Store,
  days: readonly string[],
  of: Pick<UsageQuery, "tenant" | "agent">,
  format: UsageFormat,
): Promise<ReadableStream<Uint8Array>> {
  const parts = partsOf(store, days, of, format);
  const encoder = new TextEncoder();
  let first: IteratorResult<string> | undefined = await parts.next();
  return new ReadableStream({
    async pull(controller) {
      const { done, value } = first ?? await parts.next();
      first = undefined;
      if (done === true) controller.close();
      else controller.enqueue(encoder.encode(value));
    },
  });
}

async function* partsOf(
  store: Store,
  days: readonly string[],
  of: Pick<UsageQuery, "tenant" | "agent">,
  format: UsageFormat,
): AsyncGenerator<string, undefined> {
  const isCsv = format === "csv";
  let text = isCsv ? csvLine(COLUMNS) : '{"items":[';
  let separator = "";
  for (const day of days) {
    const rows = (await store.usage({ ...of, from: day, to: day })).map(usageJson);
    if (isCsv) text += rows.map((row) => csvLine(COLUMNS.map((column) => row[column]))).join("");
    else if (rows.length > 0) {
      text += separator + rows.map((row) => JSON.stringify(row)).join(",");
      separator = ",";
    }
    if (text !== "") yield text;
    text = "";
  }
  if (!isCsv) yield "]}";
}

const COLUMNS = Object.keys(UsageSchema.shape) as (keyof z.infer<typeof UsageSchema>)[];

/** A line of CSV (RFC 4180). A cell that a spreadsheet would interpret as a formula is prefixed with an apostrophe. */
function csvLine(cells: readonly (string | number)[]): string {
  const texts = cells.map((value) => {
    const text = typeof value === "string" && /^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value);
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  });
  return `${texts.join(",")}\r\n`;
}
