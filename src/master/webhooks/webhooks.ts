/**
 * Webhooks as an operator sees them: adding, trying and removing them, and the log of their messages.
 *
 * @module
 */
import { randomBytes } from "node:crypto";
import type { Clock } from "../../runtime/port.ts";
import type { NetworkSet } from "../../wire/ip/networks.ts";
import { type Actor, auditEntry, requireTenant, sees, shown } from "../actor.ts";
import { EVENT_TYPES, type EventType, type Webhook, type WebhookDelivery } from "../model.ts";
import { bodyFault, Problem, unprocessable } from "../problem.ts";
import type { Page, PageQuery, Store } from "../store/store.ts";
import { webhookUrlFault } from "./destination.ts";
import type { WebhookSender } from "./sender.ts";
import { makeWebhookSecret } from "./signature.ts";

/** Webhooks of one tenant, and of those that are told of all tenants. */
export const WEBHOOKS_MAX = 16;

/** What {@link Webhooks} works with. */
interface WebhooksOptions {
  readonly store: Store;
  readonly clock: Clock;
  /** Absent where nothing is sent: webhooks can be set, and their messages wait. */
  readonly sender?: WebhookSender;
  /** The operator's own networks that webhooks may go to. */
  readonly networks?: NetworkSet;
}

/** What is wanted of a new webhook. */
interface NewWebhook {
  readonly url: string;
  readonly tenant: string;
  /** All when absent. */
  readonly events?: readonly EventType[];
  /** A random one when absent. */
  readonly secret?: string;
}

/** See the module. Throws {@link Problem}s, which name the member at fault. */
export class Webhooks {
  readonly #options: WebhooksOptions;

  constructor(options: WebhooksOptions) {
    this.#options = options;
  }

  async add(actor: Actor, wanted: NewWebhook): Promise<Webhook> {
    const { store, clock, networks } = this.#options;
    requireTenant(actor, wanted.tenant);
    const fault = webhookUrlFault(wanted.url, networks);
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
    // The path may be a secret of the receiver's: the log names the host.
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

  /** Removes a webhook, its log, and the messages that wait for it. */
  async remove(actor: Actor, id: string): Promise<void> {
    const { store, clock } = this.#options;
    const webhook = await this.one(actor, id);
    const { host } = new URL(webhook.url);
    await store.removeWebhook(id, auditEntry(actor, clock.wallMs(), "webhook.removed", webhook, { host }));
  }

  /** Sends a message that says nothing, and says what became of it. */
  async test(actor: Actor, id: string): Promise<WebhookDelivery> {
    const { sender, clock } = this.#options;
    const webhook = await this.one(actor, id);
    const { tenant } = webhook;
    const event = { type: "webhook.test" as const, tenant, atMs: clock.wallMs(), data: { webhook: id } };
    const sent = await sender?.sendNow(id, event);
    if (sent === undefined) throw new Problem(409, "Cannot test webhook: it has just been removed");
    return sent;
  }

  /** The log of messages, the newest first; of one webhook, or of all that the actor sees. */
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
