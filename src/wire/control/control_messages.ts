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

const id = z.string().min(1).max(300);
const count = z.number().int().nonnegative();

const RulingSchema = z.object({ agent: id, blocked: z.boolean(), generation: count });

/** What an edge hears. Each message has the number of the change that it came with: the edge asks for those behind it. */
export const EdgeMessageSchema = z.discriminatedUnion("kind", [
  // Everything that holds, in place of what the edge knew.
  z.object({ kind: z.literal("all"), seq: count, rulings: z.array(RulingSchema), keys: z.array(z.string()) }),
  z.object({ kind: z.literal("agent"), seq: count, ruling: RulingSchema }),
  z.object({ kind: z.literal("close_session"), seq: count, session: id }),
  // The Fernet keys, newest first.
  z.object({ kind: z.literal("keys"), seq: count, keys: z.array(z.string()) }),
]);

/** See {@link EdgeMessageSchema}. */
export type EdgeMessage = z.infer<typeof EdgeMessageSchema>;

const SessionSchema = z.object({
  id,
  agent: id,
  tenant: id,
  hostname: id,
  remote: id,
  transport: id,
  protocolVersion: count,
  cipher: id,
  sinceMs: count,
  streams: count,
  bytesToAgent: count,
  bytesToVisitor: count,
});

const UsageSchema = z.object({
  agent: id,
  tenant: id,
  day: z.string().regex(/^\d{4}-\d\d-\d\d$/),
  bytesToAgent: count,
  bytesToVisitor: count,
  streams: count,
  connectedMs: count,
});

/** What an edge reports since its last report. */
export const EdgeReportSchema = z.object({
  /** The edge's name. */
  edge: id,
  /** Names the edge's count of reports; a new one with a new journal. */
  epoch: id,
  /** 1 for the first report of an epoch, then one more each. One that was applied isn't applied again. */
  seq: count,
  /** The first report after a start: sessions that it doesn't name are gone. */
  fresh: z.boolean(),
  /** Sessions that are new or have changed. */
  sessions: z.array(SessionSchema),
  /** Sessions that are over. */
  closed: z.array(id),
  usage: z.array(UsageSchema),
  /** Agents whose use of the month the edge wants to know. */
  watched: z.array(id),
});

/** See {@link EdgeReportSchema}. */
export type EdgeReport = z.infer<typeof EdgeReportSchema>;
/** A live session as an edge reports it. */
export type ReportedSession = z.infer<typeof SessionSchema>;
/** An agent's use of a day as an edge reports it. */
export type ReportedUsage = z.infer<typeof UsageSchema>;
/** A ruling on an agent. */
export type Ruling = z.infer<typeof RulingSchema>;

/** The answer to a report. */
export const ReportReceiptSchema = z.object({
  epoch: id,
  seq: count,
  month: z.string(),
  /** Bytes of the month, for the agents that the report watches. */
  used: z.array(z.object({ agent: id, bytes: count })),
});

/** See {@link ReportReceiptSchema}. */
export type ReportReceipt = z.infer<typeof ReportReceiptSchema>;
