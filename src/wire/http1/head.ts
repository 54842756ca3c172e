/**
 * The heads of HTTP/1.1 messages (RFC 9112 §2 to §6), parsed strictly: anything that two implementations could read
 * differently is refused, to prevent request smuggling.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import type { Bytes } from "../../bytes/bytes.ts";
import { type Field, listOf } from "./fields.ts";

/** Largest head of a message. */
export const HTTP_HEAD_MAX_BYTES = 64 * 1024;
/** Maximum fields in a head. */
export const HTTP_FIELDS_MAX = 200;

/** How a message's body is delimited (RFC 9112 §6.3); "close" is for responses only. */
export type BodyFraming =
  | { readonly kind: "none" }
  | { readonly kind: "length"; readonly byteLength: number }
  | { readonly kind: "chunked" }
  | { readonly kind: "close" };

/** A request's first line and fields. */
export interface RequestHead {
  readonly method: string;
  /** The path with its query, as received; `*` for OPTIONS. */
  readonly target: string;
  /** The requested host, with its port if given; in lower case. */
  readonly authority: string;
  readonly fields: readonly Field[];
}

/** A response's status and fields. */
export interface ResponseHead {
  readonly status: number;
  readonly fields: readonly Field[];
}

/** The outcome of reading a head: more bytes are needed, a head, or an error. */
type HeadOutcome<Head> =
  | { readonly kind: "incomplete" }
  | {
    readonly kind: "head";
    readonly head: Head;
    readonly framing: BodyFraming;
    /** HTTP/1.0 has no chunked encoding, and closes the connection by default. */
    readonly minor: 0 | 1;
    /** Length of the head in bytes. */
    readonly byteLength: number;
  }
  | { readonly kind: "invalid"; readonly status: 400 | 431 | 501 | 505; readonly why: string };

const INCOMPLETE = { kind: "incomplete" } as const;
const NONE: BodyFraming = { kind: "none" };

const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;
const VALUE = /^[\t\x20-\x7e\x80-\xff]*$/;
const REQUEST_LINE = /^([!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}) ([\x21-\x7e]+) HTTP\/(\d)\.(\d)$/;
const STATUS_LINE = /^HTTP\/1\.([01]) ([1-5]\d\d)(?: [\t\x20-\x7e\x80-\xff]*)?$/;
/** RFC 3986 §3.2, without user information. */
const AUTHORITY = /^(?:\[[0-9a-f:.]+\]|[a-z0-9._~-]+)(?::\d{0,5})?$/i;

/** Whether `text` is a host with or without a port. */
export function isAuthority(text: string): boolean {
  return AUTHORITY.test(text);
}

class Invalid extends Error {
  readonly status: 400 | 431 | 501 | 505;

  constructor(status: 400 | 431 | 501 | 505, why: string) {
    super(why);
    this.status = status;
  }
}

/** Reads a request's head from the start of `bytes`. */
export function readRequestHead(bytes: Bytes): HeadOutcome<RequestHead> {
  return read(bytes, (lines, fields) => {
    const match = REQUEST_LINE.exec(lines);
    if (match === null) throw new Invalid(400, "its first line isn't METHOD TARGET HTTP/1.1");
    const [, method = "", target = "", major, minorDigit] = match;
    if (major !== "1") throw new Invalid(505, `its version is ${major}.${minorDigit}, needs 1.1`);
    const minor = minorDigit === "0" ? 0 : 1;
    const hosts = fields.filter(([name]) => name === "host");
    if (hosts.length > 1) throw new Invalid(400, "it has two Host fields");
    const { path, authority } = splitTarget(method, target, hosts[0]?.[1]);
    return {
      head: { method, target: path, authority, fields },
      framing: requestFraming(fields, minor),
      minor,
    };
  });
}

/** Reads a response's head from the start of `bytes`; `method` is that of the request. */
export function readResponseHead(bytes: Bytes, method: string): HeadOutcome<ResponseHead> {
  return read(bytes, (line, fields) => {
    const match = STATUS_LINE.exec(line);
    if (match === null) throw new Invalid(400, "its first line isn't HTTP/1.1 STATUS");
    const status = Number(match[2]);
    const minor = match[1] === "0" ? 0 : 1;
    return { head: { status, fields }, framing: responseFraming(status, method, fields), minor };
  });
}

/** Encodes a request's head; the caller supplies the connection fields. */
export function writeRequestHead(method: string, target: string, fields: readonly Field[]): Bytes {
  return writeHead(`${method} ${target} HTTP/1.1`, fields);
}

/** Encodes a response's head. */
export function writeResponseHead(status: number, fields: readonly Field[]): Bytes {
  return writeHead(`HTTP/1.1 ${status} ${REASONS[status] ?? ""}`, fields);
}

function writeHead(line: string, fields: readonly Field[]): Bytes {
  let text = `${line}\r\n`;
  for (const [name, value] of fields) text += `${name}: ${value}\r\n`;
  text += "\r\n";
  // Faster than Buffer's latin1, above all on Deno.
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

function read<Head>(
  bytes: Bytes,
  parse: (line: string, fields: Field[]) => { head: Head; framing: BodyFraming; minor: 0 | 1 },
): HeadOutcome<Head> {
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  // RFC 9112 §2.2: a leading empty line is skipped; some clients send one after a body.
  let from = 0;
  while (view[from] === 13 && view[from + 1] === 10) from += 2;
  const end = view.indexOf("\r\n\r\n", from, "latin1");
  if (end < 0 ? bytes.length > HTTP_HEAD_MAX_BYTES : end > HTTP_HEAD_MAX_BYTES) {
    return { kind: "invalid", status: 431, why: `its head is longer than ${HTTP_HEAD_MAX_BYTES} bytes` };
  }
  try {
    if (end < 0) {
      // Bytes that can't start a head are refused at once: the first byte of a TLS record, for example.
      if (from < bytes.length && (view[from] as number) < 0x21 && view[from] !== 13) {
        throw new Invalid(400, "it isn't HTTP");
      }
      return INCOMPLETE;
    }
    const [line = "", ...lines] = view.toString("latin1", from, end).split("\r\n");
    return { kind: "head", ...parse(line, lines.map(readField)), ...checkCount(lines), byteLength: end + 4 };
  } catch (error) {
    if (error instanceof Invalid) return { kind: "invalid", status: error.status, why: error.message };
    throw error;
  }
}

function checkCount(lines: readonly string[]): Record<never, never> {
  if (lines.length > HTTP_FIELDS_MAX) throw new Invalid(431, `it has more than ${HTTP_FIELDS_MAX} fields`);
  return {};
}

function readField(line: string): Field {
  const colon = line.indexOf(":");
  const name = line.slice(0, colon);
  // Implementations disagree on a blank before the colon, and on a continued line.
  if (colon <= 0 || !TOKEN.test(name)) throw new Invalid(400, "a line isn't a field");
  const value = line.slice(colon + 1).replace(/^[ \t]+|[ \t]+$/g, "");
  if (!VALUE.test(value)) throw new Invalid(400, "a field has a control character");
  return [name.toLowerCase(), value];
}

function splitTarget(
  method: string,
  target: string,
  host: string | undefined,
): { path: string; authority: string } {
  if (method === "CONNECT") throw new Invalid(501, "CONNECT isn't served");
  if (target.includes("#")) throw new Invalid(400, "its target has a fragment");
  let [path, authority] = [target, host ?? ""];
  const absolute = /^https?:\/\/([^/?]*)(.*)$/i.exec(target);
  if (absolute !== null) {
    authority = absolute[1] as string;
    path = absolute[2]?.startsWith("/") ? absolute[2] : `/${absolute[2]}`;
  } else if (!target.startsWith("/") && !(target === "*" && method === "OPTIONS")) {
    throw new Invalid(400, "its target isn't a path");
  }
  if (authority !== "" && !AUTHORITY.test(authority)) throw new Invalid(400, "its host is invalid");
  if (host === undefined && absolute === null) throw new Invalid(400, "it has no Host field");
  return { path, authority: authority.toLowerCase() };
}

function requestFraming(fields: readonly Field[], minor: 0 | 1): BodyFraming {
  const codings = listOf(fields, "transfer-encoding");
  const byteLength = contentLength(fields);
  if (codings.length === 0) {
    return byteLength === undefined || byteLength === 0 ? NONE : { kind: "length", byteLength };
  }
  // RFC 9112 §6.1: having both is a request smuggling vector.
  if (byteLength !== undefined) throw new Invalid(400, "it has a Content-Length and a Transfer-Encoding");
  if (minor === 0) throw new Invalid(400, "HTTP/1.0 has no Transfer-Encoding");
  if (codings.length > 1 || codings[0] !== "chunked") {
    throw new Invalid(501, "its Transfer-Encoding isn't chunked");
  }
  return { kind: "chunked" };
}

function responseFraming(status: number, method: string, fields: readonly Field[]): BodyFraming {
  if (method === "HEAD" || status < 200 || status === 204 || status === 304) return NONE;
  const codings = listOf(fields, "transfer-encoding");
  if (codings.length > 0) {
    if (codings.length > 1 || codings[0] !== "chunked") {
      throw new Invalid(400, "its Transfer-Encoding isn't chunked");
    }
    return { kind: "chunked" };
  }
  const byteLength = contentLength(fields);
  if (byteLength === undefined) return { kind: "close" };
  return byteLength === 0 ? NONE : { kind: "length", byteLength };
}

function contentLength(fields: readonly Field[]): number | undefined {
  const lengths = fields.filter(([name]) => name === "content-length").map(([, value]) => value);
  if (lengths.length === 0) return undefined;
  const [first = ""] = lengths;
  if (lengths.length > 1 || !/^\d{1,15}$/.test(first)) {
    throw new Invalid(400, "its Content-Length isn't a number");
  }
  return Number(first);
}

/** Reason phrases of common statuses (RFC 9110 §15); clients ignore them. */
const REASONS: Readonly<Record<number, string>> = {
  100: "Continue",
  101: "Switching Protocols",
  200: "OK",
  201: "Created",
  204: "No Content",
  206: "Partial Content",
  301: "Moved Permanently",
  302: "Found",
  303: "See Other",
  304: "Not Modified",
  307: "Temporary Redirect",
  308: "Permanent Redirect",
  400: "Bad Request",
  401: "Unauthorized",
  403: "Forbidden",
  404: "Not Found",
  405: "Method Not Allowed",
  408: "Request Timeout",
  413: "Content Too Large",
  416: "Range Not Satisfiable",
  421: "Misdirected Request",
  429: "Too Many Requests",
  431: "Request Header Fields Too Large",
  500: "Internal Server Error",
  501: "Not Implemented",
  502: "Bad Gateway",
  503: "Service Unavailable",
  504: "Gateway Timeout",
  505: "HTTP Version Not Supported",
};
