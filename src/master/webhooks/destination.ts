/**
 * Allowed destinations of webhooks. Tenants choose the addresses and the session master sends from inside the
 * operator's network, so webhooks must not reach unrelated services there.
 *
 * @module
 */
import { SallyportError } from "../../errors.ts";
import { fetchOver } from "../../runtime/fetch_over.ts";
import type { Fetch, Runtime } from "../../runtime/port.ts";
import { untilAborted } from "../../runtime/until_aborted.ts";
import { type Changeable, current } from "../changeable.ts";
import { type NetworkSet, normalizeIp } from "../../wire/ip/networks.ts";
import { isPublicAddress } from "../../wire/ip/public_networks.ts";
import { unbracketed } from "../../wire/ip/host_port.ts";

/** Maximum length of a webhook's URL. */
export const WEBHOOK_URL_MAX_LENGTH = 2_000;

/** Characters of a URI (RFC 3986 §2). `URL` also accepts others, and converts them. */
const URI = /^(?:[\w.~:/?#[\]@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+$/;

/** Why this can't be a webhook's address; undefined if it can. Its name is resolved when something is sent. */
export function webhookUrlFault(text: string, own: NetworkSet | undefined): string | undefined {
  const url = URI.test(text) && URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || (url.protocol !== "https:" && url.protocol !== "http:")) {
    return "isn't a URL such as https://hooks.example.org/sallyport";
  }
  if (url.username + url.password !== "") return "must hold no credentials; messages are signed";
  if (url.hash !== "") return "must have no fragment (#)";
  if (url.protocol === "http:" && own === undefined) return "must begin with https://";
  const literal = normalizeIp(unbracketed(url.hostname));
  return literal === undefined ? undefined : placeFault(literal, url, own);
}

/**
 * Sends over the internet, and to the operator's own networks if webhooks may reach them; those may also be used
 * without TLS. The name is resolved once, and the checked address is the one dialled. Redirects aren't followed.
 * Rejects with `access_denied` if the destination isn't allowed.
 */
export function webhookFetch(
  runtime: Pick<Runtime, "dial" | "clock" | "resolve">,
  networks: Changeable<NetworkSet | undefined>,
): Fetch {
  return async (request) => {
    const own = current(networks);
    const url = new URL(request.url);
    const host = unbracketed(url.hostname);
    const addresses = await untilAborted(runtime.resolve(host), request.signal);
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
