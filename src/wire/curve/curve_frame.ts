/**
 * The frames inside packets (docs/protocols/curve.md, "Frames"): one writer and one reader for each.
 *
 * @module
 */
import type { Bytes } from "../../bytes/bytes.ts";
import { ViewCache } from "../../bytes/view_cache.ts";
import { SallyportError } from "../../errors.ts";
import { ID_BYTES } from "./curve_packet.ts";

/** Frame types. */
export const FrameType = {
  padding: 0,
  ping: 1,
  ack: 2,
  stream: 3,
  streamFin: 4,
  reset: 5,
  maxData: 6,
  maxStreamData: 7,
  maxStreams: 8,
  pathChallenge: 9,
  pathResponse: 10,
  close: 11,
  params: 12,
  connectionId: 13,
} as const;

/** Maximum ranges in one ACK. */
export const ACK_RANGES_MAX = 64;
/** Maximum bytes of the text in CLOSE. */
export const REASON_MAX_BYTES = 256;
/** Bytes in PATH_CHALLENGE and PATH_RESPONSE. */
export const CHALLENGE_BYTES = 8;

/** Encoded size of a varint (RFC 9000, 16). */
export function varintBytes(value: number): number {
  return value < 64 ? 1 : value < 16_384 ? 2 : value < 2 ** 30 ? 4 : 8;
}

/** Writes frames into a buffer, one after another. The caller checks {@link room} before it writes. */
export class FrameWriter {
  readonly #buffer: Bytes;
  readonly #written = new ViewCache();
  #end = 0;
  /** Bytes written. */
  at = 0;

  constructor(buffer: Bytes) {
    this.#buffer = buffer;
  }

  /** Starts over, with room for `size` bytes. */
  reset(size: number): void {
    this.at = 0;
    this.#end = size;
  }

  /** Bytes that may still be written. */
  get room(): number {
    return this.#end - this.at;
  }

  /** The bytes written so far, as a view. */
  get written(): Bytes {
    return this.#written.view(this.#buffer, 0, this.at);
  }

  byte(value: number): void {
    this.#buffer[this.at++] = value;
  }

  varint(value: number): void {
    const buffer = this.#buffer;
    if (value < 64) buffer[this.at++] = value;
    else if (value < 16_384) {
      buffer[this.at++] = 0x40 | (value >>> 8);
      buffer[this.at++] = value;
    } else if (value < 2 ** 30) {
      buffer[this.at++] = 0x80 | (value >>> 24);
      this.#low(value, 3);
    } else {
      const high = Math.floor(value / 2 ** 32);
      buffer[this.at++] = 0xc0 | (high >>> 24);
      this.#low(high, 3);
      this.#low(value >>> 0, 4);
    }
  }

  #low(value: number, count: number): void {
    for (let shift = 8 * (count - 1); shift >= 0; shift -= 8) this.#buffer[this.at++] = value >>> shift;
  }

  bytes(bytes: Bytes): void {
    this.#buffer.set(bytes, this.at);
    this.at += bytes.length;
  }

  /** Reserves `size` bytes for the caller to write. */
  take(size: number): Bytes {
    this.at += size;
    return this.#buffer.subarray(this.at - size, this.at);
  }

  /** Fills up to the end. */
  padding(): void {
    this.#buffer.fill(0, this.at, this.#end);
    this.at = this.#end;
  }
}

/** The ranges of an ACK, descending, both ends inclusive. One object is reused for all ACKs of a connection. */
export class AckRanges {
  count = 0;
  readonly low = new Float64Array(ACK_RANGES_MAX);
  readonly high = new Float64Array(ACK_RANGES_MAX);
}

/** Receives the frames of a packet in order; data are views into the packet. */
export interface FrameSink {
  ping(): void;
  ack(ranges: AckRanges, delayUs: number): void;
  stream(id: number, offset: number, data: Bytes, fin: boolean): void;
  reset(id: number, code: number, finalOffset: number): void;
  maxData(limit: number): void;
  maxStreamData(id: number, limit: number): void;
  maxStreams(limit: number): void;
  pathChallenge(data: Bytes): void;
  pathResponse(data: Bytes): void;
  close(code: number, reason: string): void;
  params(maxData: number, maxStreamData: number, maxStreams: number, maxDatagramBytes: number): void;
  connectionId(id: Bytes): void;
}

function invalid(why: string): SallyportError {
  return new SallyportError("frame_invalid", `Cannot read packet: ${why}`, { side: "peer" });
}

class FrameReader {
  readonly #bytes: Bytes;
  #at = 0;

  constructor(bytes: Bytes) {
    this.#bytes = bytes;
  }

  get more(): boolean {
    return this.#at < this.#bytes.length;
  }

  varint(): number {
    const bytes = this.#bytes;
    if (this.#at >= bytes.length) throw invalid("a frame is cut short");
    const first = bytes[this.#at]!;
    const size = 1 << (first >> 6);
    if (this.#at + size > bytes.length) throw invalid("a frame is cut short");
    let value = first & 0x3f;
    for (let i = 1; i < size; i++) value = value * 256 + bytes[this.#at + i]!;
    this.#at += size;
    if (value > Number.MAX_SAFE_INTEGER) throw invalid("a number is 2^53 or larger");
    return value;
  }

  bytes(size: number): Bytes {
    if (size > this.#bytes.length - this.#at) throw invalid("a frame is cut short");
    this.#at += size;
    return this.#bytes.subarray(this.#at - size, this.#at);
  }
}

/**
 * Reads the frames of an opened packet. Throws `frame_invalid` after delivering the frames before the invalid one.
 * Returns whether the packet is ack-eliciting.
 */
export function readFrames(plain: Bytes, sink: FrameSink, ranges: AckRanges): boolean {
  const reader = new FrameReader(plain);
  let eliciting = false;
  while (reader.more) {
    const type = reader.varint();
    if (type !== FrameType.padding && type !== FrameType.ack && type !== FrameType.close) eliciting = true;
    switch (type) {
      case FrameType.padding:
        break;
      case FrameType.ping:
        sink.ping();
        break;
      case FrameType.ack:
        sink.ack(ranges, readAck(reader, ranges));
        break;
      case FrameType.stream:
      case FrameType.streamFin: {
        const id = reader.varint();
        const offset = reader.varint();
        const data = reader.bytes(reader.varint());
        if (offset + data.length > Number.MAX_SAFE_INTEGER) throw invalid("an offset is 2^53 or larger");
        sink.stream(id, offset, data, type === FrameType.streamFin);
        break;
      }
      case FrameType.reset:
        sink.reset(reader.varint(), reader.varint(), reader.varint());
        break;
      case FrameType.maxData:
        sink.maxData(reader.varint());
        break;
      case FrameType.maxStreamData:
        sink.maxStreamData(reader.varint(), reader.varint());
        break;
      case FrameType.maxStreams:
        sink.maxStreams(reader.varint());
        break;
      case FrameType.pathChallenge:
        sink.pathChallenge(reader.bytes(CHALLENGE_BYTES));
        break;
      case FrameType.pathResponse:
        sink.pathResponse(reader.bytes(CHALLENGE_BYTES));
        break;
      case FrameType.close: {
        const code = reader.varint();
        const size = reader.varint();
        if (size > REASON_MAX_BYTES) throw invalid(`a reason has ${size} bytes, at most ${REASON_MAX_BYTES}`);
        sink.close(code, new TextDecoder().decode(reader.bytes(size)));
        break;
      }
      case FrameType.params:
        sink.params(reader.varint(), reader.varint(), reader.varint(), reader.varint());
        break;
      case FrameType.connectionId:
        sink.connectionId(reader.bytes(ID_BYTES));
        break;
      default:
        throw invalid(`frame type ${type} is unknown`);
    }
  }
  return eliciting;
}

function readAck(reader: FrameReader, ranges: AckRanges): number {
  const largest = reader.varint();
  const delayUs = reader.varint();
  const further = reader.varint();
  if (further >= ACK_RANGES_MAX) throw invalid(`an ACK has ${further + 1} ranges, at most ${ACK_RANGES_MAX}`);
  let high = largest;
  let low = high - reader.varint();
  if (low < 0) throw invalid("an ACK goes below 0");
  ranges.high[0] = high;
  ranges.low[0] = low;
  for (let i = 1; i <= further; i++) {
    high = low - reader.varint() - 2;
    low = high - reader.varint();
    if (low < 0) throw invalid("an ACK goes below 0");
    ranges.high[i] = high;
    ranges.low[i] = low;
  }
  ranges.count = further + 1;
  return delayUs;
}

/** Ranges as {@link writeAck} needs them: half-open, ascending. */
export interface WritableRanges {
  readonly size: number;
  start(index: number): number;
  end(index: number): number;
}

/** Writes an ACK of the highest ranges, as many as fit; `ranges` isn't empty. False if none fits. */
export function writeAck(writer: FrameWriter, ranges: WritableRanges, delayUs: number): boolean {
  let index = ranges.size - 1;
  const largest = ranges.end(index) - 1;
  if (writer.room < 1 + varintBytes(largest) + varintBytes(delayUs) + 1 + 8) return false;
  writer.byte(FrameType.ack);
  writer.varint(largest);
  writer.varint(delayUs);
  // A range takes at most 16 bytes.
  const further = Math.min(index, ACK_RANGES_MAX - 1, Math.floor((writer.room - 9) / 16));
  writer.varint(further);
  writer.varint(largest - ranges.start(index));
  for (let i = 0; i < further; i++) {
    const low = ranges.start(index--);
    writer.varint(low - ranges.end(index) - 1);
    writer.varint(ranges.end(index) - 1 - ranges.start(index));
  }
  return true;
}

/** Header bytes of a STREAM frame with at most `length` bytes of data. */
export function streamHeadBytes(id: number, offset: number, length: number): number {
  return 1 + varintBytes(id) + varintBytes(offset) + varintBytes(length);
}

/** Writes a STREAM frame's header. */
export function writeStreamHead(
  writer: FrameWriter,
  id: number,
  offset: number,
  length: number,
  fin: boolean,
): void {
  writer.byte(fin ? FrameType.streamFin : FrameType.stream);
  writer.varint(id);
  writer.varint(offset);
  writer.varint(length);
}

/** Bytes of the largest frame that {@link writeControl} writes. */
export const CONTROL_MAX_BYTES = 1 + 4 * 8;

/** Writes a frame that consists of integers: PING, RESET, the MAX_ frames, PARAMS. */
export function writeControl(
  writer: FrameWriter,
  type: number,
  a?: number,
  b?: number,
  c?: number,
  d?: number,
): void {
  writer.byte(type);
  if (a !== undefined) writer.varint(a);
  if (b !== undefined) writer.varint(b);
  if (c !== undefined) writer.varint(c);
  if (d !== undefined) writer.varint(d);
}

/** Writes a frame that consists of bytes of a fixed size: PATH_CHALLENGE, PATH_RESPONSE, CONNECTION_ID. */
export function writeFixed(writer: FrameWriter, type: number, data: Bytes): void {
  writer.byte(type);
  writer.bytes(data);
}

/** Writes CLOSE; the text is truncated at {@link REASON_MAX_BYTES}. */
export function writeClose(writer: FrameWriter, code: number, reason: string): void {
  const text = new Uint8Array(REASON_MAX_BYTES);
  const { written } = new TextEncoder().encodeInto(reason, text);
  writer.byte(FrameType.close);
  writer.varint(code);
  writer.varint(written);
  writer.bytes(text.subarray(0, written));
}
