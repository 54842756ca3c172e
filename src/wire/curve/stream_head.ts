/**
 * The first bytes of every stream of a curve session (docs/protocols/curve.md, Sessions): the caller, or a going-away
 * notice.
 *
 * @module
 */
import type { Bytes } from "../../bytes/bytes.ts";
import { SallyportError } from "../../errors.ts";
import { ipText, parseIp } from "../ip/networks.ts";
import { HOSTNAME_MAX_LENGTH } from "../hostname.ts";

const CALLER = 0;
const GOING_AWAY = 1;

/** A decoded head. `size` is its length in bytes; the visitor's data follows. */
export type CurveHead =
  | {
    readonly kind: "caller";
    readonly size: number;
    /** The visitor's address in canonical text; `0.0.0.0` if the head has none. */
    readonly address: string;
    readonly port: number;
    readonly serverName: string | undefined;
  }
  | {
    readonly kind: "going away";
    readonly size: number; /** See src/wire/curve/error_number.ts. */
    readonly code: number;
  };

/** Encodes a visitor's head. Omits an invalid address, and a name that is too long. */
export function encodeCallerHead(
  caller: { readonly address: string; readonly port?: number; readonly serverName?: string },
): Bytes {
  const address = parseIp(caller.address) ?? [];
  const asked = new TextEncoder().encode(caller.serverName ?? "");
  const name = asked.length > HOSTNAME_MAX_LENGTH ? new Uint8Array(0) : asked;
  const port = caller.port ?? 0;
  const head = new Uint8Array(5 + address.length + name.length);
  head.set([CALLER, port >>> 8, port, address.length, ...address, name.length]);
  head.set(name, 5 + address.length);
  return head;
}

/** Encodes the head of a stream that only announces that its sender accepts no new streams, for this reason. */
export function encodeGoingAwayHead(code: number): Bytes {
  return new Uint8Array([GOING_AWAY, code]);
}

/** Reads a head from the start of `bytes`; undefined if it is incomplete. Throws `frame_invalid`. */
export function decodeCurveHead(bytes: Bytes): CurveHead | undefined {
  const kind = bytes[0];
  if (kind === undefined) return undefined;
  if (kind === GOING_AWAY) {
    return bytes.length < 2 ? undefined : { kind: "going away", size: 2, code: bytes[1]! };
  }
  if (kind !== CALLER) throw invalid(`a stream's head is of kind ${kind}`);
  const addressLength = bytes[3];
  if (addressLength === undefined) return undefined;
  if (addressLength !== 0 && addressLength !== 4 && addressLength !== 16) {
    throw invalid(`an address has ${addressLength} bytes, needs 0, 4 or 16`);
  }
  const nameAt = 5 + addressLength;
  const nameLength = bytes[nameAt - 1];
  if (nameLength === undefined) return undefined;
  if (nameLength > HOSTNAME_MAX_LENGTH) throw invalid(`a server name has ${nameLength} bytes`);
  const size = nameAt + nameLength;
  if (bytes.length < size) return undefined;
  const name = bytes.subarray(nameAt, size);
  for (const byte of name) {
    // It is logged, so only printable ASCII without blanks is allowed, as in host names.
    if (byte <= 0x20 || byte >= 0x7f) throw invalid("a server name has an invalid byte");
  }
  return {
    kind: "caller",
    size,
    port: (bytes[1]! << 8) | bytes[2]!,
    address: addressLength === 0 ? "0.0.0.0" : ipText(bytes.subarray(4, 4 + addressLength)),
    serverName: nameLength === 0 ? undefined : new TextDecoder().decode(name),
  };
}

function invalid(why: string): SallyportError {
  return new SallyportError("frame_invalid", `Cannot read stream: ${why}`, { side: "peer" });
}
