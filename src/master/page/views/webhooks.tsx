/** @jsxImportSource hono/jsx */
/**
 * Webhooks: the list with the form for a new one, and a single webhook with the log of its messages.
 *
 * @module
 */
import {
  ALL_TENANTS,
  DELIVERY_STATES,
  EVENT_TYPES,
  type Webhook,
  type WebhookDelivery,
} from "../../model.ts";
import type { Page } from "../../store/store.ts";
import { countText, webhookPath } from "../format.ts";
import {
  Badge,
  Card,
  Choice,
  CloseDialog,
  Confirmed,
  Copyable,
  Dialog,
  Empty,
  type Html,
  Pages,
  Shell,
  Table,
  Time,
  Token,
  type Viewer,
  Wrong,
} from "../layout.tsx";

/** The form that adds a webhook. */
export interface WebhookFields {
  readonly url: string;
  readonly tenant: string;
  readonly events: readonly string[];
}

/** What each event means, for people. */
const MEANINGS: Readonly<Record<(typeof EVENT_TYPES)[number], string>> = {
  "agent.online": "An agent has its first session.",
  "agent.offline": "An agent has had no session for 30 seconds.",
  "certificate.expiring": "An agent's certificate expires soon; its renewal must have failed.",
  "quota.reached": "An agent has used its bytes of the month.",
};

/** Lists webhooks and their latest messages, with the form for a new one. */
export function WebhooksView({ viewer, webhooks, recent, form, wrong, made, done }: {
  readonly viewer: Viewer;
  readonly webhooks: readonly Webhook[];
  readonly recent: readonly WebhookDelivery[];
  readonly form?: WebhookFields;
  readonly wrong?: string;
  /** A new webhook; its secret is shown only once. */
  readonly made?: Webhook;
  readonly done?: string | undefined;
}): Html {
  return (
    <Shell viewer={viewer} at="/page/webhooks" title="Webhooks" done={done}>
      {wrong !== undefined && <Wrong>{wrong}</Wrong>}
      {made !== undefined && (
        <div class="card made" role="status">
          <Copyable
            id="made"
            label={`Secret that signs messages to ${hostOf(made)}; it is not shown again`}
            text={made.secret}
          />
          <p>
            Give it to the receiver, then <a href={webhookPath(made.id)}>send a test message</a>.
          </p>
        </div>
      )}
      <div class="card">
        {webhooks.length === 0
          ? (
            <Empty icon="webhooks" title="No webhooks yet">
              <p>
                A webhook is an address of yours that gets a signed message when an agent comes or goes, a
                certificate is about to expire, or a month's bytes are used up.
              </p>
            </Empty>
          )
          : <WebhooksTable viewer={viewer} webhooks={webhooks} />}
      </div>
      {recent.length > 0 && (
        <Card title="Latest messages">
          <div id="deliveries" data-live="">
            <DeliveriesTable deliveries={recent} webhooks={webhooks} />
          </div>
        </Card>
      )}
      {viewer.mayChange && <AddWebhook viewer={viewer} {...(form === undefined ? {} : { form })} />}
    </Shell>
  );
}

function WebhooksTable(
  { viewer, webhooks }: { readonly viewer: Viewer; readonly webhooks: readonly Webhook[] },
): Html {
  const columns = ["Receiver", "Events", ...viewer.allTenants ? ["Tenant"] : [], "Added", "Dropped"];
  return (
    <Table
      caption="Webhooks"
      columns={columns.map((name) => ({ name, number: name === "Dropped" }))}
      rows={webhooks.map((webhook) => [
        <Receiver webhook={webhook} />,
        eventsText(webhook),
        ...viewer.allTenants ? [tenantText(webhook)] : [],
        <Time ms={webhook.createdAtMs} />,
        countText(webhook.dropped),
      ])}
    />
  );
}

/** The host as a link, with the path below it. */
function Receiver({ webhook }: { readonly webhook: Webhook }): Html {
  return (
    <>
      <a class="strong" href={webhookPath(webhook.id)}>{hostOf(webhook)}</a>
      <small class="below code">{pathOf(webhook)}</small>
    </>
  );
}

function AddWebhook({ viewer, form = { url: "", tenant: "", events: EVENT_TYPES } }: {
  readonly viewer: Viewer;
  readonly form?: WebhookFields;
}): Html {
  return (
    <form class="card stack form" method="post" action="/page/webhooks">
      <h2>Add a webhook</h2>
      <Token viewer={viewer} />
      <div class="field">
        <label for="url">Address</label>
        <input
          id="url"
          name="url"
          type="url"
          required
          maxlength={2000}
          value={form.url}
          autocomplete="off"
          placeholder="https://hooks.example.org/sallyport"
          aria-describedby="url-hint"
        />
        <small id="url-hint">
          https and a public address, unless --webhook-networks permits your own networks.
        </small>
      </div>
      <fieldset>
        <legend>Events</legend>
        <div class="checks">
          {EVENT_TYPES.map((event) => (
            <label class="check">
              <input
                type="checkbox"
                name="event"
                value={event}
                {...(form.events.includes(event) ? { checked: true } : {})}
              />
              <span>
                <span class="code">{event}</span>
                <small class="below">{MEANINGS[event]}</small>
              </span>
            </label>
          ))}
        </div>
      </fieldset>
      {viewer.allTenants && (
        <div class="field">
          <label for="tenant">Tenant</label>
          <input
            id="tenant"
            name="tenant"
            maxlength={64}
            value={form.tenant}
            autocomplete="off"
            placeholder="all"
            aria-describedby="tenant-hint"
          />
          <small id="tenant-hint">Only events of its agents are sent.</small>
        </div>
      )}
      <div class="actions">
        <button type="submit">Add webhook</button>
      </div>
    </form>
  );
}

/** One webhook, its actions, and the log of its messages. */
export function WebhookView({ viewer, webhook, deliveries, state, cursor, done }: {
  readonly viewer: Viewer;
  readonly webhook: Webhook;
  readonly deliveries: Page<WebhookDelivery>;
  /** The state that messages are filtered by; empty for all. */
  readonly state: string;
  readonly cursor: string | undefined;
  readonly done: string | undefined;
}): Html {
  const path = webhookPath(webhook.id);
  return (
    <Shell
      viewer={viewer}
      at="/page/webhooks"
      title={hostOf(webhook)}
      back={["/page/webhooks", "Webhooks"]}
      done={done}
      actions={viewer.mayChange && (
        <>
          <form method="post" action={`${path}/test`}>
            <Token viewer={viewer} />
            <button type="submit" class="quiet">Send test message</button>
          </form>
          <Confirmed
            id="remove"
            name="Remove"
            title={`Remove the webhook ${hostOf(webhook)}?`}
            confirm="Remove"
            action={`${path}/remove`}
            viewer={viewer}
          >
            <p>Messages that wait for it are dropped, and its log is deleted. This can't be undone.</p>
          </Confirmed>
        </>
      )}
    >
      <div class="card">
        <dl class="plain">
          <dt>Address</dt>
          <dd class="code">{webhook.url}</dd>
          <dt>Events</dt>
          <dd>{eventsText(webhook)}</dd>
          {viewer.allTenants && (
            <>
              <dt>Tenant</dt>
              <dd>{tenantText(webhook)}</dd>
            </>
          )}
          <dt>Added</dt>
          <dd>
            <Time ms={webhook.createdAtMs} />
          </dd>
          {webhook.dropped > 0 && (
            <>
              <dt>Dropped</dt>
              <dd>{`${countText(webhook.dropped)} events, since too many messages were waiting`}</dd>
            </>
          )}
        </dl>
      </div>
      <form class="row" method="get" action={path}>
        <label>
          Messages
          <select name="state">
            <Choice value="" chosen={state}>All</Choice>
            {DELIVERY_STATES.map((known) => <Choice value={known} chosen={state}>{known}</Choice>)}
          </select>
        </label>
        <button type="submit" class="quiet">Show</button>
      </form>
      <div class="card" id="deliveries" data-live="">
        {deliveries.items.length === 0
          ? (
            <Empty icon="webhooks" title={state === "" ? "No messages yet" : "No such messages"}>
              <p>Messages are kept here for a week.</p>
            </Empty>
          )
          : <DeliveriesTable deliveries={deliveries.items} />}
      </div>
      <Pages path={path} next={deliveries.next} cursor={cursor} query={{ state }} />
    </Shell>
  );
}

/** A table of messages; with `webhooks` for several receivers, without the number of attempts. */
function DeliveriesTable({ deliveries, webhooks }: {
  readonly deliveries: readonly WebhookDelivery[];
  readonly webhooks?: readonly Webhook[];
}): Html {
  const columns = [
    { name: "Time" },
    { name: "Event" },
    ...webhooks === undefined ? [] : [{ name: "Receiver" }],
    { name: "State" },
    ...webhooks === undefined ? [{ name: "Attempts", number: true }] : [],
    { name: "Outcome" },
    { name: "Action", quiet: true, number: true },
  ];
  const rows = deliveries.map((delivery, at) => [
    <Time ms={delivery.createdAtMs} />,
    <span class="code whole">{delivery.event}</span>,
    ...webhooks === undefined ? [] : [<ReceiverLink id={delivery.webhook} webhooks={webhooks} />],
    <State state={delivery.state} />,
    ...webhooks === undefined ? [countText(delivery.attempts)] : [],
    <Outcome delivery={delivery} />,
    <Message id={`message-${at}`} delivery={delivery} />,
  ]);
  return <Table caption="Messages" columns={columns} rows={rows} />;
}

function Message({ id, delivery }: { readonly id: string; readonly delivery: WebhookDelivery }): Html {
  return (
    <Dialog id={id} name="Show" label={`Show the message ${delivery.id}`} title={delivery.event}>
      <p class="faint code">{delivery.id}</p>
      <pre class="code" tabindex={0}>{indented(delivery.body)}</pre>
      <div class="actions">
        <CloseDialog id={id} name="Close" />
      </div>
    </Dialog>
  );
}

function ReceiverLink(
  { id, webhooks }: { readonly id: string; readonly webhooks: readonly Webhook[] },
): Html {
  const webhook = webhooks.find((known) => known.id === id);
  return <a class="whole" href={webhookPath(id)}>{webhook === undefined ? id : hostOf(webhook)}</a>;
}

function State({ state }: Pick<WebhookDelivery, "state">): Html {
  const kind = { waiting: "wait", delivered: "good", failed: "bad" } as const;
  return <Badge kind={kind[state]}>{state}</Badge>;
}

function Outcome(
  { delivery: { state, status, error, nextAtMs } }: { readonly delivery: WebhookDelivery },
): Html {
  return (
    <>
      {error ?? (status === undefined ? "–" : `status ${status}`)}
      {state === "waiting" && nextAtMs !== undefined && (
        <small class="below">
          next attempt <Time ms={nextAtMs} />
        </small>
      )}
    </>
  );
}

function hostOf({ url }: Webhook): string {
  return new URL(url).host;
}

function pathOf({ url }: Webhook): string {
  const { pathname, search } = new URL(url);
  return pathname + search;
}

function eventsText({ events }: Webhook): string {
  return events.length === EVENT_TYPES.length ? "all" : events.join(", ");
}

function tenantText({ tenant }: Webhook): string {
  return tenant === ALL_TENANTS ? "all" : tenant;
}

function indented(body: string): string {
  return JSON.stringify(JSON.parse(body), undefined, 2);
}
