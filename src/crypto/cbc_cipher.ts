/**
 * aes-cbc: AES-256-CBC without padding, one continuous chain per direction, the same IV for both directions. It adds no
 * bytes and authenticates nothing (docs/protocols/snitun.md, Handshake and Faults).
 *
 * The chain's whole state is its last ciphertext block. It is kept outside the native context, which can therefore be
 * dropped at any time: the contexts of one session take 1.5 KB on Bun and 6 KB on Deno, too much for an idle one. They
 * are dropped with `final`: until then Deno 2.9 keeps a context outside its heap, unknown to the garbage collector (1.2
 * KB leaked for each one that is merely dropped).
 *
 * @module
 */

import { createCipheriv, createDecipheriv } from "node:crypto";
import type { Bytes } from "../bytes/bytes.ts";
import { SallyportError } from "../errors.ts";
import type { Opener, Sealer } from "./sealer.ts";

/** The native part of a chain: a cipher of node:crypto, or a library's. */
export interface CbcContext {
  /** The blocks encrypted or decrypted; valid until the next call. */
  update(blocks: Bytes): Uint8Array;
  /** Releases it. */
  final(): unknown;
}

/** AES-256-CBC without padding from a system library. */
export interface CbcLibrary {
  /**
   * Goes on with a chain. `state` holds the key and the last ciphertext block; the caller puts the new last block there
   * after each `update`.
   */
  encryption(state: Bytes): CbcContext;
  /** The same for decrypting. */
  decryption(state: Bytes): CbcContext;
}

const ALGORITHM = "aes-256-cbc";
const BLOCK_BYTES = 16;
const KEY_BYTES = 32;

/** Key and chain block in one buffer: one small allocation per direction. */
function makeState(key: Bytes, iv: Bytes): Bytes {
  const state: Bytes = new Uint8Array(KEY_BYTES + BLOCK_BYTES);
  state.set(key, 0);
  state.set(iv, KEY_BYTES);
  return state;
}

/** Saves the last block of `ciphertext`, to which the next is chained. */
function chainOn(state: Bytes, ciphertext: Bytes): void {
  const from = ciphertext.length - BLOCK_BYTES;
  for (let i = 0; i < BLOCK_BYTES; i++) state[KEY_BYTES + i] = ciphertext[from + i]!;
}

/** The encrypting half of aes-cbc; created by `createSealer`. */
export class CbcSealer implements Sealer {
  readonly overheadBytes = 0;
  readonly #state: Bytes;
  readonly #library: CbcLibrary | undefined;
  #native: CbcContext | undefined;

  /** @param library used instead of node:crypto */
  constructor(key: Bytes, iv: Bytes, library?: CbcLibrary) {
    this.#state = makeState(key, iv);
    this.#library = library;
  }

  seal(plain: Bytes, unitBytes: number): Bytes {
    if (
      unitBytes <= 0 || unitBytes % BLOCK_BYTES !== 0 || plain.length === 0 || plain.length % unitBytes !== 0
    ) {
      throw new SallyportError(
        "cipher_failed",
        `Cannot seal with aes-cbc: ${plain.length} bytes aren't units of ${unitBytes} bytes, a multiple of 16`,
        { side: "local" },
      );
    }
    const state = this.#state;
    this.#native ??= this.#library?.encryption(state) ??
      createCipheriv(ALGORITHM, state.slice(0, KEY_BYTES), state.slice(KEY_BYTES)).setAutoPadding(false);
    // The chain ignores unit boundaries: any number of units is one native call.
    const wire = this.#native.update(plain) as Bytes;
    chainOn(state, wire);
    return wire;
  }

  park(): void {
    this.#native?.final();
    this.#native = undefined;
  }
}

/** The decrypting half of aes-cbc; created by `createOpener`. */
export class CbcOpener implements Opener {
  readonly overheadBytes = 0;
  readonly #state: Bytes;
  readonly #library: CbcLibrary | undefined;
  #native: CbcContext | undefined;

  /** @param library used instead of node:crypto */
  constructor(key: Bytes, iv: Bytes, library?: CbcLibrary) {
    this.#state = makeState(key, iv);
    this.#library = library;
  }

  open(wire: Bytes): Bytes {
    if (wire.length === 0 || wire.length % BLOCK_BYTES !== 0) {
      throw new SallyportError(
        "cipher_failed",
        `Cannot open unit with aes-cbc: it has ${wire.length} bytes, not a multiple of 16`,
        { side: "peer" },
      );
    }
    const state = this.#state;
    this.#native ??= this.#library?.decryption(state) ??
      createDecipheriv(ALGORITHM, state.slice(0, KEY_BYTES), state.slice(KEY_BYTES)).setAutoPadding(false);
    const plain = this.#native.update(wire) as Bytes;
    chainOn(state, wire);
    return plain;
  }

  park(): void {
    this.#native?.final();
    this.#native = undefined;
  }
}
