/**
 * The audit log and the changes for edges, which other tables' changes write in their own transactions.
 *
 * @module
 */
import { sql } from "kysely";
import type { AuditEntry, ChangeBody } from "../model.ts";
import type { StoreKind } from "./database.ts";
import type { Tx } from "./schema.ts";

/** Adds an entry to the audit log. */
export async function addAudit(
  tx: Tx,
  { atMs, detail, ...entry }: AuditEntry,
): Promise<void> {
  await tx.insertInto("audit").values({ ...entry, at: atMs, detail: JSON.stringify(detail) }).execute();
}

/** Adds a change that edges must be told of. */
export async function addChange(
  tx: Tx,
  kind: StoreKind,
  body: ChangeBody,
  atMs: number,
): Promise<void> {
  // Numbers are assigned before transactions commit: without a lock a reader could see a later change before an
  // earlier one.
  if (kind === "postgres") await sql`select pg_advisory_xact_lock(72902)`.execute(tx);
  await tx.insertInto("changes").values({ at: atMs, body: JSON.stringify(body) }).execute();
}
