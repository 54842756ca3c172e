/**
 * What a run of the bench found.
 *
 * @module
 */

import { median } from "./machine.ts";

/** A peer as the results name it. */
export interface PeerEntry {
  readonly name: string;
  readonly title: string;
  readonly version: string;
}

/** The whole of it; this is what results.json holds. */
export interface Results {
  readonly date: string;
  readonly machine: Readonly<Record<string, string>>;
  readonly rounds: number;
  readonly quick: boolean;
  readonly peers: readonly PeerEntry[];
  /** What couldn't be measured, and why. */
  readonly missing: { readonly peer: string; readonly case?: string; readonly why: string }[];
  /** By metric and peer: a value for each round. */
  readonly values: Record<string, Record<string, number[]>>;
}

/** Adds figures of one round. */
export function record(results: Results, peer: string, figures: Readonly<Record<string, number>>): void {
  for (const [name, value] of Object.entries(figures)) {
    if (Number.isFinite(value)) ((results.values[name] ??= {})[peer] ??= []).push(value);
  }
}

/** The median over the rounds, or undefined where there is no value. */
export function medianOf(results: Results, metric: string, peer: string): number | undefined {
  const values = results.values[metric]?.[peer];
  return values === undefined || values.length === 0 ? undefined : median(values);
}
