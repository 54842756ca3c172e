/**
 * The head of an HTTP/2 request, made from its fields (RFC 9113 §8).
 *
 * @module
 */
import { type Field, fieldOf } from "../http1/fields.ts";
import { HTTP_FIELDS_MAX, isAuthority, type RequestHead } from "../http1/head.ts";

/**
 * A head; or a fault: "malformed" breaks the protocol, "bad" is a request that can't be served.
 */
type RequestOutcome =
  | { readonly kind: "head"; readonly head: RequestHead }
  | { readonly kind: "malformed" }
  | { readonly kind: "bad" };

const MALFORMED = { kind: "malformed" } as const;
const BAD = { kind: "bad" } as const;

const NAME = /^[!#$%&'*+.^_`|~0-9a-z-]+$/;
const VALUE = /^[\t\x20-\x7e\x80-\xff]*$/;
const METHOD = /^[A-Z]{1,32}$/;
const TARGET = /^[\x21\x22\x24-\x7e]+$/;
const PSEUDO: ReadonlySet<string> = new Set([":method", ":scheme", ":authority", ":path"]);
/** Fields of HTTP/1.1's connections, which have no place here (RFC 9113 §8.2.2). */
const OF_CONNECTIONS: ReadonlySet<string> = new Set(
  ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"],
);

/** Reads the fields of a request. */
export function readRequestFields(received: readonly Field[]): RequestOutcome {
  if (received.length > HTTP_FIELDS_MAX) return BAD;
  const pseudo = new Map<string, string>();
  const fields: Field[] = [];
  const cookies: string[] = [];
  for (const field of received) {
    const [name, value] = field;
    if (name.startsWith(":")) {
      if (!PSEUDO.has(name) || pseudo.has(name) || fields.length + cookies.length > 0) return MALFORMED;
      pseudo.set(name, value);
      continue;
    }
    // Text inserted into a line of HTTP/1.1 must not end it.
    if (!NAME.test(name) || !VALUE.test(value) || OF_CONNECTIONS.has(name)) return MALFORMED;
    if (name === "te" && value.toLowerCase() !== "trailers") return MALFORMED;
    // RFC 9113 §8.2.3: split cookie fields are joined into one for other versions.
    if (name === "cookie") cookies.push(value);
    else fields.push(field);
  }
  if (cookies.length > 0) fields.push(["cookie", cookies.join("; ")]);
  const [method, target, scheme] = [pseudo.get(":method"), pseudo.get(":path"), pseudo.get(":scheme")];
  if (method === "CONNECT") return BAD;
  if (method === undefined || !target || scheme === undefined) return MALFORMED;
  const authority = (pseudo.get(":authority") ?? fieldOf(fields, "host") ?? "").toLowerCase();
  const isPath = target.startsWith("/") || (target === "*" && method === "OPTIONS");
  if (!METHOD.test(method) || !isPath || !TARGET.test(target) || !isAuthority(authority)) return BAD;
  return { kind: "head", head: { method, target, authority, fields } };
}

/** Whether fields after a body are allowed: they are dropped, but must be proper ones. */
export function areTrailers(fields: readonly Field[]): boolean {
  return fields.every(([name, value]) => NAME.test(name) && VALUE.test(value));
}
