/**
 * What Bun reads from the environment before it runs a program, so the program can only set it for a process that it
 * starts.
 *
 * @module
 */

/**
 * JavaScriptCore's third compiler comes ten times later. Otherwise it takes a second of processor time in the first
 * 50,000 visitors, who wait for the processor: docs/benchmarks.md, "Pauses".
 */
export const BUN_ENVIRONMENT: Readonly<Record<string, string>> = {
  BUN_JSC_thresholdForFTLOptimizeAfterWarmUp: "640000",
};
