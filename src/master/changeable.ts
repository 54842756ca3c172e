/**
 * Options that may change while the program runs.
 *
 * @module
 */

/** A value, or a function that returns the current one. */
export type Changeable<T> = T | (() => T);

/** The current value of an option; `T` is no function. */
export function current<T>(option: Changeable<T>): T {
  return typeof option === "function" ? (option as () => T)() : option;
}
