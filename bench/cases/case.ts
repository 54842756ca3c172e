/**
 * What a case of the benchmark is.
 *
 * @module
 */

import type { Endpoint } from "../load/load.ts";
import type { Peer, RunningPeer } from "../peers/peer.ts";

/** How long things take; `--quick` makes them shorter. */
export interface Scale {
  readonly warmupMs: number;
  readonly windowMs: number;
  readonly sessions: number;
  readonly idleStreams: number;
}

/** What a case measures with. */
export interface CaseContext {
  readonly peer: RunningPeer;
  readonly endpoint: Endpoint;
  readonly scale: Scale;
  /** Says what couldn't be measured within a case that goes on. */
  miss(why: string): void;
}

/** Figures by metric; the metric's name begins with the case's. */
export type Figures = Record<string, number>;

/** A metric as the report shows it. */
export interface Metric {
  readonly name: string;
  readonly title: string;
  readonly unit: string;
  /** Which way is good. */
  readonly better: "more" | "less";
}

/** A case. */
export interface Case {
  readonly name: string;
  readonly title: string;
  readonly metrics: readonly Metric[];
  /** It needs a tunnel that has done nothing yet; else all tunnels of a round are started once. */
  readonly fresh?: boolean;
  /** It is for tunnels that speak SniTun. */
  readonly snitun?: boolean;
  /** Whether it is for this tunnel; for all when absent. */
  takes?(peer: Peer): boolean;
  /** Starts a tunnel for this case, which is fresh then; in the usual way when absent. */
  start?(peer: Peer, endpoint: Endpoint): Promise<RunningPeer>;
  measure(context: CaseContext): Promise<Figures>;
}

/** Short for a metric. */
export function metric(name: string, title: string, unit: string, better: "more" | "less"): Metric {
  return { name, title, unit, better };
}
