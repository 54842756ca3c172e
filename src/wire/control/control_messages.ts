/**
 * What edges and their session master tell one another beside tokens (docs/protocols/edge-control.md): rulings on agents
 * one way, live sessions and usage the other way.
 *
 * @module
 */
import { z } from "zod";

/** Session master to edge: an empty line this often shows that the stream lives. */
export const CONTROL_HEARTBEAT_MS = 5_000;

/** The day of a time, in UTC: `2026-11-27`. */
export function dayOf(wallMs: number): string {
  return new Date(wallMs).toISOString().slice(0, 10);
}

/** What an edge must know of an agent: whether its tokens are good, and of which generation they must be. */
export interface Ruling {
  readonly agent: string;
  /** Suspended or removed: no token of it is good. */
  readonly blocked: boolean;
  /** Tokens of an older generation aren't good. */
  readonly generation: number;
}

/** What an edge hears. Each message has the number of the change that it came with: the edge asks for those behind it. */
export type EdgeMessage =
  /** Everything that holds, in place of what the edge knew. */
  | {
    readonly kind: "all";
    readonly seq: number;
    readonly rulings: readonly Ruling[];
    readonly keys: readonly string[];
  }
  | { readonly kind: "agent"; readonly seq: number; readonly ruling: Ruling }
  | { readonly kind: "close_session"; readonly seq: number; readonly session: string }
  /** The Fernet keys, newest first. */
  | { readonly kind: "keys"; readonly seq: number; readonly keys: readonly string[] };

/** A live session as an edge reports it. */
export interface ReportedSession {
  /** Names it among all edges' sessions. */
  readonly id: string;
  /** The agent's id, or `hostname:` and the name where the token names no agent. */
  readonly agent: string;
  readonly tenant: string;
  readonly hostname: string;
  readonly remote: string;
  readonly transport: string;
  /** SniTun's version; absent for transports that have none. */
  readonly protocolVersion?: number;
  readonly cipher: string;
  readonly sinceMs: number;
  readonly streams: number;
  readonly bytesToAgent: number;
  readonly bytesToVisitor: number;
}

/** An agent's use of a day (UTC) as an edge reports it. */
export interface ReportedUsage {
  readonly agent: string;
  readonly tenant: string;
  /** `2026-11-27`. */
  readonly day: string;
  readonly bytesToAgent: number;
  readonly bytesToVisitor: number;
  readonly streams: number;
  readonly connectedMs: number;
}

/** What an edge reports since its last report. */
export interface EdgeReport {
  /** The edge's name. */
  readonly edge: string;
  /** Names the edge's count of reports; a new one with a new journal. */
  readonly epoch: string;
  /** 1 for the first report of an epoch, then one more each. One that was applied isn't applied again. */
  readonly seq: number;
  /** The first report after a start: sessions that it doesn't name are gone. */
  readonly fresh: boolean;
  /** Sessions that are new or have changed. */
  readonly sessions: readonly ReportedSession[];
  /** Sessions that are over. */
  readonly closed: readonly string[];
  readonly usage: readonly ReportedUsage[];
  /** Agents whose use of the month the edge wants to know. */
  readonly watched: readonly string[];
}

/** The answer to a report. */
export interface ReportReceipt {
  readonly epoch: string;
  readonly seq: number;
  readonly month: string;
  /** Bytes of the month, for the agents that the report watches. */
  readonly used: readonly { readonly agent: string; readonly bytes: number }[];
}

const id = z.string().min(1).max(300);
const count = z.number().int().nonnegative();
const ruling = z.object({ agent: id, blocked: z.boolean(), generation: count });
const session = z.object({
  id,
  agent: id,
  tenant: id,
  hostname: id,
  remote: id,
  transport: id,
  protocolVersion: count.optional(),
  cipher: id,
  sinceMs: count,
  streams: count,
  bytesToAgent: count,
  bytesToVisitor: count,
});
const usage = z.object({
  agent: id,
  tenant: id,
  day: z.string().regex(/^\d{4}-\d\d-\d\d$/),
  bytesToAgent: count,
  bytesToVisitor: count,
  streams: count,
  connectedMs: count,
});

/** Judges an {@link EdgeMessage}. */
export const EdgeMessageSchema: z.ZodType<EdgeMessage> = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("all"), seq: count, rulings: z.array(ruling), keys: z.array(z.string()) }),
  z.object({ kind: z.literal("agent"), seq: count, ruling }),
  z.object({ kind: z.literal("close_session"), seq: count, session: id }),
  z.object({ kind: z.literal("keys"), seq: count, keys: z.array(z.string()) }),
]);

/** Judges an {@link EdgeReport}. */
export const EdgeReportSchema: z.ZodType<EdgeReport> = z.object({
  edge: id,
  epoch: id,
  seq: count,
  fresh: z.boolean(),
  sessions: z.array(session),
  closed: z.array(id),
  usage: z.array(usage),
  watched: z.array(id),
});

/** Judges a {@link ReportReceipt}. */
export const ReportReceiptSchema: z.ZodType<ReportReceipt> = z.object({
  epoch: id,
  seq: count,
  month: z.string(),
  used: z.array(z.object({ agent: id, bytes: count })),
});
