/**
 * A running agent's status report, for `agent status` and `doctor`.
 *
 * @module
 */
import type { AgentFacts } from "../agent.ts";
import type { ServiceFacts } from "../services/table.ts";

/** The report's version; it is raised when a member changes its meaning. */
export const STATUS_VERSION = 1;

/** The report, sent over the socket as JSON. */
export interface StatusReport {
  readonly statusVersion: typeof STATUS_VERSION;
  readonly version: string;
  readonly runtime: string;
  readonly pid: number;
  /** Milliseconds since 1970. */
  readonly startedMs: number;
  readonly nowMs: number;
  /** The session master's URL. */
  readonly master: string;
  readonly agent: AgentFacts;
  readonly services: readonly ServiceFacts[];
  /** Public ports, each `HOST:PORT`; null for one that isn't open. */
  readonly published: readonly (string | null)[];
}
