/**
 * The interface of a header cipher: a {@link Sealer} for the direction that this side sends and an
 * {@link Opener} for the other, each with the state of its direction (docs/protocols/snitun.md, Handshake: E).
 *
 * @module
 */

import type { Bytes } from "../bytes/bytes.ts";

/** The ciphers that a token can name. */
export type CipherName = "aes-cbc" | "aes-gcm" | "aes-gcm-siv";

/** Which end of a session one is; it chooses the nonce prefix of aes-gcm. */
export type Role = "agent" | "edge";

/** Encrypts the units (challenge, headers, NEW payloads) of one direction, in the order in which they go out. */
export interface Sealer {
  /** What sealing adds to each unit: 0 for aes-cbc, 28 (nonce and tag) for the others. */
  readonly overheadBytes: number;
  /**
   * Seals `plain`, n units of `unitBytes` bytes one after another, and gives the n sealed units one after another,
   * `unitBytes + overheadBytes` each. The result may be an internal buffer: it is valid until the next call of
   * `seal` or `park`. `plain` is neither kept nor changed.
   *
   * @throws {SallyportError} `cipher_failed`, side "local": `plain` isn't n units of a size that the cipher takes.
   */
  seal(plain: Bytes, unitBytes: number): Bytes;
  /**
   * Lets go of native contexts and buffers while nothing is to send; the next `seal` gets new ones and goes on, at
   * the cost of some 0.5 µs on Bun and 2 µs on Deno (aes-cbc). To be called once more when the session is over:
   * Deno doesn't free a native context on its own. Idempotent.
   */
  park(): void;
}

/** Decrypts the units of the peer's direction, in the order in which they come in. */
export interface Opener {
  /** What sealing has added to each unit: 0 for aes-cbc, 28 for the others. */
  readonly overheadBytes: number;
  /**
   * Opens one unit, `overheadBytes` longer than its plain text. The result may be an internal buffer: it is valid
   * until the next call of `open` or `park`. `wire` is neither kept nor changed. After an error the opener is as it
   * was before the call, but a session that met one is over: nothing behind it can be trusted.
   *
   * @throws {SallyportError} `cipher_failed`: the length is impossible, the nonce not the expected one, the tag wrong.
   */
  open(wire: Bytes): Bytes;
  /** The same as {@link Sealer.park}, while nothing comes in. To be called when the session is over. */
  park(): void;
}
