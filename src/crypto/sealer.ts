/**
 * The interface of a header cipher: a {@link Sealer} for the direction this side sends and an {@link Opener} for the
 * other, each with the state of its direction (docs/protocols/snitun.md, Handshake: E).
 *
 * @module
 */

import type { Bytes } from "../bytes/bytes.ts";

/** The ciphers that a token can name. */
export type CipherName = "aes-cbc" | "aes-gcm" | "aes-gcm-siv";

/** The end of a session; it determines the nonce prefix of aes-gcm. */
export type Role = "agent" | "edge";

/** Encrypts the units (challenge, headers, NEW payloads) of one direction, in sending order. */
export interface Sealer {
  /** Bytes added to each unit: 0 for aes-cbc, 28 (nonce and tag) for the others. */
  readonly overheadBytes: number;
  /**
   * Seals `plain`, n consecutive units of `unitBytes` bytes, and returns the n sealed units in sequence, `unitBytes +
   * overheadBytes` each. The result may be an internal buffer: it is valid until the next call of `seal` or `park`.
   * `plain` is neither kept nor changed.
   *
   * @throws {SallyportError} `cipher_failed`, side "local": `plain` isn't n units of a size the cipher accepts.
   */
  seal(plain: Bytes, unitBytes: number): Bytes;
  /**
   * Releases native contexts and buffers while there is nothing to send; the next `seal` allocates new ones and
   * continues, at the cost of some 0.5 µs on Bun and 2 µs on Deno (aes-cbc). Must be called once more at the end of the
   * session: Deno doesn't free a native context automatically. Idempotent.
   */
  park(): void;
}

/** Decrypts the units of the peer's direction, in receiving order. */
export interface Opener {
  /** Bytes that sealing has added to each unit: 0 for aes-cbc, 28 for the others. */
  readonly overheadBytes: number;
  /**
   * Opens one unit, `overheadBytes` longer than its plain text. The result may be an internal buffer: it is valid until
   * the next call of `open` or `park`. `wire` is neither kept nor changed. An error leaves the opener unchanged, but
   * the session must end: nothing after the failed unit can be trusted.
   *
   * @throws {SallyportError} `cipher_failed`: the length is impossible, the nonce not the expected one, the tag wrong.
   */
  open(wire: Bytes): Bytes;
  /** Like {@link Sealer.park}, while nothing is received. Must be called at the end of the session. */
  park(): void;
}
