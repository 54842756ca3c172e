/**
 * `webhooks`: the endpoints that a session master notifies of events.
 *
 * @module
 */
import { readFileSync } from "node:fs";
import { errorMessage, SallyportError } from "../errors.ts";
import { addExamples, type CliContext, type Command, several } from "./command.ts";
import { manages, printDone, printEntries, printEntry } from "./manage.ts";

interface WebhookAnswer {
  readonly id: string;
  readonly url: string;
  readonly tenant: string;
  readonly events: readonly string[];
  readonly dropped: number;
}

interface DeliveryAnswer {
  readonly id: string;
  readonly webhook: string;
  readonly event: string;
  readonly state: string;
  readonly created_at: string;
  readonly attempts: number;
  readonly next_at: string | null;
  readonly status: number | null;
  readonly error: string | null;
}

/** Adds the commands. */
export function addWebhooks(program: Command, context: CliContext): void {
  const webhooks = program.command("webhooks").description(
    "Notify URLs when an agent goes online or offline, a certificate is about to expire, or a monthly byte limit is " +
      "reached.\nMessages are signed according to Standard Webhooks 1.0.",
  );
  const add = webhooks.command("add").argument("<url>", "https:// URL that receives the messages")
    .description(
      "Add a webhook, and print the secret that its messages are signed with, once.",
    )
    .option(
      "--event <event>",
      "agent.online, agent.offline, certificate.expiring, quota.reached; repeatable; default: all",
      several,
    )
    .option("--tenant <name>", "tenant whose events are sent, * for all; default: that of the key")
    .option("--secret-file <file>", "your own secret, whsec_ and base64; default: a random one");
  addExamples(add, context.io, [
    {
      what: "when agents disconnect",
      args: "webhooks add https://hooks.example.org/x --event agent.offline",
    },
  ]);
  manages(add, context, async (master, [url], { event, tenant, secretFile }) => {
    const secret = secretFile === undefined ? undefined : readSecret(secretFile);
    printEntry(master, await master.call("POST", "/v1/webhooks", { url, events: event, tenant, secret }));
  });
  manages(webhooks.command("list").description("List webhooks."), context, async (master) => {
    const { items } = await master.call("GET", "/v1/webhooks") as {
      readonly items: readonly WebhookAnswer[];
    };
    printEntries(master, items, [
      ["URL", ({ url }) => url],
      ["EVENTS", ({ events }) => events],
      ["TENANT", ({ tenant }) => tenant],
      ["DROPPED", ({ dropped }) => dropped],
      ["ID", ({ id }) => id],
    ], "There are no webhooks.");
  });
  const test = webhooks.command("test").argument("<webhook>", "its id").description(
    "Send a test message to a webhook, and report the outcome.",
  );
  manages(test, context, async (master, [id]) => {
    const path = `/v1/webhooks/${encodeURIComponent(id ?? "")}/test`;
    const sent = await master.call("POST", path) as DeliveryAnswer;
    if (master.json) master.io.out(JSON.stringify(sent, undefined, 2));
    else if (sent.state === "delivered") master.io.out(`Delivered: it answered ${sent.status}.`);
    if (sent.state === "delivered") return;
    throw new SallyportError("endpoint_unreachable", `Cannot deliver to webhook ${id}: ${sent.error}`, {
      side: "peer",
    });
  });
  const remove = webhooks.command("remove").argument("<webhook>", "its id").description(
    "Remove a webhook and its pending messages.",
  );
  manages(remove, context, async (master, [id]) => {
    await master.call("DELETE", `/v1/webhooks/${encodeURIComponent(id ?? "")}`);
    printDone(master, { id, removed: true }, `Removed ${id}.`);
  });
  const log = webhooks.command("log").description("Show the messages and their outcomes, newest first.")
    .option("--webhook <id>", "only messages of this webhook")
    .option("--state <state>", "waiting, delivered or failed")
    .option("--limit <count>", "number of messages", "50");
  manages(log, context, async (master, _, { webhook, state, limit }) => {
    const query = { webhook, state };
    const found = await master.list("/v1/webhook-deliveries", query, Number(limit) || 50) as DeliveryAnswer[];
    printEntries(master, found, [
      ["AT", ({ created_at }) => created_at],
      ["EVENT", ({ event }) => event],
      ["STATE", ({ state }) => state],
      ["ATTEMPTS", ({ attempts }) => attempts],
      ["ANSWER", ({ status }) => status],
      ["WHY", ({ error }) => error],
      ["NEXT", ({ next_at }) => next_at],
      ["WEBHOOK", ({ webhook }) => webhook],
    ], "There are no messages.");
  });
}

function readSecret(path: string): string {
  try {
    return readFileSync(path, "utf8").trim();
  } catch (cause) {
    const why = `Cannot read secret from ${path}: ${errorMessage(cause)}`;
    throw new SallyportError("config_invalid", why, { side: "config", cause });
  }
}
