/**
 * HTTP/2's compressed fields, which every visitor of a service that ends TLS may send.
 *
 * @module
 */
import type { Bytes } from "../../src/bytes/bytes.ts";
import type { Field } from "../../src/wire/http1/fields.ts";
import { encodeFields, HpackDecoder, HpackFault } from "../../src/wire/http2/hpack.ts";
import { readRequestFields } from "../../src/wire/http2/request.ts";
import { joined } from "./mutate.ts";
import type { Target } from "./target.ts";

const LIST_MAX_BYTES = 4_096;
const REQUEST: readonly Field[] = [
  [":method", "POST"],
  [":scheme", "https"],
  [":path", "/a?b"],
  [":authority", "a.example.org"],
  ["cookie", "a=b"],
];
/** Fields that are kept in the table, a name in Huffman's code, and a reference to both (RFC 7541, C.4). */
const COMPRESSED = new Uint8Array(Buffer.from("828684418cf1e3c2e5f23a6ba0ab90f4ff828684be", "hex"));

/** Reads blocks of fields. */
export const http2Fields: Target = {
  name: "http2_fields",
  seeds: [joined(sized(encodeFields(REQUEST)), sized(COMPRESSED)), sized(Uint8Array.of(0x3f, 0xe1, 0x1f))],
  whole: true,
  run: ([input]) => readBlocks(input!),
};

/** A block with its length in front. */
function sized(block: Bytes): Bytes {
  return joined(Uint8Array.of(block.length), block);
}

/** Reads the blocks of one connection, which share a table. */
function readBlocks(input: Bytes): string {
  const decoder = new HpackDecoder(LIST_MAX_BYTES);
  const outcomes: unknown[] = [];
  try {
    for (let at = 0; at < input.length; at += 1 + input[at]!) {
      const fields = decoder.decode(input.subarray(at + 1, at + 1 + input[at]!));
      if (fields === undefined) outcomes.push("too large");
      else outcomes.push([fields.length, readRequestFields(fields).kind]);
    }
  } catch (error) {
    if (!(error instanceof HpackFault)) throw error;
    outcomes.push(error.message);
  }
  return JSON.stringify(outcomes).slice(0, 400);
}
