/**
 * Who asks for something: what they may see and change, and how the audit log names them.
 *
 * @module
 */
import { ALL_TENANTS, type AuditEntry } from "./model.ts";
import { Problem } from "./problem.ts";

/** Who asks for something. */
export interface Actor {
  /** The credential's id, for the audit log. */
  readonly id: string;
  /** The tenant that it sees, or {@link ALL_TENANTS}. */
  readonly tenant: string;
  /** The request's id. */
  readonly request: string;
}

/** Whether an actor sees what belongs to a tenant. */
export function sees(actor: Pick<Actor, "tenant">, tenant: string): boolean {
  return actor.tenant === ALL_TENANTS || actor.tenant === tenant;
}

/** Refuses, with 403, what is for a tenant that isn't the actor's. */
export function requireTenant(actor: Actor, tenant: string): void {
  if (sees(actor, tenant)) return;
  const whose = tenant === ALL_TENANTS ? "all tenants" : `tenant ${shown(tenant)}`;
  throw new Problem(403, `Cannot act for ${whose}: the key is tenant ${actor.tenant}'s`, {
    errors: [{ member: "tenant", pointer: "#/tenant", detail: "is not the key's own" }],
  });
}

/** The entry of the audit log on something that an actor does. */
export function auditEntry(
  actor: Actor,
  atMs: number,
  action: string,
  { id, tenant }: { readonly id: string; readonly tenant: string },
  detail: AuditEntry["detail"],
): AuditEntry {
  return { atMs, actor: actor.id, action, subject: id, tenant, request: actor.request, detail };
}

/** A client's text as messages show it. */
export function shown(text: string): string {
  return JSON.stringify(text.length > 64 ? `${text.slice(0, 64)}…` : text);
}
