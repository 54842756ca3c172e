/**
 * HPACK (RFC 7541), the compression of HTTP/2's fields. Received blocks may use all of it; what we send uses only the
 * static table, and needs no state.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import type { Bytes } from "../../bytes/bytes.ts";
import type { Field } from "../http1/fields.ts";
import { decodeHuffman } from "./huffman.ts";

/** Size of the dynamic table that a peer may use, the protocol's default. */
export const HPACK_TABLE_BYTES = 4_096;
/** What a field adds to the size of a table or list besides its characters (RFC 7541 §4.1). */
const FIELD_OVERHEAD_BYTES = 32;

const STATIC: readonly Field[] = [
  ...[[":authority", ""], [":method", "GET"], [":method", "POST"], [":path", "/"], [":path", "/index.html"]],
  ...[[":scheme", "http"], [":scheme", "https"]],
  ...["200", "204", "206", "304", "400", "404", "500"].map((status) => [":status", status]),
  ...[["accept-charset", ""], ["accept-encoding", "gzip, deflate"]],
  ...[
    ..."accept-language accept-ranges accept access-control-allow-origin age allow authorization".split(" "),
    ..."cache-control content-disposition content-encoding content-language content-length".split(" "),
    ..."content-location content-range content-type cookie date etag expect expires from host".split(" "),
    ..."if-match if-modified-since if-none-match if-range if-unmodified-since last-modified link".split(" "),
    ..."location max-forwards proxy-authenticate proxy-authorization range referer refresh".split(" "),
    ..."retry-after server set-cookie strict-transport-security transfer-encoding user-agent".split(" "),
    ..."vary via www-authenticate".split(" "),
  ].map((name) => [name, ""]),
] as unknown as readonly Field[];

/** The block can't be decoded, which ends the connection (COMPRESSION_ERROR). */
export class HpackFault extends Error {}

/** Decodes the blocks of one connection, which share a table. */
export class HpackDecoder {
  readonly #listMaxBytes: number;
  /** The newest first. */
  readonly #dynamic: Field[] = [];
  #dynamicBytes = 0;
  #tableBytes = HPACK_TABLE_BYTES;
  #block: Bytes = new Uint8Array(0);
  #at = 0;

  /** `listMaxBytes` bounds the size of a decoded list. */
  constructor(listMaxBytes: number) {
    this.#listMaxBytes = listMaxBytes;
  }

  /**
   * Decodes a block; undefined if its list is too large. The table follows the block all the same.
   *
   * @throws HpackFault
   */
  decode(block: Bytes): Field[] | undefined {
    this.#block = block;
    this.#at = 0;
    const fields: Field[] = [];
    let listBytes = 0;
    let begun = false;
    while (this.#at < block.length) {
      const first = block[this.#at]!;
      if (first >> 5 === 1) {
        // RFC 7541 §4.2: the size of the table is changed at the beginning of a block.
        const bytes = this.#integer(5);
        if (begun || bytes > HPACK_TABLE_BYTES) throw new HpackFault("the size of the table isn't allowed");
        this.#tableBytes = bytes;
        this.#evict();
        continue;
      }
      begun = true;
      const field = first >= 0x80 ? this.#field(this.#integer(7)) : this.#literal(first);
      listBytes += sizeOf(field);
      if (listBytes <= this.#listMaxBytes) fields.push(field);
    }
    return listBytes > this.#listMaxBytes ? undefined : fields;
  }

  #literal(first: number): Field {
    const isKept = first >= 0x40;
    const index = this.#integer(isKept ? 6 : 4);
    const name = index === 0 ? this.#string() : this.#field(index)[0];
    const field: Field = [name, this.#string()];
    if (isKept) {
      this.#dynamic.unshift(field);
      this.#dynamicBytes += sizeOf(field);
      this.#evict();
    }
    return field;
  }

  #field(index: number): Field {
    const field = STATIC[index - 1] ?? this.#dynamic[index - 1 - STATIC.length];
    if (field === undefined) throw new HpackFault("it refers to a field that isn't in the table");
    return field;
  }

  #evict(): void {
    while (this.#dynamicBytes > this.#tableBytes) this.#dynamicBytes -= sizeOf(this.#dynamic.pop()!);
  }

  /** An integer whose first `bits` bits are in the current byte (RFC 7541 §5.1). */
  #integer(bits: number): number {
    const mask = (1 << bits) - 1;
    let value = this.#byte() & mask;
    if (value < mask) return value;
    // Four more bytes are more than any length or index here needs.
    for (let shift = 0; shift < 28; shift += 7) {
      const byte = this.#byte();
      value += (byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
    throw new HpackFault("an integer is too large");
  }

  #string(): string {
    const isHuffman = (this.#block[this.#at] ?? 0) >= 0x80;
    const byteLength = this.#integer(7);
    const end = this.#at + byteLength;
    if (end > this.#block.length) throw new HpackFault("a string is cut off");
    const bytes = this.#block.subarray(this.#at, end);
    this.#at = end;
    if (!isHuffman) return Buffer.from(bytes.buffer, bytes.byteOffset, byteLength).toString("latin1");
    const text = decodeHuffman(bytes, 2 * byteLength);
    if (text === undefined) throw new HpackFault("a string isn't in Huffman's code");
    return text;
  }

  #byte(): number {
    const byte = this.#block[this.#at++];
    if (byte === undefined) throw new HpackFault("it is cut off");
    return byte;
  }
}

function sizeOf([name, value]: Field): number {
  return name.length + value.length + FIELD_OVERHEAD_BYTES;
}

/** The indices in the static table: by name, and by name and value. */
const NAMES = new Map(STATIC.map(([name], at) => [name, at + 1] as const).reverse());
const FIELDS = new Map(STATIC.map(([name, value], at) => [`${name}\0${value}`, at + 1]));

/**
 * Encodes a list of fields. The first block of a connection must begin with {@link NO_TABLE}, because the others don't
 * use the table.
 */
export function encodeFields(fields: readonly Field[]): Bytes {
  // A length and an index are at most 4 bytes here, and a name and a value have two lengths.
  const size = fields.reduce((sum, [name, value]) => sum + name.length + value.length + 12, 0);
  const block = Buffer.allocUnsafe(size);
  let at = 0;
  const integer = (bits: number, flags: number, value: number) => {
    const mask = (1 << bits) - 1;
    if (value < mask) {
      block[at++] = flags | value;
      return;
    }
    block[at++] = flags | mask;
    for (value -= mask; value >= 0x80; value >>>= 7) block[at++] = 0x80 | value & 0x7f;
    block[at++] = value;
  };
  const string = (text: string) => {
    integer(7, 0, text.length);
    at += block.write(text, at, "latin1");
  };
  for (const [name, value] of fields) {
    const index = FIELDS.get(`${name}\0${value}`);
    if (index !== undefined) {
      integer(7, 0x80, index);
      continue;
    }
    const named = NAMES.get(name) ?? 0;
    integer(4, 0, named);
    if (named === 0) string(name);
    string(value);
  }
  return new Uint8Array(block.buffer as ArrayBuffer, block.byteOffset, at);
}

/** Sets the size of the table to 0. */
export const NO_TABLE = 0x20;
