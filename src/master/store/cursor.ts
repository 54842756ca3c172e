/**
 * Cursors: the position after the last entry of a page, as text.
 *
 * @module
 */
import { Buffer } from "node:buffer";

/** The sort keys of a page's last entry. */
type Position = readonly (string | number)[];

/** The cursor of a position. */
export function writeCursor(position: Position): string {
  return Buffer.from(JSON.stringify(position)).toString("base64url");
}

/** A cursor's position with `length` sort keys; undefined for an invalid one, so that a list starts at its beginning. */
export function readCursor(cursor: string | undefined, length: number): Position | undefined {
  const position = cursor === undefined ? undefined : decode(cursor);
  return position?.length === length ? position : undefined;
}

/** Whether a text is a cursor of some list. */
export function isCursor(text: string): boolean {
  return decode(text) !== undefined;
}

function decode(cursor: string): Position | undefined {
  try {
    const position: unknown = JSON.parse(Buffer.from(cursor, "base64url").toString());
    const fits = Array.isArray(position) &&
      position.every((part) => typeof part === "string" || Number.isSafeInteger(part));
    return fits ? position : undefined;
  } catch {
    return undefined;
  }
}
