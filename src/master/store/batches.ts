/**
 * Long lists in statements, whose number of parameters SQLite and PostgreSQL limit.
 *
 * @module
 */
import { setImmediate } from "node:timers/promises";

/** Names in one query. */
const NAMES_PER_QUERY = 500;
/** Rows in one insert. */
const ROWS_PER_INSERT = 50;
/** Inserts in a row before the process does other work. */
const BATCHES_PER_TURN = 4;

/** Splits names into lists for one query each. */
export function nameBatches(names: readonly string[]): string[][] {
  const batches: string[][] = [];
  for (let at = 0; at < names.length; at += NAMES_PER_QUERY) {
    batches.push(names.slice(at, at + NAMES_PER_QUERY));
  }
  return batches;
}

/**
 * Splits rows into lists for one insert each. All lists have one of two lengths, so that few statements are prepared.
 * Between some of them the process does its other work, from which SQLite's statements keep it.
 */
export async function* rowBatches<Row>(rows: readonly Row[]): AsyncGenerator<Row[], void> {
  for (let at = 0, batches = 1; at < rows.length; batches++) {
    const count = rows.length - at < ROWS_PER_INSERT ? 1 : ROWS_PER_INSERT;
    yield rows.slice(at, at + count);
    at += count;
    if (batches % BATCHES_PER_TURN === 0) await setImmediate();
  }
}
