/**
 * How something ended, as one value to compare: no test has to look into a `catch`.
 *
 * @module
 */
import { errorCode } from "../../src/errors.ts";

/** The code of what `run` throws; "none" where it returns. */
export function codeOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    return errorCode(error);
  }
  return "none";
}
