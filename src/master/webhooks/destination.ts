/**
 * Where webhooks may go. Tenants choose the addresses and the session master sends from inside the operator's network, so
 * they must not reach anything there that isn't meant for them.
 *
 * @module
 */
import { SallyportError } from "../../errors.ts";
import { fetchOver } from "../../runtime/fetch_over.ts";
import type { Runtime } from "../../runtime/port.ts";
import { type NetworkSet, normalizeIp } from "../../wire/ip/networks.ts";
import { isPublicAddress } from "../../wire/ip/public_networks.ts";

/** Longest address of a webhook. */
export const WEBHOOK_URL_MAX_LENGTH = 2_000;

/** Sends a request to a webhook. Rejects with `access_denied` where it may not go there. */
export type WebhookFetch = (request: Request) => Promise<Response>;

/** Why this can't be a webhook's address; undefined where it can. Its name is looked up when something is sent. */
export function webhookUrlFault(text: string, own: NetworkSet | undefined): string | undefined {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || (url.protocol !== "https:" && url.protocol !== "http:")) {
    return "is no address such as https://hooks.example.org/sallyport";
  }
  if (url.username + url.password !== "") return "must hold no credentials; messages are signed";
  if (url.hash !== "") return "must have no part behind #";
  if (url.protocol === "http:" && own === undefined) return "must begin with https://";
  const literal = normalizeIp(url.hostname.replace(/^\[|\]$/g, ""));
  return literal === undefined ? undefined : placeFault(literal, url, own);
}

/**
 * Sends over the internet, and to the operator's own networks where webhooks may go there; those may also do without TLS.
 * The name is looked up once, and what was judged is what is dialled. Redirects aren't followed.
 */
export function webhookFetch(
  runtime: Pick<Runtime, "dial" | "clock" | "resolve">,
  own: NetworkSet | undefined,
): WebhookFetch {
  return async (request) => {
    const url = new URL(request.url);
    const host = url.hostname.replace(/^\[|\]$/g, "");
    const addresses = await runtime.resolve(host);
    const address = addresses.find((address) => placeFault(address, url, own) === undefined);
    if (address === undefined) {
      const why = placeFault(addresses[0] ?? host, url, own);
      throw new SallyportError("access_denied", `Cannot send to ${url.host}: it ${why}`, { side: "config" });
    }
    const pinned = {
      clock: runtime.clock,
      dial: (options: Parameters<Runtime["dial"]>[0]) => runtime.dial({ ...options, host: address }),
    };
    return await fetchOver(pinned)(request);
  };
}

function placeFault(address: string, { protocol }: URL, own: NetworkSet | undefined): string | undefined {
  if (own?.contains(address) === true) return undefined;
  if (!isPublicAddress(address)) {
    return "is not on the public internet; --webhook-networks names other networks that webhooks may go to";
  }
  return protocol === "https:" ? undefined : "must begin with https://";
}
