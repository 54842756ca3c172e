/**
 * Restricts the addresses of edges that a session master names: a master on the internet must not make agents dial into
 * their own networks.
 *
 * @module
 */
import { lookup } from "node:dns/promises";
import { SallyportError } from "../errors.ts";
import type { AddressJudge } from "../runtime/port.ts";
import { NetworkSet, normalizeIp } from "../wire/ip/networks.ts";

/** From public to this machine only. */
type Place = "public" | "private" | "loopback";

const RANK: Readonly<Record<Place, number>> = { public: 0, private: 1, loopback: 2 };
const LOOPBACK = new NetworkSet(["127.0.0.0/8", "::1", "0.0.0.0/8", "::"]);
/** RFC 1918, 6598, 3927, 4193, 4291; multicast and reserved ranges aren't public either. */
const PRIVATE = new NetworkSet([
  ...["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16", "224.0.0.0/3"],
  ...["fc00::/7", "fe80::/10", "ff00::/8", "fec0::/10"],
]);

/** Resolves a name to its addresses. */
export type Lookup = (host: string) => Promise<readonly string[]>;

/** The system's resolver. */
export const systemLookup: Lookup = async (host) =>
  (await lookup(host, { all: true })).map(({ address }) => address);

/** Whether a URL's host is this machine. */
export function isLoopbackHost(host: string): boolean {
  return literalPlace(host) === "loopback";
}

/**
 * Refuses an edge that is nearer to the agent than its session master: in a private network while the master is on the
 * internet, or on this machine while the master isn't. A name may have other addresses by the time it is dialled, so the
 * result judges those. Without `find` names are not resolved and not judged.
 *
 * @throws SallyportError `access_denied`
 */
export async function judgeEdgePlace(
  edge: string,
  master: string,
  find: Lookup | undefined,
): Promise<AddressJudge | undefined> {
  if (edge === master) return undefined;
  const [where, from] = await Promise.all([placeOf(edge, find), placeOf(master, find)]);
  if (RANK[where] <= RANK[from]) {
    const isJudged = find !== undefined && literalPlace(edge) === undefined;
    return isJudged ? (address) => RANK[addressPlace(address)] <= RANK[from] : undefined;
  }
  const what = where === "loopback" ? "this machine" : "a private network";
  throw new SallyportError(
    "access_denied",
    `Cannot use edge ${edge}: the session master ${master} isn't on ${what}, but the edge that it names is; give --edge ` +
      "HOST:PORT if that is right, or start the master with --public-address",
    { side: "config" },
  );
}

/**
 * The nearest place among a host's addresses; "public" for a name that can't be resolved, since it can't be dialled
 * either.
 */
async function placeOf(host: string, find: Lookup | undefined): Promise<Place> {
  const literal = literalPlace(host);
  if (literal !== undefined) return literal;
  const places = (await find?.(host).catch(() => []) ?? []).map(addressPlace);
  return places.sort((a, b) => RANK[b] - RANK[a])[0] ?? "public";
}

function addressPlace(address: string): Place {
  return literalPlace(address) ?? "public";
}

/** The place of an address, or of a name that is always local; undefined for other names. */
function literalPlace(host: string): Place | undefined {
  const plain = host.replace(/^\[(.*)\]$/, "$1").replace(/\.$/, "").toLowerCase();
  if (plain === "localhost" || plain.endsWith(".localhost")) return "loopback";
  const ip = normalizeIp(plain);
  if (ip === undefined) return undefined;
  return LOOPBACK.contains(ip) ? "loopback" : PRIVATE.contains(ip) ? "private" : "public";
}
