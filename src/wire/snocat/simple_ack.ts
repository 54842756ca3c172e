/**
 * snocat's simple-ack (docs/protocols/snocat.md, Authentication): two messages of 64 bytes, without authentication.
 *
 * @module
 */
import type { Bytes } from "../../bytes/bytes.ts";
import { SallyportError } from "../../errors.ts";

/** Size of each message. */
export const SIMPLE_ACK_BYTES = 64;

/** The messages: the listening side sends hello, the connecting side answers. */
export type SimpleAckMessage = "hello" | "answer";

const TEXTS: Readonly<Record<SimpleAckMessage, string>> = { hello: "HELO", answer: "HELO/HELO" };

/** The message: its text, then zeros. */
export function encodeSimpleAck(message: SimpleAckMessage): Bytes {
  const bytes = new Uint8Array(SIMPLE_ACK_BYTES);
  new TextEncoder().encodeInto(TEXTS[message], bytes);
  return bytes;
}

/**
 * Whether `bytes`, the first received, are the complete message yet. Throws `credential_refused` at the first byte that
 * differs.
 */
export function checkSimpleAck(message: SimpleAckMessage, bytes: Bytes): boolean {
  const expected = encodeSimpleAck(message);
  for (let i = 0; i < bytes.length && i < SIMPLE_ACK_BYTES; i++) {
    if (bytes[i] !== expected[i]) {
      throw new SallyportError(
        "credential_refused",
        "Cannot authenticate: the peer doesn't speak simple-ack",
        { side: "peer" },
      );
    }
  }
  return bytes.length >= SIMPLE_ACK_BYTES;
}
