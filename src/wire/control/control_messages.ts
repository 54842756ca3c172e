/**
 * Messages between edges and their session master, besides tokens (docs/protocols/edge-control.md): rulings on agents in
 * one direction, live sessions and usage in the other.
 *
 * @module
 */
import { z } from "zod";
import { ID_MAX_LENGTH } from "../token/agent_claim.ts";

/** Session master to edge: interval of empty lines that keep the stream alive. */
export const CONTROL_HEARTBEAT_MS = 5_000;

/** An edge's rules for an agent: whether its tokens are valid, and their minimum generation. */
export interface Ruling {
  readonly agent: string;
  /** Suspended or removed: none of its tokens is valid. */
  readonly blocked: boolean;
  /** Tokens of an older generation are invalid. */
  readonly generation: number;
}

/** Messages to an edge. Each has the sequence number of its change; the edge requests the changes after it. */
export type EdgeMessage =
  /** The complete state, which replaces the edge's. */
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

/** A live session as reported by an edge. */
export interface ReportedSession {
  /** Unique among all edges' sessions. */
  readonly id: string;
  /** The agent's id, or `hostname:` and the name if the token names no agent. */
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

/** An agent's usage of a day (UTC) as reported by an edge. */
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

/** Adds up what an agent used on a day, so that each is there once. */
export function mergedUsage(usage: Iterable<ReportedUsage>): ReportedUsage[] {
  const merged = new Map<string, ReportedUsage>();
  for (const used of usage) {
    const key = `${used.day}/${used.agent}`;
    const before = merged.get(key);
    merged.set(
      key,
      before === undefined ? used : {
        ...used,
        bytesToAgent: before.bytesToAgent + used.bytesToAgent,
        bytesToVisitor: before.bytesToVisitor + used.bytesToVisitor,
        streams: before.streams + used.streams,
        connectedMs: before.connectedMs + used.connectedMs,
      },
    );
  }
  return [...merged.values()];
}

/** An edge's changes since its last report. */
export interface EdgeReport {
  /** The edge's name. */
  readonly edge: string;
  /** Identifies the edge's report sequence; changes with a new journal. */
  readonly epoch: string;
  /** 1 for the first report of an epoch, then incremented. A report is never applied twice. */
  readonly seq: number;
  /**
   * The first report after a start, or after the master was away: sessions listed neither here nor in {@link following}
   * have ended.
   */
  readonly fresh: boolean;
  /** Of a fresh report in several parts: the sessions that the next reports list. */
  readonly following?: readonly string[];
  /** Sessions that are new or have changed. */
  readonly sessions: readonly ReportedSession[];
  /** Sessions that have ended. */
  readonly closed: readonly string[];
  readonly usage: readonly ReportedUsage[];
  /** Agents whose usage of the month the edge requests. */
  readonly watched: readonly string[];
}

/** The answer to a report. */
export interface ReportReceipt {
  readonly epoch: string;
  readonly seq: number;
  readonly month: string;
  /** Bytes used this month by the agents that the report watches. */
  readonly used: readonly { readonly agent: string; readonly bytes: number }[];
}

const id = z.string().min(1).max(ID_MAX_LENGTH);
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

/** Validates an {@link EdgeMessage}. */
export const EdgeMessageSchema: z.ZodType<EdgeMessage> = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("all"), seq: count, rulings: z.array(ruling), keys: z.array(z.string()) }),
  z.object({ kind: z.literal("agent"), seq: count, ruling }),
  z.object({ kind: z.literal("close_session"), seq: count, session: id }),
  z.object({ kind: z.literal("keys"), seq: count, keys: z.array(z.string()) }),
]);

/** Validates an {@link EdgeReport}. */
export const EdgeReportSchema: z.ZodType<EdgeReport> = z.object({
  edge: id,
  epoch: id,
  seq: count,
  fresh: z.boolean(),
  following: z.array(id).optional(),
  sessions: z.array(session),
  closed: z.array(id),
  usage: z.array(usage),
  watched: z.array(id),
});

/** Validates a {@link ReportReceipt}. */
export const ReportReceiptSchema: z.ZodType<ReportReceipt> = z.object({
  epoch: id,
  seq: count,
  month: z.string(),
  used: z.array(z.object({ agent: id, bytes: count })),
});
