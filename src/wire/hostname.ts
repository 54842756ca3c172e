/**
 * Hostnames as routing keys, and as text for logs.
 *
 * @module
 */
import { isIP } from "node:net";
import { SallyportError } from "../errors.ts";

/** DNS: a name has at most 253 characters in text form. */
export const HOSTNAME_MAX_LENGTH = 253;

const LABEL_MAX_LENGTH = 63;

const GOOD_NAME = /^(?:[a-z0-9_-]{1,63}\.)*[a-z][a-z0-9_-]{0,62}$/i;

/**
 * The canonical form of a hostname used for routing: lower-case ASCII, without a trailing dot. Labels have 1 to 63
 * characters of `a-z 0-9 - _` (RFC 1123 §2.1, plus the underscore seen in practice), the whole name at most 253. IP
 * addresses and wildcards aren't hostnames.
 *
 * @throws SallyportError `unrecognized_name`, naming what is wrong.
 */
export function canonicalHostname(text: string): string {
  const fault = hostnameFault(text);
  if (fault !== undefined) {
    throw new SallyportError("unrecognized_name", `Cannot use hostname "${printableName(text)}": ${fault}`, {
      side: "peer",
    });
  }
  return canonicalSpelling(text);
}

/** The same for a name that {@link hostnameFault} accepts. */
export function canonicalSpelling(text: string): string {
  return strip(text).toLowerCase();
}

/** Whether `host` may name a server to dial. 999.1.1.1 may not: it is a mistyped address, since no top-level domain is all digits. */
export function isHostname(host: string): boolean {
  return hostnameFault(host) === undefined && !/(^|\.)\d+\.?$/.test(host);
}

/** Why `text` isn't a hostname; undefined if it is one. */
export function hostnameFault(text: string): string | undefined {
  const name = strip(text);
  if (name.length === 0) return "it is empty";
  if (name.length > HOSTNAME_MAX_LENGTH) {
    return `it has ${name.length} characters, at most ${HOSTNAME_MAX_LENGTH} are allowed`;
  }
  // Fast path: most names are valid, and no IP address ends in a label that begins with a letter.
  if (GOOD_NAME.test(name)) return undefined;
  // deno-lint-ignore no-control-regex
  if (/[^\x00-\x7f]/.test(name)) {
    return "it has characters beyond ASCII; internationalised names start with xn--";
  }
  if (isIP(name) !== 0) return "it is an IP address";
  for (const label of name.split(".")) {
    if (label.length === 0) return "it has an empty label";
    if (label.length > LABEL_MAX_LENGTH) {
      return `a label has ${label.length} characters, at most ${LABEL_MAX_LENGTH} are allowed`;
    }
    if (!/^[a-z0-9_-]+$/i.test(label)) return "it has characters other than letters, digits, - and _";
  }
  return undefined;
}

/**
 * Makes a peer's text safe for logs: quotes, backslashes and anything but printable ASCII are escaped; text longer than
 * `maxLength` UTF-16 units is truncated and marked with "…".
 */
export function printableName(text: string, maxLength = 80): string {
  const escaped = text.slice(0, maxLength).replace(
    /[^\x20-\x7e]|["\\]/gu,
    (character) => `\\u{${(character.codePointAt(0) ?? 0).toString(16)}}`,
  );
  return text.length > maxLength ? `${escaped}…` : escaped;
}

function strip(text: string): string {
  return text.endsWith(".") ? text.slice(0, -1) : text;
}
