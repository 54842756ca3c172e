/**
 * The page's views and forms of webhooks and their messages.
 *
 * @module
 */
import { WebhookCreateSchema } from "../api/webhooks.ts";
import { DELIVERY_STATES } from "../model.ts";
import { type Problem, schemaProblem } from "../problem.ts";
import { webhookPath } from "./format.ts";
import { idOf, type PageHost, pageOf, type Visit, wrongOf } from "./host.ts";
import { type WebhookFields, WebhooksView, WebhookView } from "./views/webhooks.tsx";

/** Maximum number of messages in the list of webhooks. */
const RECENT_DELIVERIES = 10;

/** Adds the paths below `/page/webhooks`. */
export function addWebhookPages(host: PageHost): void {
  const { webhooks } = host.parts.management;
  const hooks = async ({ c, actor, viewer }: Visit) => ({
    viewer,
    webhooks: await webhooks.list(actor),
    recent: (await webhooks.deliveries(actor, { limit: RECENT_DELIVERIES })).items,
    done: c.req.query("done"),
  });
  host.shows("/page/webhooks", async (visit) => WebhooksView(await hooks(visit)));
  host.changes("/page/webhooks", async (visit, fields) => {
    const { c, actor } = visit;
    const field = (name: string) => (fields.get(name) ?? "").trim();
    const form: WebhookFields = {
      url: field("url"),
      tenant: field("tenant"),
      events: fields.getAll("event"),
    };
    try {
      const wanted = WebhookCreateSchema.safeParse({
        url: form.url,
        events: form.events,
        ...form.tenant === "" ? {} : { tenant: form.tenant },
      });
      if (!wanted.success) throw schemaProblem("Cannot add webhook", wanted.error);
      const made = await webhooks.add(actor, { tenant: actor.tenant, ...wanted.data });
      return await c.html(WebhooksView({ ...await hooks(visit), made }));
    } catch (error) {
      const wrong = wrongOf(error).message;
      return await c.html(WebhooksView({ ...await hooks(visit), form, wrong }), (error as Problem).status);
    }
  });
  host.shows("/page/webhooks/:id", async ({ c, actor, viewer }) => {
    const webhook = await webhooks.one(actor, idOf(c));
    const paged = pageOf(c);
    const state = DELIVERY_STATES.find((known) => known === c.req.query("state"));
    const wanted = { ...paged, webhook: webhook.id, ...state === undefined ? {} : { state } };
    return WebhookView({
      ...{ viewer, webhook, cursor: paged.cursor, done: c.req.query("done") },
      state: state ?? "",
      deliveries: await webhooks.deliveries(actor, wanted),
    });
  });
  host.changes("/page/webhooks/:id/test", async ({ c, actor }) => {
    const { webhook, state } = await webhooks.test(actor, idOf(c));
    const done = state === "delivered" ? "webhook-tested" : "webhook-test-failed";
    return c.redirect(`${webhookPath(webhook)}?done=${done}`, 303);
  });
  host.changes("/page/webhooks/:id/remove", async ({ c, actor }) => {
    await webhooks.remove(actor, idOf(c));
    return c.redirect("/page/webhooks?done=webhook-removed", 303);
  });
}
