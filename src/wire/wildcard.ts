/**
 * Wildcard names, `*.home.example.org`: they match one label, as in certificates (RFC 6125 §6.4.3), so at most one
 * covers a name.
 *
 * @module
 */
import { SallyportError } from "../errors.ts";
import { canonicalHostname, hostnameFault, printableName } from "./hostname.ts";

const PREFIX = "*.";

/** Whether this is a wildcard name. */
export function isWildcard(name: string): boolean {
  return name.startsWith(PREFIX);
}

/** Why `text` isn't a host name or a wildcard name; undefined if it is one. */
export function servedNameFault(text: string): string | undefined {
  if (!isWildcard(text)) return text.includes("*") ? misplaced(text) : hostnameFault(text);
  const parent = text.slice(PREFIX.length);
  if (parent.includes("*")) return misplaced(text);
  const fault = hostnameFault(parent);
  if (fault !== undefined) return `behind "*.": ${fault}`;
  const labels = parent.replace(/\.$/, "").split(".");
  return labels.length < 2 ? "a wildcard needs two labels after its *, such as *.example.org" : undefined;
}

/**
 * The canonical form of a name that an agent serves: a host name or a wildcard name, in lower case, without a trailing
 * dot.
 *
 * @throws SallyportError `unrecognized_name`, naming what is wrong.
 */
export function canonicalServedName(text: string): string {
  const fault = servedNameFault(text);
  if (fault !== undefined) {
    throw new SallyportError("unrecognized_name", `Cannot use name "${printableName(text)}": ${fault}`, {
      side: "peer",
    });
  }
  return isWildcard(text) ? PREFIX + canonicalHostname(text.slice(PREFIX.length)) : canonicalHostname(text);
}

/** The only wildcard name that covers this canonical host name; undefined if none can. */
export function wildcardOf(hostname: string): string | undefined {
  const dot = hostname.indexOf(".");
  const parent = hostname.slice(dot + 1);
  return dot <= 0 || !parent.includes(".") ? undefined : PREFIX + parent;
}

/** Whether a canonical served name, which may be a wildcard, covers a canonical host name or is the same. */
export function coversName(served: string, name: string): boolean {
  return served === name || (isWildcard(served) && !isWildcard(name) && wildcardOf(name) === served);
}

function misplaced(text: string): string {
  return `it has a * elsewhere than as its whole first label: *.${
    text.replaceAll("*", "").replace(/^\.+/, "")
  }`;
}
