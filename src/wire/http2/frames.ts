/**
 * HTTP/2's frames (RFC 9113 §4 and §6): a header of 9 bytes, and what it says of the bytes after it.
 *
 * @module
 */
import type { Bytes } from "../../bytes/bytes.ts";

/** What a client sends first. */
export const PREFACE = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/** Length u24, type u8, flags u8, stream u31. */
export const FRAME_HEADER_BYTES = 9;
/** Longest payload of a frame in either direction, the protocol's default. */
export const FRAME_MAX_BYTES = 16_384;
/** Largest window. */
export const WINDOW_MAX_BYTES = 2 ** 31 - 1;
/** Windows begin with this size. */
export const FIRST_WINDOW_BYTES = 65_535;

/** Types, with their values on the wire. */
export const FrameType = {
  DATA: 0,
  HEADERS: 1,
  PRIORITY: 2,
  RST_STREAM: 3,
  SETTINGS: 4,
  PUSH_PROMISE: 5,
  PING: 6,
  GOAWAY: 7,
  WINDOW_UPDATE: 8,
  CONTINUATION: 9,
} as const;

/** Flags. */
export const END_STREAM = 0x1;
export const ACK = 0x1;
export const END_HEADERS = 0x4;
export const PADDED = 0x8;
export const PRIORITY = 0x20;

/** Settings. */
export const Setting = {
  ENABLE_PUSH: 2,
  MAX_CONCURRENT_STREAMS: 3,
  INITIAL_WINDOW_SIZE: 4,
  MAX_FRAME_SIZE: 5,
  MAX_HEADER_LIST_SIZE: 6,
} as const;

/** Reasons of RST_STREAM and GOAWAY (RFC 9113 §7). */
export const Reason = {
  NO_ERROR: 0,
  PROTOCOL_ERROR: 1,
  INTERNAL_ERROR: 2,
  FLOW_CONTROL_ERROR: 3,
  STREAM_CLOSED: 5,
  FRAME_SIZE_ERROR: 6,
  REFUSED_STREAM: 7,
  CANCEL: 8,
  COMPRESSION_ERROR: 9,
  ENHANCE_YOUR_CALM: 11,
} as const;

/** A frame's header. */
export interface FrameHeader {
  readonly byteLength: number;
  readonly type: number;
  readonly flags: number;
  readonly id: number;
}

/** Reads a frame's header at `at`. */
export function readFrameHeader(bytes: Bytes, at: number): FrameHeader {
  return {
    byteLength: bytes[at]! << 16 | bytes[at + 1]! << 8 | bytes[at + 2]!,
    type: bytes[at + 3]!,
    flags: bytes[at + 4]!,
    id: readUint31(bytes, at + 5),
  };
}

/** A frame with room for `byteLength` bytes after its header. */
export function makeFrame(type: number, flags: number, id: number, byteLength: number): Bytes {
  const frame = new Uint8Array(FRAME_HEADER_BYTES + byteLength);
  writeFrameHeader(frame, 0, { byteLength, type, flags, id });
  return frame;
}

/** A frame with its payload. */
export function frameOf(type: number, flags: number, id: number, payload: ArrayLike<number>): Bytes {
  const frame = makeFrame(type, flags, id, payload.length);
  frame.set(payload, FRAME_HEADER_BYTES);
  return frame;
}

/**
 * The DATA frames of a piece of a body, in one array: TLS costs less for one long write than for many. An empty piece is
 * one empty frame.
 */
export function dataFrames(id: number, piece: Bytes, endsStream: boolean): Bytes {
  const count = Math.max(1, Math.ceil(piece.length / FRAME_MAX_BYTES));
  const frames = new Uint8Array(count * FRAME_HEADER_BYTES + piece.length);
  for (let index = 0, at = 0; index < count; index++) {
    const part = piece.subarray(index * FRAME_MAX_BYTES, (index + 1) * FRAME_MAX_BYTES);
    const flags = endsStream && index === count - 1 ? END_STREAM : 0;
    writeFrameHeader(frames, at, { byteLength: part.length, type: FrameType.DATA, flags, id });
    frames.set(part, at + FRAME_HEADER_BYTES);
    at += FRAME_HEADER_BYTES + part.length;
  }
  return frames;
}

function writeFrameHeader(bytes: Bytes, at: number, { byteLength, type, flags, id }: FrameHeader): void {
  bytes[at] = byteLength >> 16;
  bytes[at + 1] = byteLength >> 8;
  bytes[at + 2] = byteLength;
  bytes[at + 3] = type;
  bytes[at + 4] = flags;
  writeUint32(bytes, at + 5, id);
}

/** A frame whose payload are integers of 4 bytes. */
export function integersFrame(type: number, id: number, ...values: readonly number[]): Bytes {
  const frame = makeFrame(type, 0, id, 4 * values.length);
  for (const [index, value] of values.entries()) writeUint32(frame, FRAME_HEADER_BYTES + 4 * index, value);
  return frame;
}

/** A SETTINGS frame. */
export function settingsFrame(settings: readonly (readonly [id: number, value: number])[]): Bytes {
  const frame = makeFrame(FrameType.SETTINGS, 0, 0, 6 * settings.length);
  for (const [index, [id, value]] of settings.entries()) {
    const at = FRAME_HEADER_BYTES + 6 * index;
    frame[at] = id >> 8;
    frame[at + 1] = id;
    writeUint32(frame, at + 2, value);
  }
  return frame;
}

/** The settings of a SETTINGS frame. */
export function* readSettings(payload: Bytes): Generator<readonly [id: number, value: number]> {
  for (let at = 0; at + 6 <= payload.length; at += 6) {
    yield [payload[at]! << 8 | payload[at + 1]!, readUint32(payload, at + 2)];
  }
}

/** An integer of 4 bytes. */
export function readUint32(bytes: Bytes, at: number): number {
  return (bytes[at]! << 24 | bytes[at + 1]! << 16 | bytes[at + 2]! << 8 | bytes[at + 3]!) >>> 0;
}

/** An integer of 31 bits; the first bit is reserved. */
export function readUint31(bytes: Bytes, at: number): number {
  return readUint32(bytes, at) & 0x7fffffff;
}

function writeUint32(bytes: Bytes, at: number, value: number): void {
  bytes[at] = value >>> 24;
  bytes[at + 1] = value >>> 16;
  bytes[at + 2] = value >>> 8;
  bytes[at + 3] = value;
}
