/**
 * Targets of the TCP proxy, as named by an address's segments (docs/protocols/snocat.md, proxy-tcp).
 *
 * @module
 */
import { isIPv4, isIPv6 } from "node:net";
import { SallyportError } from "../../errors.ts";
import { canonicalHostname } from "../hostname.ts";

/** The service's segment. */
export const PROXY_TCP = "proxy-tcp";

/** How a target's host is given: an address of one family, or a name with addresses of one or both families. */
export type ProxyHostKind = "ip4" | "ip6" | "dns" | "dns4" | "dns6";

/** The address to dial; without a host, the dialling side itself. */
export interface ProxyTarget {
  readonly host?: { readonly kind: ProxyHostKind; readonly name: string };
  /** 1–65535. */
  readonly port: number;
}

const KINDS: readonly string[] = ["ip4", "ip6", "dns", "dns4", "dns6"];

/**
 * The target given by the segments after `proxy-tcp`: `tcp/PORT` or `KIND/HOST/tcp/PORT`. A name may be an IP address
 * in text. Throws `address_invalid`.
 */
export function parseProxyTarget(segments: readonly string[]): ProxyTarget {
  const [kind = "", name = ""] = segments;
  const [tcp, port, ...more] = kind === "tcp" ? segments : segments.slice(2);
  if (tcp !== "tcp" || more.length > 0) throw invalid("it isn't tcp/PORT or KIND/HOST/tcp/PORT");
  if (!/^[1-9]\d{0,4}$/.test(port ?? "") || Number(port) > 65_535) throw invalid("its port isn't 1 to 65535");
  if (kind === "tcp") return { port: Number(port) };
  if (!KINDS.includes(kind)) throw invalid(`its host is invalid of ${KINDS.join(", ")}`);
  return { host: { kind: kind as ProxyHostKind, name: checkHost(kind, name) }, port: Number(port) };
}

/** The segments of the whole address. */
export function proxySegments({ host, port }: ProxyTarget): string[] {
  return [PROXY_TCP, ...host === undefined ? [] : [host.kind, host.name], "tcp", String(port)];
}

function checkHost(kind: string, name: string): string {
  // A zone names an interface of the dialling side, which the other side must not select.
  const ipv6 = isIPv6(name) && !name.includes("%");
  const dotted = isIPv4(name);
  if (kind === "ip4" ? dotted : kind === "ip6" ? ipv6 : dotted || ipv6) return name;
  if (kind === "ip4" || kind === "ip6") throw invalid(`its host isn't an ${kind} address`);
  try {
    return canonicalHostname(name);
  } catch (cause) {
    throw invalid("its host isn't a name", cause);
  }
}

function invalid(why: string, cause?: unknown): SallyportError {
  return new SallyportError("address_invalid", `Cannot parse proxy-tcp address: ${why}`, {
    side: "peer",
    cause,
  });
}
