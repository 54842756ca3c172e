/**
 * Long lists in statements, whose number of parameters SQLite and PostgreSQL limit.
 *
 * @module
 */

/** Names in one query. */
const NAMES_PER_QUERY = 500;
/** Rows in one insert. */
const ROWS_PER_INSERT = 50;

/** Splits names into lists for one query each. */
export function nameBatches(names: readonly string[]): string[][] {
  const batches: string[][] = [];
  for (let at = 0; at < names.length; at += NAMES_PER_QUERY) {
    batches.push(names.slice(at, at + NAMES_PER_QUERY));
  }
  return batches;
}

/** Splits rows into lists for one insert each. All lists have one of two lengths, so that few statements are prepared. */
export function rowBatches<Row>(rows: readonly Row[]): Row[][] {
  const batches: Row[][] = [];
  for (let at = 0; at < rows.length; at += batches.at(-1)!.length) {
    batches.push(rows.slice(at, at + (rows.length - at < ROWS_PER_INSERT ? 1 : ROWS_PER_INSERT)));
  }
  return batches;
}
