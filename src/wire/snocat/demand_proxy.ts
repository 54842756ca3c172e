/**
 * What a demand proxy's stream carries behind its negotiation: the address that asks for it, and frames of a u32
 * big-endian length and JSON. The client says what it wants by a text; the server answers with the public addresses or
 * with `null`, which refuses (docs/protocols/snocat.md, Demand proxy).
 *
 * snocat's own client sends an empty text and its server looks at none. Ours names a wished port in it, `tcp:2222`, or
 * says `tcp`; who does is told why it is refused: `{"refused":"limit_exceeded"}` in place of `null`.
 *
 * @module
 */
import type { Bytes } from "../../bytes/bytes.ts";
import { SallyportError } from "../../errors.ts";
import { parseIp } from "../ip/networks.ts";
import { HOSTNAME_MAX_LENGTH } from "../hostname.ts";

/** Demand proxy: longest text of a client (spec: 256 bytes). */
export const DEMAND_TEXT_MAX_BYTES = 256;
/** Demand proxy: longest answer of a server: dozens of addresses. */
export const DEMAND_GRANT_MAX_BYTES = 4 * 1024;
/** Demand proxy: the client's text must come by then, and the server's answer, which has to open a port first. */
export const DEMAND_DEADLINE_MS = 10_000;

/** First segments of a demand's address. */
export const DEMAND_PREFIX: readonly [string, string] = ["proxyme", "0.0.1"];
/** What ends a lease, and what answers that: so many bytes. Ours are zeros, as snocat's. */
export const DEMAND_FAREWELL_BYTES = 8;

const LENGTH_BYTES = 4;

/** Where the client wants public connections to go, as its own side sees it; no host is its own machine. */
export interface DemandTarget {
  readonly host: string | undefined;
  readonly port: number;
}

/** A public address as a grant carries it; the host is an IP address in text. */
export interface PublicAddress {
  readonly host: string;
  readonly port: number;
}

/** The segments of a demand's address: `/proxyme/0.0.1/HOST/PORT`, or without a host. */
export function demandSegments({ host, port }: DemandTarget): string[] {
  return [...DEMAND_PREFIX, ...(host === undefined ? [] : [host]), String(port)];
}

/** The target that an address's segments ask for; undefined when they are no demand's. */
export function parseDemandSegments(segments: readonly string[]): DemandTarget | undefined {
  if (segments[0] !== DEMAND_PREFIX[0] || segments[1] !== DEMAND_PREFIX[1]) return undefined;
  if (segments.length !== 3 && segments.length !== 4) return undefined;
  const port = parsePort(segments.at(-1) as string);
  const host = segments.length === 4 ? segments[2] as string : undefined;
  if (port === undefined || host === "" || (host?.length ?? 0) > HOSTNAME_MAX_LENGTH) return undefined;
  return { host, port };
}

/** Why a server refuses: the port isn't this client's to have, it is taken, or all of them are. */
export type DemandRefusal = "access_denied" | "address_in_use" | "limit_exceeded";
const REFUSALS: readonly DemandRefusal[] = ["access_denied", "address_in_use", "limit_exceeded"];

/** The client's frame: its wish for a public port, or none; `reasons` asks to be told why it is refused. */
export function encodeDemand(wishedPort?: number, reasons = false): Bytes {
  return encodeFrame(wishedPort === undefined ? (reasons ? "tcp" : "") : `tcp:${wishedPort}`);
}

/** Whether a client's frame asks to be told why it is refused. */
export function wantsReasons(body: Bytes): boolean {
  const text = parseJson(body, "demand");
  return typeof text === "string" && /^tcp(:|$)/.test(text);
}

/**
 * The port that a client's frame wishes for; undefined when it wishes for none, and for texts of others.
 *
 * @throws SallyportError `frame_invalid` for what is no text, and for `tcp:` without a port.
 */
export function parseDemand(body: Bytes): number | undefined {
  const text = parseJson(body, "demand");
  if (typeof text !== "string") throw invalid("demand", "it is no text");
  if (!text.startsWith("tcp:")) return undefined;
  const port = parsePort(text.slice(4));
  if (port === undefined) throw invalid("demand", "tcp: needs a port from 1 to 65535");
  return port;
}

/** The server's frame: the public addresses, or the refusal. */
export function encodeGrant(addresses: readonly PublicAddress[] | undefined): Bytes {
  return encodeFrame(
    addresses?.map(({ host, port }) => host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`) ?? null,
  );
}

/** The server's frame to a client that {@link wantsReasons}: the refusal, with its reason. */
export function encodeRefusal(reason: DemandRefusal): Bytes {
  return encodeFrame({ refused: reason });
}

/** The reason in a server's frame that refuses; undefined where it says none. */
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
  if (!Array.isArray(answer) || answer.length === 0) throw invalid("grant", "it is no list of addresses");
  return answer.map(parsePublicAddress);
}

/** Collects one frame that comes in pieces, and what follows it. */
export class DemandFrame {
  readonly #maxBytes: number;
  readonly #head: Bytes = new Uint8Array(LENGTH_BYTES);
  #body: Bytes | undefined;
  #taken = 0;

  /** @param maxBytes Largest body; it is judged by the length, before a byte of it has come. */
  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /**
   * Takes what belongs to the frame from `chunk`, and says how many bytes that were.
   *
   * @throws SallyportError `frame_invalid` when the frame's length is beyond the largest.
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

  /** The frame's JSON text, once all of it has come. */
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
    throw invalid(what, "it is no JSON", cause);
  }
}

/** `1.2.3.4:80`, `[::1]:80`. */
function parsePublicAddress(text: unknown): PublicAddress {
  const match = typeof text === "string" ? /^(?:\[([^\]]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text) : null;
  const host = match?.[1] ?? match?.[2];
  const port = parsePort(match?.[3] ?? "");
  // Only what is an IP address is shown to people and put into logs.
  const v6 = match?.[1] !== undefined;
  if (host === undefined || port === undefined || parseIp(host) === undefined || host.includes(":") !== v6) {
    throw invalid("grant", "an entry is no IP address with a port");
  }
  return { host, port };
}

/** Digits alone, 1 to 65535. */
function parsePort(text: string): number | undefined {
  const port = /^\d{1,5}$/.test(text) ? Number(text) : 0;
  return port >= 1 && port <= 65_535 ? port : undefined;
}

function invalid(what: string, why: string, cause?: unknown): SallyportError {
  return new SallyportError("frame_invalid", `Cannot parse ${what}: ${why}`, { side: "peer", cause });
}
