/**
 * SniTun's frame header and its fields (docs/protocols/snitun.md, Frames):
 * `channel id 16 | flag u8 | size u32 | extra 11`, big-endian.
 *
 * @module
 */
import { type Bytes, startsWith } from "../../bytes/bytes.ts";
import { Slab } from "../../bytes/slab.ts";
import { SallyportError } from "../../errors.ts";
import { ipText, parseIp } from "../ip/networks.ts";

/** Largest payload of a DATA frame that we accept: the reference sends up to 4.2 MB per frame. */
export const FRAME_MAX_RECEIVE_BYTES = 8 * 1024 * 1024;
/** NEW from version 2 on carries an address in one or two cipher blocks. */
export const NEW_MIN_PAYLOAD_BYTES = 16;
export const NEW_MAX_PAYLOAD_BYTES = 32;

/** Length of a header before encryption, of a channel's id, and of the bytes after the size. */
export const HEADER_BYTES = 32;
export const CHANNEL_ID_BYTES = 16;
export const EXTRA_BYTES = 11;
const FLAG_AT = 16;
const SIZE_AT = 17;
const EXTRA_AT = 21;

/**
 * The flags. PAUSE and RESUME exist from protocol version 1 on. MOVE is ours: the edge asks the agent to open another
 * session; a peer that doesn't know it ignores it.
 */
export const FrameType = {
  NEW: 0x01,
  DATA: 0x02,
  CLOSE: 0x04,
  PING: 0x08,
  PAUSE: 0x16,
  RESUME: 0x32,
  MOVE: 0x64,
} as const;

/** Overwrites its argument with random bytes. */
export interface Filler {
  fill(target: Bytes): void;
}

/** An id for a new channel. */
export function newChannelId(random: Filler, slab = new Slab(CHANNEL_ID_BYTES)): Bytes {
  const id = slab.take(CHANNEL_ID_BYTES);
  random.fill(id);
  return id;
}

/** A copy of the channel id in a decrypted header. */
export function channelIdOf(header: Bytes, slab = new Slab(CHANNEL_ID_BYTES)): Bytes {
  return slab.copy(header, CHANNEL_ID_BYTES);
}

/** Writes a header at `offset`; `extra` has {@link EXTRA_BYTES} bytes. */
export function writeHeader(
  out: Bytes,
  offset: number,
  channelId: Bytes,
  type: number,
  size: number,
  extra: Bytes,
): void {
  for (let i = 0; i < CHANNEL_ID_BYTES; i++) out[offset + i] = channelId[i];
  out[offset + FLAG_AT] = type;
  out[offset + SIZE_AT] = size >>> 24;
  out[offset + SIZE_AT + 1] = size >>> 16;
  out[offset + SIZE_AT + 2] = size >>> 8;
  out[offset + SIZE_AT + 3] = size;
  for (let i = 0; i < EXTRA_BYTES; i++) out[offset + EXTRA_AT + i] = extra[i];
}

/** The flag of a decrypted header. */
export function frameType(header: Bytes): number {
  return header[FLAG_AT];
}

/** The payload size in a decrypted header. */
export function frameSize(header: Bytes): number {
  return header[SIZE_AT] * 0x1000000 + (header[SIZE_AT + 1] << 16) + (header[SIZE_AT + 2] << 8) +
    header[SIZE_AT + 3];
}

/** The last bytes of a decrypted header, as a view. */
export function frameExtra(header: Bytes): Bytes {
  return header.subarray(EXTRA_AT, HEADER_BYTES);
}

/**
 * The fault of a decrypted header, undefined if it is valid. Called before any payload is read: a peer without the key,
 * or out of step, announces impossible sizes.
 */
export function checkHeader(header: Bytes, protocolVersion: number): SallyportError | undefined {
  const size = frameSize(header);
  const type = frameType(header);
  switch (type) {
    case FrameType.DATA:
      return size <= FRAME_MAX_RECEIVE_BYTES
        ? undefined
        : wrongSize("DATA", size, `at most ${FRAME_MAX_RECEIVE_BYTES}`);
    case FrameType.NEW:
      if (protocolVersion < 2) return size === 0 ? undefined : wrongSize("NEW", size, "0");
      return size === NEW_MIN_PAYLOAD_BYTES || size === NEW_MAX_PAYLOAD_BYTES
        ? undefined
        : wrongSize("NEW", size, `${NEW_MIN_PAYLOAD_BYTES} or ${NEW_MAX_PAYLOAD_BYTES}`);
    case FrameType.CLOSE:
      return size === 0 ? undefined : wrongSize("CLOSE", size, "0");
    case FrameType.PING:
      return size === 0 ? undefined : wrongSize("PING", size, "0");
    case FrameType.PAUSE:
      if (protocolVersion === 0) return checkUnknown(type, size);
      return size === 0 ? undefined : wrongSize("PAUSE", size, "0");
    case FrameType.RESUME:
      if (protocolVersion === 0) return checkUnknown(type, size);
      return size === 0 ? undefined : wrongSize("RESUME", size, "0");
    case FrameType.MOVE:
      return size === 0 ? undefined : wrongSize("MOVE", size, "0");
    default:
      return checkUnknown(type, size);
  }
}

/** Unknown flags are skipped with their payload, as long as its size is possible. */
function checkUnknown(type: number, size: number): SallyportError | undefined {
  if (size <= FRAME_MAX_RECEIVE_BYTES) return undefined;
  const name = `flag 0x${type.toString(16).padStart(2, "0")}`;
  return wrongSize(name, size, `at most ${FRAME_MAX_RECEIVE_BYTES}`);
}

function wrongSize(name: string, size: number, allowed: string): SallyportError {
  return new SallyportError(
    "frame_invalid",
    `Cannot parse frame: ${name} announces ${size} bytes, may have ${allowed}`,
    { side: "peer" },
  );
}

const FAMILY_IPV4 = 0x34; // "4"
const FAMILY_IPV6 = 0x36; // "6"

/**
 * The address in NEW's `extra` (versions 0 and 1): an IPv6 caller becomes 0.0.0.0.
 *
 * @throws SallyportError `frame_invalid`, side "local", if `address` isn't an IP address.
 */
export function encodeCallerExtra(address: string, random: Filler): Bytes {
  const extra = new Uint8Array(EXTRA_BYTES);
  random.fill(extra);
  const bytes = addressBytes(address);
  extra[0] = FAMILY_IPV4;
  extra.set(bytes.length === 4 ? bytes : [0, 0, 0, 0], 1);
  return extra;
}

/** The caller's address in a decrypted NEW header of version 0 or 1, canonical; undefined if there is none. */
export function decodeCallerExtra(header: Bytes): string | undefined {
  return decodeAddress(frameExtra(header));
}

/**
 * The address as NEW's payload (version 2), padded to whole cipher blocks with random bytes.
 *
 * @throws SallyportError `frame_invalid`, side "local", if `address` isn't an IP address.
 */
export function encodeCallerPayload(
  address: string,
  random: Filler,
  slab = new Slab(NEW_MAX_PAYLOAD_BYTES),
): Bytes {
  const bytes = addressBytes(address);
  const payload = slab.take(bytes.length === 4 ? NEW_MIN_PAYLOAD_BYTES : NEW_MAX_PAYLOAD_BYTES);
  random.fill(payload);
  payload[0] = bytes.length === 4 ? FAMILY_IPV4 : FAMILY_IPV6;
  payload.set(bytes, 1);
  return payload;
}

/** The caller's address in a decrypted NEW payload, canonical; undefined if there is none. */
export function decodeCallerPayload(payload: Bytes): string | undefined {
  return decodeAddress(payload);
}

/** The address, encoded as the version requires: in the header's `extra`, or as a payload. */
export function encodeCaller(
  protocolVersion: number,
  address: string,
  random: Filler,
  slab?: Slab,
): { readonly extra?: Bytes; readonly payload?: Bytes } {
  if (protocolVersion < 2) return { extra: encodeCallerExtra(address, random) };
  return { payload: encodeCallerPayload(address, random, slab) };
}

/** The caller's address in a decrypted NEW frame, undefined if there is none. */
export function decodeCaller(header: Bytes, payload: Bytes | undefined): string | undefined {
  return payload === undefined ? decodeCallerExtra(header) : decodeCallerPayload(payload);
}

function addressBytes(address: string): number[] {
  const bytes = parseIp(address);
  if (bytes === undefined) {
    throw new SallyportError(
      "frame_invalid",
      `Cannot write NEW: ${JSON.stringify(address)} is not an IP address`,
      { side: "local" },
    );
  }
  return bytes;
}

function decodeAddress(bytes: Bytes): string | undefined {
  const length = bytes[0] === FAMILY_IPV4 ? 4 : bytes[0] === FAMILY_IPV6 ? 16 : 0;
  if (length === 0 || bytes.length < 1 + length) return undefined;
  return ipText(bytes.subarray(1, 1 + length));
}

const PING_TEXT = new TextEncoder().encode("ping");
const PONG_TEXT = new TextEncoder().encode("pong");

/** The `extra` of a ping or a pong. */
export function encodePing(which: "ping" | "pong", random: Filler): Bytes {
  const extra = new Uint8Array(EXTRA_BYTES);
  random.fill(extra);
  extra.set(which === "ping" ? PING_TEXT : PONG_TEXT);
  return extra;
}

/** Whether a decrypted PING header is a ping. */
export function isPing(header: Bytes): boolean {
  return startsWith(header, PING_TEXT, EXTRA_AT);
}

/** Whether a decrypted PING header is a pong. */
export function isPong(header: Bytes): boolean {
  return startsWith(header, PONG_TEXT, EXTRA_AT);
}
