/**
 * An operator's view of webhooks: adding, testing and removing them, and the log of their messages.
 *
 * @module
 */
import { randomBytes } from "node:crypto";
import type { Clock } from "../../runtime/port.ts";
import type { NetworkSet } from "../../wire/ip/networks.ts";
import { type Actor, auditEntry, requireTenant, sees, shown } from "../actor.ts";
import { type Changeable, current } from "../changeable.ts";
import { EVENT_TYPES, type EventType, type Webhook, type WebhookDelivery } from "../model.ts";
import { bodyFault, Problem, unprocessable } from "../problem.ts";
import type { Page, PageQuery, Store } from "../store/store.ts";
import { webhookUrlFault } from "./destination.ts";
import type { WebhookSender } from "./sender.ts";
import { makeWebhookSecret } from "./signature.ts";

/** Maximum number of webhooks of one tenant, and of webhooks for all tenants. */
export const WEBHOOKS_MAX = 16;

/** Dependencies of {@link Webhooks}. */
interface WebhooksOptions {
  readonly store: Store;
  readonly clock: Clock;
  /** Absent if nothing is sent: webhooks can be configured, and their messages stay queued. */
  readonly sender?: WebhookSender;
  /** The operator's own networks that webhooks may reach. */
  readonly networks?: Changeable<NetworkSet | undefined>;
}

/** The settings of a new webhook. */
interface NewWebhook {
  readonly url: string;
  readonly tenant: string;
  /** Defaults to all. */
  readonly events?: readonly EventType[];
  /** Defaults to a random one. */
  readonly secret?: string;
}

/** Manages the webhooks of a tenant. Throws {@link Problem}s that name the invalid member. */
export class Webhooks {
  readonly #options: WebhooksOptions;

  constructor(options: WebhooksOptions) {
    this.#options = options;
  }

  async add(actor: Actor, wanted: NewWebhook): Promise<Webhook> {
    const { store, clock, networks } = this.#options;
    requireTenant(actor, wanted.tenant);
    const fault = webhookUrlFault(wanted.url, current(networks));
    if (fault !== undefined) throw unprocessable("Cannot add webhook", [bodyFault(["url"], fault)]);
    const webhook: Webhook = {
      id: `hook_${randomBytes(8).toString("hex")}`,
      tenant: wanted.tenant,
      url: wanted.url,
      events: wanted.events ?? EVENT_TYPES,
      secret: wanted.secret ?? makeWebhookSecret(),
      createdAtMs: clock.wallMs(),
      dropped: 0,
    };
    // The path may be a secret of the receiver: the log contains only the host.
    const { host } = new URL(webhook.url);
    const entry = auditEntry(actor, clock.wallMs(), "webhook.added", webhook, {
      host,
      events: webhook.events,
    });
    if (!await store.addWebhook(webhook, WEBHOOKS_MAX, entry)) {
      throw new Problem(409, `Cannot add webhook: there are ${WEBHOOKS_MAX} already; remove one before`);
    }
    return webhook;
  }

  async list(actor: Actor): Promise<readonly Webhook[]> {
    return (await this.#options.store.webhooks()).filter(({ tenant }) => sees(actor, tenant));
  }

  async one(actor: Actor, id: string): Promise<Webhook> {
    const webhook = (await this.list(actor)).find((known) => known.id === id);
    if (webhook === undefined) {
      throw new Problem(404, `Cannot find webhook ${shown(id)}; GET /v1/webhooks lists them`);
    }
    return webhook;
  }

  /** Removes a webhook, its log, and its queued messages. */
  async remove(actor: Actor, id: string): Promise<void> {
    const { store, clock } = this.#options;
    const webhook = await this.one(actor, id);
    const { host } = new URL(webhook.url);
    await store.removeWebhook(id, auditEntry(actor, clock.wallMs(), "webhook.removed", webhook, { host }));
  }

  /** Sends an empty test message, and returns the outcome. */
  async test(actor: Actor, id: string): Promise<WebhookDelivery> {
    const { sender, clock } = this.#options;
    const { tenant } = await this.one(actor, id);
    if (sender === undefined) {
      throw new Problem(503, "Cannot test webhook: this session master sends no messages");
    }
    const event = { type: "webhook.test" as const, tenant, atMs: clock.wallMs(), data: { webhook: id } };
    const sent = await sender.sendNow(id, event);
    if (sent === undefined) throw new Problem(409, "Cannot test webhook: it has just been removed");
    return sent;
  }

  /** The log of messages, newest first; of one webhook, or of all those visible to the actor. */
  async deliveries(
    actor: Actor,
    { webhook, ...query }: PageQuery & {
      readonly webhook?: string;
      readonly state?: WebhookDelivery["state"];
    },
  ): Promise<Page<WebhookDelivery>> {
    const webhooks = webhook === undefined
      ? (await this.list(actor)).map(({ id }) => id)
      : [(await this.one(actor, webhook)).id];
    return await this.#options.store.deliveries({ ...query, webhooks });
  }
}
