/**
 * An operator's actions on agents, keys and sessions; each change is recorded in the audit log. The HTTP API and the
 * page are thin layers over it.
 *
 * @module
 */
import { createHash, randomBytes } from "node:crypto";
import { generateFernetKey } from "../crypto/fernet.ts";
import type { Clock } from "../runtime/port.ts";
import type { NetworkSet } from "../wire/ip/networks.ts";
import { type Actor, auditEntry, requireTenant, sees, shown } from "./actor.ts";
import type { Changeable } from "./changeable.ts";
import type { EdgeHub } from "./edge_hub.ts";
import { fernetKeyId, type FernetKeyInfo, type KeyRing } from "./key_ring.ts";
import {
  type Agent,
  type AgentPolicy,
  ALL_TENANTS,
  type ApiKey,
  type AuditEntry,
  DEFAULT_TENANT,
} from "./model.ts";
import { Problem } from "./problem.ts";
import { type AgentQuery, type Page, type Store, StoreConflict } from "./store/store.ts";
import type { WebhookSender } from "./webhooks/sender.ts";
import { Webhooks } from "./webhooks/webhooks.ts";

export type { Actor };

/** Lifetime of a join code, unless the request specifies another. */
export const JOIN_TTL_DEFAULT_S = 24 * 3600;
/** Maximum lifetime of a join code. */
export const JOIN_TTL_MAX_S = 31 * 24 * 3600;
/** Random bytes of a join code. */
const JOIN_CODE_BYTES = 20;
const API_KEY_BYTES = 32;

/** A code that enrols one agent. */
export interface IssuedJoin {
  /** A secret, shown once. */
  readonly code: string;
  readonly expiresAtMs: number;
}

/** The settings of an agent; absent ones are unchanged, or have the default for a new agent. */
export type AgentChange = { readonly [Name in keyof AgentPolicy]?: AgentPolicy[Name] | null };

/** Dependencies of {@link Management}. */
export interface ManagementOptions {
  readonly store: Store;
  readonly hub: EdgeHub;
  readonly keys: KeyRing;
  readonly clock: Clock;
  /** Sends messages to webhooks; without it they stay queued. */
  readonly sender?: WebhookSender;
  /** The operator's networks that webhooks may reach. Defaults to none. */
  readonly webhookNetworks?: Changeable<NetworkSet | undefined>;
}

/** Performs the actions of operators. Throws {@link Problem}s that name the invalid member. */
export class Management {
  readonly store: Store;
  readonly hub: EdgeHub;
  readonly keys: KeyRing;
  readonly webhooks: Webhooks;
  readonly #clock: Clock;

  constructor({ store, hub, keys, clock, sender, webhookNetworks }: ManagementOptions) {
    this.store = store;
    this.hub = hub;
    this.keys = keys;
    this.#clock = clock;
    this.webhooks = new Webhooks({
      ...{ store, clock },
      ...sender === undefined ? {} : { sender },
      ...webhookNetworks === undefined ? {} : { networks: webhookNetworks },
    });
  }

  /** Adds an agent, with a join code unless `withJoin` is false. */
  async addAgent(
    actor: Actor,
    wanted: AgentChange & { readonly name: string; readonly hostnames: readonly string[] },
    joinTtlS: number = JOIN_TTL_DEFAULT_S,
  ): Promise<{ readonly agent: Agent; readonly join: IssuedJoin }> {
    const nowMs = this.#clock.wallMs();
    const tenant = wanted.tenant ?? (actor.tenant === ALL_TENANTS ? DEFAULT_TENANT : actor.tenant);
    requireTenant(actor, tenant);
    const agent: Agent = {
      ...definedPolicy(wanted),
      tenant,
      id: `agent_${randomBytes(8).toString("hex")}`,
      state: "active",
      generation: 1,
      revision: 1,
      createdAtMs: nowMs,
      updatedAtMs: nowMs,
    };
    const join = this.#makeJoin(joinTtlS);
    const detail = { name: agent.name, hostnames: agent.hostnames };
    await conflicts(
      "Cannot add agent",
      () => this.store.addAgent(agent, join.stored, this.#entry(actor, "agent.added", agent, detail)),
    );
    return { agent, join: join.issued };
  }

  /** The agent with this id, or with this name in the actor's tenant. */
  async agent(actor: Actor, idOrName: string, tenant?: string): Promise<Agent> {
    const inTenant = tenant ?? (actor.tenant === ALL_TENANTS ? DEFAULT_TENANT : actor.tenant);
    const agent = await this.store.agent(idOrName) ?? await this.store.agentNamed(inTenant, idOrName);
    // Another tenant's agent is indistinguishable from a missing one.
    if (agent === undefined || !sees(actor, agent.tenant)) {
      throw new Problem(404, `Cannot find agent ${shown(idOrName)}; GET /v1/agents lists them`);
    }
    return agent;
  }

  agents(actor: Actor, query: AgentQuery): Promise<Page<Agent>> {
    const tenant = actor.tenant === ALL_TENANTS ? query.tenant : actor.tenant;
    return this.store.agents({ ...query, ...tenant === undefined ? {} : { tenant } });
  }

  /** Number of live sessions by agent; agents without any are absent. */
  sessionCounts(agents: readonly Agent[]): Promise<ReadonlyMap<string, number>> {
    return this.store.sessionCounts(agents.map(({ id }) => id));
  }

  /** Changes an agent; `revision` is the revision the change is based on, or absent for any. */
  async changeAgent(
    actor: Actor,
    idOrName: string,
    change: AgentChange,
    revision: number | undefined,
  ): Promise<Agent> {
    return await this.#change(actor, idOrName, revision, "agent.changed", (agent) => {
      if (change.tenant !== undefined && change.tenant !== null) requireTenant(actor, change.tenant);
      return { ...agent, ...definedPolicy({ ...agent, ...change }) };
    }, Object.keys(change));
  }

  /** Ends the agent's sessions, and issues it no tokens until it is resumed. */
  suspend(actor: Actor, idOrName: string, revision?: number): Promise<Agent> {
    return this.#change(
      actor,
      idOrName,
      revision,
      "agent.suspended",
      (agent) => ({ ...agent, state: "suspended" }),
    );
  }

  /** Reverses {@link suspend}. */
  resume(actor: Actor, idOrName: string, revision?: number): Promise<Agent> {
    return this.#change(
      actor,
      idOrName,
      revision,
      "agent.resumed",
      (agent) => ({ ...agent, state: "active" }),
    );
  }

  /** Invalidates the agent's key and all its tokens, and returns a code to enrol with a new key. */
  async rotate(
    actor: Actor,
    idOrName: string,
    revision?: number,
    joinTtlS: number = JOIN_TTL_DEFAULT_S,
  ): Promise<{ readonly agent: Agent; readonly join: IssuedJoin }> {
    const join = this.#makeJoin(joinTtlS);
    const agent = await this.#change(
      actor,
      idOrName,
      revision,
      "agent.rotated",
      (before) => {
        const { publicKey: _, ...rest } = before;
        return { ...rest, generation: before.generation + 1 };
      },
      [],
      join.stored,
    );
    return { agent, join: join.issued };
  }

  /** Removes an agent, its key and its hostnames; its usage is kept. */
  async removeAgent(actor: Actor, idOrName: string, revision?: number): Promise<void> {
    const agent = await this.agent(actor, idOrName);
    checkRevision(agent, revision);
    const entry = this.#entry(actor, "agent.removed", agent, { name: agent.name });
    await conflicts("Cannot remove agent", () => this.store.removeAgent(agent.id, revision, entry));
    await this.hub.wake();
  }

  /** Ends a live session; its agent may reconnect. */
  async closeSession(actor: Actor, id: string): Promise<void> {
    const session = await this.store.session(id);
    if (session === undefined || !sees(actor, session.tenant)) {
      throw new Problem(404, `Cannot find session ${shown(id)}; GET /v1/sessions lists them`);
    }
    const entry = this.#entry(actor, "session.closed", { id, tenant: session.tenant }, {
      hostname: session.hostname,
      agent: session.agent,
    });
    await this.store.addChange({ kind: "close_session", session: id }, entry);
    await this.hub.wake();
  }

  /** Adds an API key; the key itself is shown once. */
  async addApiKey(
    actor: Actor,
    wanted: Omit<ApiKey, "id" | "createdAtMs">,
  ): Promise<{ readonly info: ApiKey; readonly key: string }> {
    requireTenant(actor, wanted.tenant);
    const key = `sallyport_key_${randomBytes(API_KEY_BYTES).toString("base64url")}`;
    const info = {
      ...wanted,
      id: `key_${randomBytes(8).toString("hex")}`,
      createdAtMs: this.#clock.wallMs(),
    };
    const { name, scopes } = info;
    await this.store.addApiKey(
      info,
      secretDigest(key),
      this.#entry(actor, "api_key.added", info, { name, scopes }),
    );
    return { info, key };
  }

  async apiKeys(actor: Actor): Promise<readonly ApiKey[]> {
    return (await this.store.apiKeys()).filter(({ tenant }) => sees(actor, tenant));
  }

  async removeApiKey(actor: Actor, id: string): Promise<void> {
    const key = (await this.apiKeys(actor)).find((known) => known.id === id);
    if (key === undefined) {
      throw new Problem(404, `Cannot find API key ${shown(id)}; GET /v1/api-keys lists them`);
    }
    await this.store.removeApiKey(id, this.#entry(actor, "api_key.removed", key, { name: key.name }));
  }

  /** Adds a Fernet key, which creates tokens from now on. */
  async addFernetKey(actor: Actor, key: string = generateFernetKey()): Promise<FernetKeyInfo> {
    requireTenant(actor, ALL_TENANTS);
    const id = fernetKeyId(key);
    if (this.keys.list().some((known) => known.id === id)) {
      throw new Problem(409, `Cannot add key: ${id} already exists`, {
        errors: [{ member: "key", pointer: "#/key", detail: "already exists" }],
      });
    }
    const stored = { id, key, state: "active" as const, createdAtMs: this.#clock.wallMs() };
    await this.store.addFernetKey(stored, this.#entry(actor, "key.added", { id, tenant: ALL_TENANTS }, {}));
    await this.hub.reloadKeys();
    return this.keys.list().find((known) => known.id === id)!;
  }

  /** Replaces the Fernet keys of the settings or the data folder, and notifies edges. */
  async reloadOwnKeys(keys: readonly string[]): Promise<void> {
    this.keys.reload(keys);
    await this.hub.announceKeys();
  }

  /** Retires a Fernet key: its tokens are refused from now on, and sessions opened with them continue. */
  async retireFernetKey(actor: Actor, id: string): Promise<void> {
    requireTenant(actor, ALL_TENANTS);
    const known = this.keys.list();
    if (!known.some((key) => key.id === id)) {
      throw new Problem(404, `Cannot find key ${shown(id)}; GET /v1/keys lists them`);
    }
    if (!known.some((key) => key.state === "active" && key.id !== id)) {
      throw new Problem(409, `Cannot retire key ${id}: it is the last one; add another before`);
    }
    await this.store.retireFernetKey(id, this.#entry(actor, "key.retired", { id, tenant: ALL_TENANTS }, {}));
    await this.hub.reloadKeys();
  }

  /** Sets the public key of the agent that a join code belongs to. */
  async enrol(code: string, publicKey: string, request: string): Promise<Agent> {
    const nowMs = this.#clock.wallMs();
    const outcome = await this.store.enrol(secretDigest(code), publicKey, nowMs, {
      atMs: nowMs,
      action: "agent.enrolled",
      request,
      detail: {},
    });
    if ("agent" in outcome) return outcome.agent;
    const why = {
      unknown: "is not known",
      used: "has been used; ask for another (agents rotate)",
      expired: "has expired; ask for another (agents rotate)",
    }[outcome.refused];
    throw new Problem(403, `Cannot enrol: code ${why}`, {
      errors: [{ member: "code", pointer: "#/code", detail: why }],
    });
  }

  async #change(
    actor: Actor,
    idOrName: string,
    revision: number | undefined,
    action: string,
    change: (agent: Agent) => Agent,
    changed: readonly string[] = [],
    join?: { readonly digest: string; readonly expiresAtMs: number },
  ): Promise<Agent> {
    const before = await this.agent(actor, idOrName);
    checkRevision(before, revision);
    const agent = { ...change(before), revision: before.revision + 1, updatedAtMs: this.#clock.wallMs() };
    const detail = changed.length === 0 ? { name: agent.name } : { name: agent.name, changed };
    await conflicts(
      "Cannot change agent",
      () => this.store.changeAgent(agent, join, this.#entry(actor, action, agent, detail)),
    );
    await this.hub.wake();
    return agent;
  }

  #makeJoin(ttlS: number) {
    const code = randomBytes(JOIN_CODE_BYTES).toString("base64url");
    const expiresAtMs = this.#clock.wallMs() + ttlS * 1000;
    return { issued: { code, expiresAtMs }, stored: { digest: secretDigest(code), expiresAtMs } };
  }

  #entry(
    actor: Actor,
    action: string,
    subject: { readonly id: string; readonly tenant: string },
    detail: AuditEntry["detail"],
  ): AuditEntry {
    return auditEntry(actor, this.#clock.wallMs(), action, subject, detail);
  }
}

/** The stored form of a secret that a client presents: its SHA-256. The secrets are random, so that is enough. */
export function secretDigest(secret: string): string {
  return createHash("sha256").update(secret, "utf8").digest("base64url");
}

/** A policy with defaults for unset members. */
function definedPolicy(wanted: AgentChange & { readonly name?: string | null }): AgentPolicy {
  const { group, expiresAtMs } = wanted;
  return {
    name: wanted.name ?? "",
    tenant: wanted.tenant ?? DEFAULT_TENANT,
    // Present even if unset, so that it overrides the old value.
    ...{ group: group ?? undefined } as { group?: string },
    hostnames: wanted.hostnames ?? [],
    publish: wanted.publish ?? [],
    limits: wanted.limits ?? {},
    agentNetworks: wanted.agentNetworks ?? [],
    visitorNetworks: wanted.visitorNetworks ?? [],
    ...{ expiresAtMs: expiresAtMs ?? undefined } as { expiresAtMs?: number },
    notes: wanted.notes ?? "",
  };
}

function checkRevision(agent: Agent, revision: number | undefined): void {
  if (revision === undefined || revision === agent.revision) return;
  throw new Problem(412, `Cannot change agent ${agent.name}: it has been changed meanwhile; read it again`, {
    errors: [{ member: "If-Match", detail: "is not the agent's current ETag" }],
  });
}

async function conflicts<T>(what: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof StoreConflict)) throw error;
    const { member, message } = error;
    if (member === "revision") throw new Problem(412, `${what}: ${message}; read it again`);
    throw new Problem(409, `${what}: ${message}`, {
      errors: [{ member, pointer: `#/${member}`, detail: `is taken: ${message}` }],
    });
  }
}
