/**
 * Value types of settings: zod schemas from text to value. Their messages give the expected form, and never repeat a
 * secret.
 *
 * @module
 */
import { DAY_MS } from "../calendar.ts";
import { parseSentinelUrl } from "../cluster/redis_client.ts";
import { parseFingerprint } from "../crypto/certificate.ts";
import { Buffer } from "node:buffer";
import { isIPv4, isIPv6 } from "node:net";
import { z } from "zod";
import type { Bytes } from "../bytes/bytes.ts";
import { isFernetKey } from "../crypto/fernet.ts";
import { errorMessage } from "../errors.ts";
import type { Proxy } from "../runtime/through_proxy.ts";
import { NetworkSet } from "../wire/ip/networks.ts";
import { canonicalHostname, hostnameFault, isHostname } from "../wire/hostname.ts";
import { canonicalServedName, servedNameFault } from "../wire/wildcard.ts";
import type { TlsMode } from "../agent/services/service.ts";
import { parseTarget, type Target } from "../agent/services/target.ts";
import { type JoinLink, parseJoinLink } from "../wire/token/join_link.ts";
import { parsePublishClaim, type PublishClaim } from "../wire/token/claims.ts";
import { type HostPort, splitHostPort, unbracketed } from "../wire/ip/host_port.ts";

/** Formats a string for messages: quoted, control characters escaped, truncated. */
function quote(text: string): string {
  return JSON.stringify(text.length > 100 ? `${text.slice(0, 100)}…` : text);
}

/** A schema that parses text with `read`; the message of an `Error` that it throws is used. */
export function parsed<T>(read: (text: string) => T) {
  return z.string().transform((given, context): T => {
    try {
      return read(given);
    } catch (error) {
      context.addIssue({ code: "custom", message: errorMessage(error) });
      return z.NEVER;
    }
  });
}

/** A whole number in decimal. */
function wholeNumber(given: string): number {
  return /^(0|[1-9]\d{0,15})$/.test(given) ? Number(given) : NaN;
}

/** One of some words. */
export function oneOf<const Word extends string>(words: readonly Word[]) {
  return parsed((given) => {
    const word = words.find((candidate) => candidate === given);
    if (word === undefined) throw new Error(`${quote(given)} is not one of ${words.join(", ")}`);
    return word;
  });
}

/** HOST:PORT; `portMin` is 0 if the system may choose the port. */
export function hostPort(portMin: 0 | 1, example: string) {
  return parsed((given): HostPort => {
    const { host = "", isBracketed = false, port } = splitHostPort(given) ?? {};
    if (isIPv6(given) || /^[0-9a-f:]*:[0-9a-f:]*:\d+$/i.test(given)) {
      throw new Error(
        `${quote(given)} is not HOST:PORT: an IPv6 address needs brackets, for example [::1]:8443`,
      );
    }
    const isNamed = isBracketed ? isIPv6(host) : isIPv4(host) || isHostname(host);
    if (port === undefined || !isNamed) {
      throw new Error(`${quote(given)} is not HOST:PORT, for example ${example}`);
    }
    if (port > 65535 || port < portMin) {
      throw new Error(`${quote(given)} has no port from ${portMin} to 65535`);
    }
    return { host, port };
  });
}

/** HOST or HOST:PORT. */
export const hostMaybePort = parsed((given): { readonly host: string; readonly port: number | undefined } => {
  if (isIPv4(given) || isIPv6(given) || isHostname(given)) return { host: given, port: undefined };
  const read = hostPort(1, "10.0.0.5 or edge-1.internal:8446").safeParse(given);
  if (!read.success) throw new Error(read.error.issues[0]?.message);
  return read.data;
});

/** The URL of a cluster's Redis; its password never appears in a message. */
export const redisUrl = parsed((given) => {
  const forms = "redis://HOST:PORT, rediss://HOST:PORT or redis+sentinel://HOST:PORT,HOST:PORT/MASTER";
  try {
    if (parseSentinelUrl(given) !== undefined) return given;
  } catch (error) {
    throw new Error(`the URL of the Sentinels is wrong: ${errorMessage(error)}; it is one of ${forms}`);
  }
  const url = URL.canParse(given) ? new URL(given) : undefined;
  if (url === undefined || !["redis:", "rediss:"].includes(url.protocol) || url.hostname === "") {
    throw new Error(`the URL is not one of ${forms}`);
  }
  return given;
});

/** A short label chosen by the operator. */
export const label = parsed((given) => {
  if (/^[\w.-]{1,64}$/.test(given)) return given;
  throw new Error(`${quote(given)} is not a name of at most 64 letters, digits and -_.`);
});

/** A name that an agent serves, in lower case, without a trailing dot. */
export const hostname = parsed((given) => {
  const fault = hostnameFault(given);
  if (fault !== undefined) {
    throw new Error(`${quote(given)} is not a host name such as home.example.org: ${fault}`);
  }
  return canonicalHostname(given);
});

/** The same, or a wildcard of one label. */
export const servedName = parsed((given) => {
  const fault = servedNameFault(given);
  if (fault !== undefined) {
    throw new Error(`${quote(given)} is not a host name such as home.example.org or *.example.org: ${fault}`);
  }
  return canonicalServedName(given);
});

function readTarget(given: string): Target {
  try {
    return parseTarget(given);
  } catch (error) {
    throw new Error(errorMessage(error).replace(/^Cannot use target /, ""));
  }
}

/** The target of a service. */
export const target = parsed(readTarget);

/** A name and its target. */
export const namedTarget = parsed((given) => {
  const [, name, text] = /^([^=]*)=(.*)$/s.exec(given) ?? [];
  if (name === undefined || text === undefined) {
    throw new Error(`${quote(given)} is not NAME=TARGET, for example app.example.org=http://127.0.0.1:3000`);
  }
  const read = servedName.safeParse(name);
  if (!read.success) throw new Error(read.error.issues[0]?.message);
  return { name: read.data, target: readTarget(text) };
});

/** A claim of a JWT and the value that it must have. */
export const claimValue = parsed((given) => {
  const [, claim, value] = /^([^=]+)=(.+)$/s.exec(given) ?? [];
  if (claim === undefined || value === undefined) {
    throw new Error(`${quote(given)} is not CLAIM=VALUE, for example groups=netops`);
  }
  return { claim, value };
});

/** Where TLS is terminated. */
export const tlsMode = parsed((given): TlsMode => {
  const [, certificateFile, keyFile] = /^file:([^,]+),([^,]+)$/.exec(given) ?? [];
  if (certificateFile !== undefined && keyFile !== undefined) return { certificateFile, keyFile };
  if (given === "passthrough" || given === "acme" || given === "self-signed") return given;
  throw new Error(`${quote(given)} is not passthrough, acme, self-signed or file:CERT,KEY`);
});

/** A version of the PROXY header, 0 for none. */
export const proxyVersion = oneOf(["0", "1", "2"]).transform((word) => Number(word) as 0 | 1 | 2);

/** A network or a single address; returned as given. */
export const network = parsed((given) => {
  try {
    new NetworkSet([given]);
  } catch (error) {
    throw new Error(errorMessage(error).replace("Cannot parse network: ", ""));
  }
  return given;
});

/** A whole number of `unit` within bounds. */
export function count(unit: string, min: number, max: number = Number.MAX_SAFE_INTEGER) {
  return parsed((given) => {
    const value = wholeNumber(given);
    if (value >= min && value <= max) return value;
    const range = max === Number.MAX_SAFE_INTEGER ? `of at least ${min}` : `from ${min} to ${max}`;
    throw new Error(`${quote(given)} is not a whole number of ${unit} ${range}`);
  });
}

/** Maximum number of worker processes on one machine. */
const WORKERS_MAX = 256;

/** A number of worker processes, or `auto`. */
export const workers = parsed((given): "auto" | number => {
  const value = wholeNumber(given);
  if (given === "auto") return given;
  if (value >= 1 && value <= WORKERS_MAX) return value;
  throw new Error(`${quote(given)} is neither auto nor a whole number of processes from 1 to ${WORKERS_MAX}`);
});

const SIZE_UNITS = ["", "k", "M", "G", "T"];

/** A number of bytes, with a unit or without: `500000`, `10GB` (powers of 1000), `4GiB` (of 1024). */
export const byteSize = parsed((given) => {
  const [, digits, prefix = "", binary] = /^(\d{1,15}) ?(?:(?:([kKMGT])(i?))?B)?$/.exec(given) ?? [];
  const power = SIZE_UNITS.indexOf(prefix.replace("K", "k"));
  const bytes = Number(digits) * (binary === "i" ? 1024 : 1000) ** power;
  if (Number.isSafeInteger(bytes) && bytes > 0) return bytes;
  throw new Error(`${quote(given)} is not a size such as 10GB or 512MiB`);
});

/** Below this a process has no room for its runtime and buffered bytes. */
export const MEMORY_LIMIT_MIN_BYTES = 384 * 1024 * 1024;

/** A process's memory limit. */
export const memoryLimit = byteSize.refine((bytes) => bytes >= MEMORY_LIMIT_MIN_BYTES, {
  message: "it is less than 384MiB",
});

/** 0, 1 or 2. */
export const protocolVersion = oneOf(["0", "1", "2"]).transform((word) => Number(word) as 0 | 1 | 2);

/** An `http` or `https` URL without query and credentials; returned without a trailing slash. */
export const httpUrl = parsed((given) => {
  const url = URL.canParse(given) ? new URL(given) : undefined;
  if (
    url === undefined || (url.protocol !== "https:" && url.protocol !== "http:") ||
    url.search + url.hash !== ""
  ) {
    throw new Error(`${quote(given)} is not a URL, for example https://master.example.org`);
  }
  if (url.username + url.password !== "") throw new Error("the URL must hold no credentials");
  return `${url.origin}${url.pathname}`.replace(/\/+$/, "");
});

/** A link with which an agent enrols; its code never appears in a message. */
export const joinLink = parsed((given): JoinLink => {
  const link = parseJoinLink(given);
  if (link !== undefined) return link;
  throw new Error("it isn't a join link such as https://master.example.org/#CODE, as `agents add` prints it");
});

/** A short name, for example of a machine. */
export const name = parsed((given) => {
  if (/^[\w.-]{1,64}$/.test(given)) return given;
  throw new Error(`${quote(given)} is not a name of 1 to 64 letters, digits, dots, - and _`);
});

/** The URL of an ACME directory, returned as given. */
export const httpsUrl = parsed((given) => {
  const url = URL.canParse(given) ? new URL(given) : undefined;
  if (url?.protocol !== "https:" || url.username + url.password !== "") {
    throw new Error(
      `${quote(given)} is not an https:// URL, for example https://acme-v02.api.letsencrypt.org/directory`,
    );
  }
  return given;
});

/** A mail address, checked only roughly. */
export const mail = parsed((given) => {
  if (!/^[\x21-\x7e]+@[a-z0-9.-]+$/i.test(given)) throw new Error(`${quote(given)} is not a mail address`);
  return given;
});

/** Any printable text. */
export const text = parsed((given) => {
  if (!/^[\x20-\x7e]+$/.test(given)) throw new Error(`${quote(given)} has characters that can't be printed`);
  return given;
});

/** A secret in base64url (RFC 4648 §5); its value never appears in a message. */
export const base64url = parsed((given) => {
  if (!/^[\w-]{16,}={0,2}$/.test(given)) throw new Error("it is not base64url of at least 12 bytes");
  return given;
});

/** A proxy to dial through: `http://HOST:PORT` or `socks5://HOST:PORT`, with `USER:PASSWORD@` if required. */
export const proxyUrl = parsed((given): Proxy => {
  const url = URL.canParse(given) ? new URL(given) : undefined;
  const kind = ({ "http:": "http", "socks5:": "socks5", "socks5h:": "socks5" } as const)[url?.protocol ?? ""];
  if (
    url === undefined || kind === undefined || url.hostname === "" || (url.pathname + url.search).length > 1
  ) {
    // It may contain a password.
    throw new Error(
      "it isn't a proxy such as http://127.0.0.1:3128 or socks5://USER:PASSWORD@127.0.0.1:1080",
    );
  }
  return {
    kind,
    host: unbracketed(url.hostname),
    port: Number(url.port) || (kind === "http" ? 80 : 1080),
    ...url.username === ""
      ? {}
      : { user: decodeURIComponent(url.username), password: decodeURIComponent(url.password) },
  };
});

/** A path; not empty. */
export const path = parsed((given) => {
  if (given === "" || given.includes("\0")) throw new Error(`${quote(given)} is not a path`);
  return given;
});

/** A key that goes into an `Authorization: Bearer` header (RFC 6750 §2.1); its value never appears in a message. */
export const bearerKey = parsed((given) => {
  if (given.length < 16) throw new Error(`the key has ${given.length} characters, needs at least 16`);
  if (!/^[\w.~+/-]+=*$/.test(given)) throw new Error("the key may contain only letters, digits and -._~+/=");
  return given;
});

/** A Fernet key: 32 bytes in URL-safe base64 (fernet spec, Key Format); its value never appears in a message. */
export const fernetKey = parsed((given) => {
  if (isFernetKey(given)) return given;
  throw new Error(
    `a key of ${given.length} characters is not a Fernet key (44 characters of URL-safe base64); ` +
      "`sallyport keygen` makes one",
  );
});

/** A public key: 32 bytes in 43 characters of base64url (RFC 4648 §5, without padding). */
export const publicKey = parsed((given): Bytes => {
  const key = new Uint8Array(Buffer.from(given, "base64url"));
  if (/^[\w-]{43}$/.test(given) && key.length === 32) return key;
  throw new Error(`${quote(given)} is not a public key: 43 characters of base64url, as the edge prints it`);
});

/** SHA-256 of a certificate. */
export const fingerprint = parsed((given): Bytes => {
  const bytes = parseFingerprint(given);
  if (bytes !== undefined) return bytes;
  throw new Error(
    `${
      quote(given)
    } is not a SHA-256 fingerprint: 64 hexadecimal digits, with colons or without, as the edge prints it`,
  );
});

/** A port. */
export const port = parsed((given) => {
  const value = wholeNumber(given);
  if (value >= 1 && value <= 65_535) return value;
  throw new Error(`${quote(given)} is not a port from 1 to 65535`);
});

/** First and last port of a range, `20000-20999`. */
export const portRange = parsed((given) => {
  const [first = NaN, last = first, ...more] = given.split("-").map(wholeNumber);
  if (more.length > 0 || !(1 <= first && first <= last && last <= 65_535)) {
    throw new Error(`${quote(given)} is not a range of ports, for example 20000-20999`);
  }
  return { first, last };
});

/** An IP address. */
export const ipAddress = parsed((given) => {
  if (isIPv4(given) || isIPv6(given)) return given;
  throw new Error(`${quote(given)} is not an IP address, for example 0.0.0.0 or ::`);
});

/** A public port, and the target of its connections: `tcp:2222=127.0.0.1:22`, `tcp=HOST:PORT` for any port. */
export const published = parsed((given): PublishClaim & { readonly target?: HostPort } => {
  const [, port = "", target] = /^([^=]*)(?:=(.*))?$/s.exec(given) ?? [];
  const claim = parsePublishClaim(port);
  if (claim === undefined) {
    throw new Error(
      `${quote(given)} is not a public port, for example tcp:2222, tcp:2222=127.0.0.1:22 or tcp`,
    );
  }
  if (target === undefined) return claim;
  const parsed = hostPort(1, "127.0.0.1:22").safeParse(target);
  if (!parsed.success) throw new Error(parsed.error.issues[0]?.message);
  return { ...claim, target: parsed.data };
});

const DURATION_UNITS_MS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
  d: DAY_MS,
};

/** A time such as `90s`, `10m` or `1h30m`, in milliseconds; a bare number means seconds. */
export function duration(minMs: number, maxMs: number) {
  return z.union([z.string(), z.number()]).transform((given, context): number => {
    const parts = [...String(given).matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h|d)?/gy)];
    const whole = parts.map(([part]) => part).join("") === String(given) && parts.length > 0;
    const bare = parts.filter(([, , unit]) => unit === undefined).length;
    const ms = parts.reduce(
      (sum, [, digits, unit = "s"]) => sum + Number(digits) * DURATION_UNITS_MS[unit]!,
      0,
    );
    if (whole && (bare === 0 || parts.length === 1) && ms >= minMs && ms <= maxMs) return Math.round(ms);
    const range = `from ${durationText(minMs)} to ${durationText(maxMs)}`;
    context.addIssue({
      code: "custom",
      message: `${quote(String(given))} is not a time ${range}, such as 90s, 10m or 1h30m`,
    });
    return z.NEVER;
  });
}

/** Formats a duration for people: `90s`, `1h30m`. */
export function durationText(ms: number): string {
  if (ms === 0) return "0s";
  let rest = ms;
  return Object.entries(DURATION_UNITS_MS).reverse().map(([unit, unitMs]) => {
    const amount = Math.floor(rest / unitMs);
    rest -= amount * unitMs;
    return amount === 0 ? "" : `${amount}${unit}`;
  }).join("");
}

/** A {@link byteSize}, or a number of bytes. */
export const size = z.union([z.string(), z.number()]).transform(String).pipe(byteSize);

/** Several values; at most `max`. */
export function many<Schema extends z.ZodType>(item: Schema, max = 1024) {
  return z.array(item).max(max, `more than ${max} values`);
}
