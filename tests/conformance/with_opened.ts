/**
 * Tests that have something opened for each of them.
 *
 * @module
 */
import { it } from "node:test";

/** Gives a function that registers a test; what the test gets is opened before it, and closed whatever happens. */
export function withOpened<T extends { close(): Promise<void> }>(
  open: () => Promise<T>,
  skip: string | false,
): (title: string, body: (opened: T) => Promise<void>) => void {
  return (title, body) =>
    it(title, { skip, timeout: 60_000 }, async () => {
      const opened = await open();
      try {
        await body(opened);
      } finally {
        await opened.close();
      }
    });
}
