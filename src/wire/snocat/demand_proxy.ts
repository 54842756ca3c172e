/**
 * The demand proxy's stream after its negotiation: the demand's address, and frames of a u32 big-endian length and JSON.
 * The client states its request as a string; the server answers with the public addresses, or refuses with `null`
 * (docs/protocols/snocat.md, Demand proxy).
 *
 * snocat's own client sends an empty string and its server ignores it. Ours requests a port, `tcp:2222`, or sends `tcp`;
 * the refusal then states its reason: `{"refused":"limit_exceeded"}` instead of `null`.
 *
 * @module
 */
import type { Bytes } from "../../bytes/bytes.ts";
import { SallyportError } from "../../errors.ts";
import { parseIp } from "../ip/networks.ts";
import { HOSTNAME_MAX_LENGTH } from "../hostname.ts";
import { formatHostPort, splitHostPort } from "../ip/host_port.ts";

/** Demand proxy: longest text of a client (spec: 256 bytes). */
export const DEMAND_TEXT_MAX_BYTES = 256;
/** Demand proxy: longest answer of a server: dozens of addresses. */
export const DEMAND_GRANT_MAX_BYTES = 4 * 1024;
/** Demand proxy: time limit for the client's text, and for the server's answer, which has to open a port first. */
export const DEMAND_DEADLINE_MS = 10_000;

/** First segments of a demand's address. */
export const DEMAND_PREFIX: readonly [string, string] = ["proxyme", "0.0.1"];
/** Length of the message that ends a lease, and of its answer. Ours are zeros, as in snocat. */
export const DEMAND_FAREWELL_BYTES = 8;

const LENGTH_BYTES = 4;

/** The target of public connections, as seen from the client; without a host, the client's own machine. */
export interface DemandTarget {
  readonly host: string | undefined;
  readonly port: number;
}

/** A public address in a grant; the host is an IP address in text. */
export interface PublicAddress {
  readonly host: string;
  readonly port: number;
}

/** The segments of a demand's address: `/proxyme/0.0.1/HOST/PORT`, or without a host. */
export function demandSegments({ host, port }: DemandTarget): string[] {
  return [...DEMAND_PREFIX, ...(host === undefined ? [] : [host]), String(port)];
}

/** The target that an address's segments request; undefined if they aren't a demand's. */
export function parseDemandSegments(segments: readonly string[]): DemandTarget | undefined {
  if (segments[0] !== DEMAND_PREFIX[0] || segments[1] !== DEMAND_PREFIX[1]) return undefined;
  if (segments.length !== 3 && segments.length !== 4) return undefined;
  const port = parsePort(segments.at(-1) as string);
  const host = segments.length === 4 ? segments[2] as string : undefined;
  if (port === undefined || host === "" || (host?.length ?? 0) > HOSTNAME_MAX_LENGTH) return undefined;
  return { host, port };
}

/** Why a server refuses: the client isn't allowed the port, it is in use, or all ports are. */
export type DemandRefusal = "access_denied" | "address_in_use" | "limit_exceeded";
const REFUSALS: readonly DemandRefusal[] = ["access_denied", "address_in_use", "limit_exceeded"];

/** The client's frame: the requested public port, or none; `reasons` requests the reason for a refusal. */
export function encodeDemand(wishedPort?: number, reasons = false): Bytes {
  return encodeFrame(wishedPort === undefined ? (reasons ? "tcp" : "") : `tcp:${wishedPort}`);
}

/** Whether a client's frame requests the reason for a refusal. */
export function wantsReasons(body: Bytes): boolean {
  const text = parseJson(body, "demand");
  return typeof text === "string" && /^tcp(:|$)/.test(text);
}

/**
 * The port that a client's frame requests; undefined if it requests none, and for other clients' texts.
 *
 * @throws SallyportError `frame_invalid` if it isn't a string, and for `tcp:` without a port.
 */
export function parseDemand(body: Bytes): number | undefined {
  const text = parseJson(body, "demand");
  if (typeof text !== "string") throw invalid("demand", "it isn't text");
  if (!text.startsWith("tcp:")) return undefined;
  const port = parsePort(text.slice(4));
  if (port === undefined) throw invalid("demand", "tcp: needs a port from 1 to 65535");
  return port;
}

/** The server's frame: the public addresses, or the refusal. */
export function encodeGrant(addresses: readonly PublicAddress[] | undefined): Bytes {
  return encodeFrame(
    addresses?.map(formatHostPort) ?? null,
  );
}

/** The server's frame to a client that {@link wantsReasons}: the refusal, with its reason. */
export function encodeRefusal(reason: DemandRefusal): Bytes {
  return encodeFrame({ refused: reason });
}

/** The reason in a server's refusal; undefined if it gives none. */
export function refusalReason(body: Bytes): DemandRefusal | undefined {
  const answer = parseJson(body, "grant");
  const reason = isRefusal(answer) ? answer.refused : undefined;
  return REFUSALS.find((known) => known === reason);
}

function isRefusal(answer: unknown): answer is { readonly refused: unknown } {
  return typeof answer === "object" && answer !== null && "refused" in answer;
}

/**
 * The public addresses of a server's frame; undefined for the refusal.
 *
 * @throws SallyportError `frame_invalid` for anything else.
 */
export function parseGrant(body: Bytes): PublicAddress[] | undefined {
  const answer = parseJson(body, "grant");
  if (answer === null || isRefusal(answer)) return undefined;
  if (!Array.isArray(answer) || answer.length === 0) throw invalid("grant", "it isn't a list of addresses");
  return answer.map(parsePublicAddress);
}

/** Collects one frame from chunks, and what follows it. */
export class DemandFrame {
  readonly #maxBytes: number;
  readonly #head: Bytes = new Uint8Array(LENGTH_BYTES);
  #body: Bytes | undefined;
  #taken = 0;

  /** @param maxBytes Largest body; checked against the length field, before any of the body is read. */
  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /**
   * Reads the frame's bytes from `chunk`. Returns how many there were.
   *
   * @throws SallyportError `frame_invalid` if the frame is too long.
   */
  push(chunk: Bytes): number {
    let from = 0;
    while (from < chunk.length && this.body === undefined) {
      const into = this.#body ?? this.#head;
      const length = Math.min(into.length - this.#taken, chunk.length - from);
      into.set(chunk.subarray(from, from + length), this.#taken);
      this.#taken += length;
      from += length;
      if (this.#body === undefined && this.#taken === LENGTH_BYTES) {
        const size = new DataView(this.#head.buffer).getUint32(0);
        if (size > this.#maxBytes) {
          throw invalid("demand proxy's frame", `it has ${size} bytes, ${this.#maxBytes} are allowed`);
        }
        this.#body = new Uint8Array(size);
        this.#taken = 0;
      }
    }
    return from;
  }

  /** The frame's JSON text, once complete. */
  get body(): Bytes | undefined {
    return this.#body !== undefined && this.#taken === this.#body.length ? this.#body : undefined;
  }
}

/** Collects the client's frame. */
export function demandFrame(): DemandFrame {
  return new DemandFrame(DEMAND_TEXT_MAX_BYTES);
}

/** Collects the server's frame. */
export function grantFrame(): DemandFrame {
  return new DemandFrame(DEMAND_GRANT_MAX_BYTES);
}

function encodeFrame(value: unknown): Bytes {
  const body = new TextEncoder().encode(JSON.stringify(value));
  const frame = new Uint8Array(LENGTH_BYTES + body.length);
  new DataView(frame.buffer).setUint32(0, body.length);
  frame.set(body, LENGTH_BYTES);
  return frame;
}

function parseJson(body: Bytes, what: string): unknown {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(body));
  } catch (cause) {
    throw invalid(what, "it isn't JSON", cause);
  }
}

/** `1.2.3.4:80`, `[::1]:80`. */
function parsePublicAddress(text: unknown): PublicAddress {
  const { host = "", isBracketed, port = 0 } = (typeof text === "string" ? splitHostPort(text) : undefined) ??
    {};
  // Only IP addresses are displayed and logged.
  const isAddress = parseIp(host) !== undefined && host.includes(":") === isBracketed;
  if (!isAddress || port < 1 || port > 65_535) {
    throw invalid("grant", "an entry isn't an IP address with a port");
  }
  return { host, port };
}

/** A decimal number from 1 to 65535. */
function parsePort(text: string): number | undefined {
  const port = /^\d{1,5}$/.test(text) ? Number(text) : 0;
  return port >= 1 && port <= 65_535 ? port : undefined;
}

function invalid(what: string, why: string, cause?: unknown): SallyportError {
  return new SallyportError("frame_invalid", `Cannot parse ${what}: ${why}`, { side: "peer", cause });
}
