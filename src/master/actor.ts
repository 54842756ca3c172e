/**
 * The actor behind a request: what it may see and change, and its name in the audit log.
 *
 * @module
 */
import { ALL_TENANTS, type AuditEntry } from "./model.ts";
import { Problem } from "./problem.ts";

/** The actor behind a request. */
export interface Actor {
  /** The credential's id, for the audit log. */
  readonly id: string;
  /** The tenant it can see, or {@link ALL_TENANTS}. */
  readonly tenant: string;
  /** The request's id. */
  readonly request: string;
}

/** Whether an actor can see a tenant's objects. */
export function sees(actor: Pick<Actor, "tenant">, tenant: string): boolean {
  return actor.tenant === ALL_TENANTS || actor.tenant === tenant;
}

/** The tenant to which a query of the store is limited; none for an actor who sees all. */
export function ofTenant({ tenant }: Pick<Actor, "tenant">): { readonly tenant?: string } {
  return tenant === ALL_TENANTS ? {} : { tenant };
}

/** Throws 403 if a tenant isn't the actor's. */
export function requireTenant(actor: Actor, tenant: string): void {
  if (sees(actor, tenant)) return;
  const whose = tenant === ALL_TENANTS ? "all tenants" : `tenant ${shown(tenant)}`;
  throw new Problem(403, `Cannot act for ${whose}: the key belongs to tenant ${actor.tenant}`, {
    errors: [{ member: "tenant", pointer: "#/tenant", detail: "is not the key's own" }],
  });
}

/** The audit log entry for an actor's action. */
export function auditEntry(
  actor: Actor,
  atMs: number,
  action: string,
  { id, tenant }: { readonly id: string; readonly tenant: string },
  detail: AuditEntry["detail"],
): AuditEntry {
  return { atMs, actor: actor.id, action, subject: id, tenant, request: actor.request, detail };
}

/** A client's text as shown in messages. */
export function shown(text: string): string {
  return JSON.stringify(text.length > 64 ? `${text.slice(0, 64)}…` : text);
}
