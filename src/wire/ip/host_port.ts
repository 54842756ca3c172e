/**
 * HOST:PORT as text, with an IPv6 address in brackets.
 *
 * @module
 */

/** A host and a port. `host` is a name or an IP address, IPv6 without brackets. */
export interface HostPort {
  readonly host: string;
  readonly port: number;
  /** File descriptor of a socket that listens there already. */
  readonly descriptor?: number;
}

/** Writes HOST:PORT, IPv6 in brackets. */
export function formatHostPort({ host, port }: HostPort): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

/** `host` without the brackets that a URL has around an IPv6 address. */
export function unbracketed(host: string): string {
  return host.replace(/^\[|\]$/g, "");
}

/** The parts of a text as {@link splitHostPort} finds them. */
interface HostPortParts {
  readonly host: string;
  /** Whether the host was in brackets, as an IPv6 address must be. */
  readonly isBracketed: boolean;
  /** Up to 99999; undefined if the text has none. */
  readonly port: number | undefined;
}

/**
 * Splits HOST, HOST:PORT, [HOST] or [HOST]:PORT; undefined for any other form. The caller judges host and port: neither
 * is checked.
 */
export function splitHostPort(text: string): HostPortParts | undefined {
  const match = /^(?:\[([^[\]]*)\]|([^:[\]]*))(?::(\d{1,5}))?$/.exec(text);
  if (match === null) return undefined;
  const [, bracketed, plain = "", digits] = match;
  return {
    host: bracketed ?? plain,
    isBracketed: bracketed !== undefined,
    port: digits === undefined ? undefined : Number(digits),
  };
}
