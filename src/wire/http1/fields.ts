/**
 * HTTP fields (RFC 9110 §5): names in lower case, in the order received.
 *
 * @module
 */

/** A name in lower case, and its value without surrounding blanks. */
export type Field = readonly [name: string, value: string];

/** The only value of a field; undefined if there is none, or more than one. */
export function fieldOf(fields: readonly Field[], name: string): string | undefined {
  const values = fields.filter(([known]) => known === name);
  return values.length === 1 ? values[0]?.[1] : undefined;
}

/** The declared length of a body; undefined if there is none that is valid. */
export function contentLengthOf(fields: readonly Field[]): number | undefined {
  const text = fieldOf(fields, "content-length");
  return text !== undefined && /^\d{1,15}$/.test(text) ? Number(text) : undefined;
}

/** The members of a list that may be spread over several fields (RFC 9110 §5.6.1), in lower case. */
export function listOf(fields: readonly Field[], name: string): string[] {
  return fields.filter(([known]) => known === name)
    .flatMap(([, value]) => value.split(","))
    .map((member) => member.trim().toLowerCase())
    .filter((member) => member !== "");
}

/** Hop-by-hop fields, which aren't forwarded (RFC 9110 §7.6.1), besides those named by Connection. */
const HOP_BY_HOP: ReadonlySet<string> = new Set([
  "connection",
  "keep-alive",
  "proxy-authenticate",
  "proxy-authorization",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
]);

/** The fields without the hop-by-hop ones. */
export function endToEnd(fields: readonly Field[]): Field[] {
  const named = new Set(listOf(fields, "connection"));
  return fields.filter(([name]) => !HOP_BY_HOP.has(name) && !named.has(name));
}

/** Protocols that would carry further requests past all that is checked and set on each. */
const CARRIES_REQUESTS = /^(?:h2c|(?:http|tls)(?:\/.*)?)$/;

/**
 * The protocols that a message requests to upgrade to; undefined if there are none. Those that carry HTTP are left out: a
 * server that agreed to one would get requests that no gate has seen.
 */
export function upgradeOf(fields: readonly Field[]): string | undefined {
  if (!listOf(fields, "connection").includes("upgrade")) return undefined;
  const protocols = listOf(fields, "upgrade").filter((protocol) => !CARRIES_REQUESTS.test(protocol));
  return protocols.length === 0 ? undefined : protocols.join(", ");
}

/**
 * A filter that drops fields of these names, and those that a server can't tell from them: CGI and its successors (WSGI,
 * Rack, PHP) pass `X_Name` on as they do `X-Name`.
 */
export function fieldsWithout(names: readonly string[]): (fields: readonly Field[]) => Field[] {
  const dropped = new Set(names.map(sameForServers));
  return (fields) => fields.filter(([name]) => !dropped.has(sameForServers(name)));
}

function sameForServers(name: string): string {
  return name.replaceAll("_", "-");
}
