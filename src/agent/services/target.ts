/**
 * Targets: the destinations of a service's bytes.
 *
 * @module
 */
import { isIPv4, isIPv6 } from "node:net";
import process from "node:process";
import { SallyportError } from "../../errors.ts";
import { isHostname } from "../../wire/hostname.ts";
import { formatHostPort, splitHostPort } from "../../wire/ip/host_port.ts";

/** An endpoint to dial: TCP, or a unix socket. */
type Endpoint = { readonly host: string; readonly port: number } | { readonly path: string };

/**
 * Where a service's bytes are sent, and the protocol spoken there. `text` is the target's form in logs and messages.
 */
export type Target =
  /** Raw bytes: under `passthrough` the visitor's TLS, otherwise its decrypted content. */
  | { readonly protocol: "tcp"; readonly text: string; readonly endpoint: Endpoint }
  /** Plain HTTP. */
  | { readonly protocol: "http"; readonly text: string; readonly endpoint: Endpoint }
  /** HTTP over TLS; under `passthrough` the visitor's own. `verify` is false if any certificate is accepted. */
  | {
    readonly protocol: "https";
    readonly text: string;
    readonly endpoint: { readonly host: string; readonly port: number };
    readonly verify: boolean;
  }
  /** Files of a folder, served by the agent itself. */
  | { readonly protocol: "files"; readonly text: string; readonly folder: string };

/** The protocol of a target. */
type TargetProtocol = Target["protocol"];

/** The forms of a target, for messages. */
export const TARGET_FORMS = "127.0.0.1:443 or https://127.0.0.1:443 (a server that speaks TLS itself), " +
  "http://127.0.0.1:3000, https+insecure://127.0.0.1:8443, tcp://127.0.0.1:1883, unix:/run/app.sock, " +
  "file:///srv/www";

/**
 * Reads a target: `HOST:PORT`, `tcp://`, `http://`, `https://`, `https+insecure://`, `unix:/PATH`, `file:///PATH`.
 *
 * @throws SallyportError `config_invalid`; the message shows the right form.
 */
export function parseTarget(text: string, platform: string = process.platform): Target {
  const { scheme, rest } = split(text);
  switch (scheme) {
    case undefined:
    case "tcp": {
      const endpoint = parseEndpoint(text, rest, undefined);
      return { protocol: "tcp", text: scheme === undefined ? endpointText(endpoint) : text, endpoint };
    }
    case "http":
      return { protocol: "http", text, endpoint: parseEndpoint(text, rest, 80) };
    case "https":
      return { protocol: "https", text, endpoint: parseEndpoint(text, rest, 443), verify: true };
    case "https+insecure":
      return { protocol: "https", text, endpoint: parseEndpoint(text, rest, 443), verify: false };
    case "unix":
      return { protocol: "http", text, endpoint: { path: parsePath(text, rest) } };
    case "file":
      return { protocol: "files", text, folder: folderPath(parsePath(text, rest), platform) };
    default: {
      const meant = MISTAKEN[scheme];
      throw invalid(text, meant === undefined ? `there is no target of the kind "${scheme}:"` : meant);
    }
  }
}

/** HOST:PORT with IPv6 in brackets, or `unix:/path`. */
export function endpointText(endpoint: Endpoint): string {
  if ("path" in endpoint) return `unix:${endpoint.path}`;
  return formatHostPort(endpoint);
}

/** Common mistaken schemes, and the right one. */
const MISTAKEN: Readonly<Record<string, string>> = {
  ws: "a WebSocket goes through http://",
  wss: "a WebSocket goes through https:// or http://",
  tls: "a server that speaks TLS itself is HOST:PORT",
  ssl: "a server that speaks TLS itself is HOST:PORT",
  "https-insecure": "it is spelled https+insecure://",
  "unix+http": "it is spelled unix:/PATH",
  "http+unix": "it is spelled unix:/PATH",
  udp: "visitors come only over TCP",
};

/** The scheme in lower case, and the rest after "://" or, for unix and file, after ":". */
function split(text: string): { readonly scheme: string | undefined; readonly rest: string } {
  const [, scheme, rest = ""] = /^([a-z][a-z0-9+.-]*):\/\/(.*)$/is.exec(text) ?? [];
  if (scheme !== undefined) return { scheme: scheme.toLowerCase(), rest };
  const [, pathScheme, path = ""] = /^(unix|file):(.*)$/is.exec(text) ?? [];
  if (pathScheme !== undefined) return { scheme: pathScheme.toLowerCase(), rest: path };
  const [, half] = /^(https?|tcp|https\+insecure):/i.exec(text) ?? [];
  // `tcp:22` may also be a machine of that name; `http:/x` is never a HOST:PORT.
  if (half !== undefined && !/^[^:]*:\d+$/.test(text)) {
    throw invalid(text, `${half}: needs two slashes after it`);
  }
  if (text.startsWith("/") || text.startsWith("./")) {
    throw invalid(text, `a path needs a scheme: unix:${text} for a socket, file://${text} for a folder`);
  }
  return { scheme: undefined, rest: text };
}

function parseEndpoint(text: string, rest: string, port: number | undefined): { host: string; port: number } {
  const bare = port === undefined ? rest : rest.replace(/\/$/, "");
  if (/[/?#]/.test(bare)) throw invalid(text, "it has a path, but a target is only a server");
  if (bare.includes("@")) throw invalid(text, "it contains credentials, which a target can't have");
  const parts = splitHostPort(bare);
  if (parts === undefined && bare.includes(":") && !bare.startsWith("[")) {
    throw invalid(text, "an IPv6 address needs brackets, and a port is a number");
  }
  const { host = "", isBracketed = false, port: given } = parts ?? {};
  if (/^\d+$/.test(bare)) {
    throw invalid(text, `a port alone isn't a target; use 127.0.0.1:${bare} or http://127.0.0.1:${bare}`);
  }
  if (isBracketed ? !isIPv6(host) : !isIPv4(host) && !isHostname(host)) {
    throw invalid(text, "it names no host");
  }
  const chosen = given ?? port;
  if (chosen === undefined) throw invalid(text, "it names no port");
  if (chosen < 1 || chosen > 65_535) throw invalid(text, "its port isn't from 1 to 65535");
  return { host, port: chosen };
}

function parsePath(text: string, rest: string): string {
  const path = /^\/\/[^/]/.test(rest) ? undefined : rest.replace(/^\/\/(?=\/)/, "");
  if (path === undefined || !path.startsWith("/") || path === "/" || path.includes("\0")) {
    throw invalid(text, "it needs a path from the root on, such as unix:/run/app.sock or file:///srv/www");
  }
  return path;
}

/** On Windows, `file:///C:/www` is the folder C:/www. */
function folderPath(path: string, platform: string): string {
  return platform === "win32" ? path.replace(/^\/(?=[a-z]:\/)/i, "") : path;
}

function invalid(text: string, why: string): SallyportError {
  const shown = JSON.stringify(text.length > 100 ? `${text.slice(0, 100)}…` : text);
  return new SallyportError(
    "config_invalid",
    `Cannot use target ${shown}: ${why}. A target is ${TARGET_FORMS}`,
    {
      side: "config",
    },
  );
}
