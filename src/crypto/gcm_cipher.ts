/**
 * aes-gcm: `nonce(12) ‖ ciphertext ‖ tag(16)` with AES-256-GCM, nonce = direction (u32 BE: agent 0, edge 1) ‖
 * counter (u64 BE, from 0) (docs/protocols/snitun.md, Handshake).
 *
 * The peer's nonces are predictable, so the opener checks them: a replayed, reflected, reordered or omitted unit is
 * refused, which the tag alone would not detect.
 *
 * @module
 */

import { type Bytes, part } from "../bytes/bytes.ts";
import { type Aead, NodeAead } from "./aead.ts";
import { SallyportError } from "../errors.ts";
import type { Opener, Role, Sealer } from "./sealer.ts";

const ALGORITHM = "aes-256-gcm";
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const TWO_32 = 0x1_0000_0000;

/** Bytes an AEAD adds to each unit: nonce and tag. */
export const AEAD_OVERHEAD_BYTES: number = NONCE_BYTES + TAG_BYTES;

function directionOf(role: Role): number {
  return role === "agent" ? 0 : 1;
}

/** Byte `index` (0–11) of the nonce with this direction and counter. */
function nonceByte(direction: number, counter: number, index: number): number {
  if (index < 4) return index === 3 ? direction : 0;
  const half = index < 8 ? Math.floor(counter / TWO_32) : counter % TWO_32;
  return (half >>> (8 * (3 - index % 4))) & 0xff;
}

/** The encrypting half of aes-gcm; created by `createSealer`. */
export class GcmSealer implements Sealer {
  readonly overheadBytes = AEAD_OVERHEAD_BYTES;
  readonly #key: Bytes;
  readonly #direction: number;
  readonly #aead: Aead;
  #counter = 0;
  #out: Bytes | undefined;

  /** @param aead defaults to node:crypto's */
  constructor(key: Bytes, role: Role, aead: Aead = new NodeAead(ALGORITHM)) {
    this.#aead = aead;
    this.#key = key.slice();
    this.#direction = directionOf(role);
  }

  seal(plain: Bytes, unitBytes: number): Bytes {
    const units = countUnits(plain, unitBytes, "aes-gcm");
    const sealedBytes = unitBytes + AEAD_OVERHEAD_BYTES;
    const total = units * sealedBytes;
    if (this.#out === undefined || this.#out.length < total) this.#out = new Uint8Array(total);
    const out = this.#out;
    for (let unit = 0; unit < units; unit++) {
      const at = unit * sealedBytes;
      // Incremented before use: even if a later step fails, no nonce is used twice.
      const counter = this.#counter++;
      for (let i = 0; i < NONCE_BYTES; i++) out[at + i] = nonceByte(this.#direction, counter, i);
      const boxAt = at + NONCE_BYTES;
      const text = plain.subarray(unit * unitBytes, (unit + 1) * unitBytes);
      this.#aead.seal(text, out.subarray(boxAt, at + sealedBytes), out.subarray(at, boxAt), this.#key);
    }
    return part(out, 0, total);
  }

  park(): void {
    this.#out = undefined;
  }
}

/** The decrypting half of aes-gcm; created by `createOpener`. */
export class GcmOpener implements Opener {
  readonly overheadBytes = AEAD_OVERHEAD_BYTES;
  readonly #key: Bytes;
  readonly #direction: number;
  readonly #aead: Aead;
  #counter = 0;
  #out: Bytes | undefined;

  /** @param aead defaults to node:crypto's */
  constructor(key: Bytes, peerRole: Role, aead: Aead = new NodeAead(ALGORITHM)) {
    this.#aead = aead;
    this.#key = key.slice();
    this.#direction = directionOf(peerRole);
  }

  open(wire: Bytes): Bytes {
    checkSealedLength(wire, "aes-gcm");
    for (let i = 0; i < NONCE_BYTES; i++) {
      if (wire[i] !== nonceByte(this.#direction, this.#counter, i)) {
        throw new SallyportError(
          "cipher_failed",
          `Cannot open unit ${this.#counter} with aes-gcm: its nonce isn't the next one of this direction`,
          { side: "peer" },
        );
      }
    }
    const size = wire.length - AEAD_OVERHEAD_BYTES;
    if (this.#out === undefined || this.#out.length < size) this.#out = new Uint8Array(size);
    const plain = part(this.#out, 0, size);
    const [nonce, box] = [wire.subarray(0, NONCE_BYTES), wire.subarray(NONCE_BYTES)];
    if (!this.#aead.open(box, plain, nonce, this.#key)) throw tagWrong("aes-gcm");
    this.#counter++;
    return plain;
  }

  park(): void {
    this.#out = undefined;
  }
}

/** Number of units in `plain`; for the AEAD ciphers. */
export function countUnits(plain: Bytes, unitBytes: number, cipher: string): number {
  if (unitBytes <= 0 || plain.length === 0 || plain.length % unitBytes !== 0) {
    throw new SallyportError(
      "cipher_failed",
      `Cannot seal with ${cipher}: ${plain.length} bytes aren't units of ${unitBytes} bytes`,
      { side: "local" },
    );
  }
  return plain.length / unitBytes;
}

/** Refuses a sealed unit too short for a byte of plain text; for the AEAD ciphers. */
export function checkSealedLength(wire: Bytes, cipher: string): void {
  if (wire.length <= AEAD_OVERHEAD_BYTES) {
    throw new SallyportError(
      "cipher_failed",
      `Cannot open unit with ${cipher}: it has ${wire.length} bytes, needs more than ${AEAD_OVERHEAD_BYTES}`,
      { side: "peer" },
    );
  }
}

/** The error for a unit that was made with another key or altered in transit. */
export function tagWrong(cipher: string, cause?: unknown): SallyportError {
  return new SallyportError("cipher_failed", `Cannot open unit with ${cipher}: its tag is wrong`, {
    side: "peer",
    cause,
  });
}
