/**
 * How an edge and its session master know one another: by the Fernet keys that both have. An edge's request carries a
 * Fernet token that names the edge and the request, and gives a fresh key; what the master sends over the stream that is
 * asked for so is encrypted with that key, for it may hold further Fernet keys.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { createCipheriv, createDecipheriv, randomBytes } from "node:crypto";
import type { FernetRing } from "../../crypto/fernet.ts";
import { SallyportError } from "../../errors.ts";
import type { ProvenRequest } from "./agent_proof.ts";

/** An edge's proof is good for this long from its making, and as long before: clocks differ. */
export const EDGE_PROOF_WINDOW_S = 120;

const KEY_BYTES = 32;
const IV_BYTES = 12;
const TAG_BYTES = 16;

/** What a proof says. */
export interface EdgeProof {
  /** The edge's name. */
  readonly edge: string;
  /** What the master encrypts with, 32 bytes. */
  readonly key: Uint8Array;
}

/** Makes a proof for one request. */
export function sealEdgeProof(
  ring: FernetRing,
  { edge, key }: EdgeProof,
  { method, path }: ProvenRequest,
  nowMs: number,
): string {
  const payload = {
    sallyport_edge: edge,
    key: Buffer.from(key).toString("base64url"),
    method,
    path,
    at_ms: nowMs,
  };
  return ring.seal(new TextEncoder().encode(JSON.stringify(payload)), { nowMs });
}

/** Opens a proof; undefined for one that isn't good for this request. */
export function openEdgeProof(
  ring: FernetRing,
  proof: string,
  { method, path }: ProvenRequest,
  nowMs: number,
): EdgeProof | undefined {
  const opened = ring.tryOpen(proof);
  if (typeof opened === "string") return undefined;
  try {
    const said = JSON.parse(new TextDecoder().decode(opened)) as Record<string, unknown>;
    const { sallyport_edge: edge, at_ms: atMs } = said;
    const key = new Uint8Array(Buffer.from(String(said.key), "base64url"));
    const fits = typeof edge === "string" && /^[\w.:-]{1,128}$/.test(edge) && said.method === method &&
      said.path === path && typeof atMs === "number" && Math.abs(nowMs - atMs) <= EDGE_PROOF_WINDOW_S * 1000;
    return fits && key.length === KEY_BYTES ? { edge, key } : undefined;
  } catch {
    return undefined;
  }
}

/** A fresh key for {@link EdgeProof}. */
export function makeStreamKey(): Uint8Array {
  return new Uint8Array(randomBytes(KEY_BYTES));
}

/** Encrypts the lines of one stream; each is bound to its place. */
export class StreamSealer {
  readonly #key: Uint8Array;
  #count = 0;

  constructor(key: Uint8Array) {
    this.#key = key;
  }

  /** The next line, without its end. */
  seal(text: string): string {
    const iv = randomBytes(IV_BYTES);
    const cipher = createCipheriv("aes-256-gcm", this.#key, iv).setAAD(place(this.#count++));
    const sealed = Buffer.concat([cipher.update(text, "utf8"), cipher.final()]);
    return Buffer.concat([iv, cipher.getAuthTag(), sealed]).toString("base64");
  }
}

/** Decrypts them. */
export class StreamOpener {
  readonly #key: Uint8Array;
  #count = 0;

  constructor(key: Uint8Array) {
    this.#key = key;
  }

  /**
   * The text of the next line.
   *
   * @throws SallyportError `cipher_failed` where it isn't the master's, or not the next one.
   */
  open(line: string): string {
    const bytes = Buffer.from(line, "base64");
    try {
      const decipher = createDecipheriv("aes-256-gcm", this.#key, bytes.subarray(0, IV_BYTES))
        .setAAD(place(this.#count++));
      decipher.setAuthTag(bytes.subarray(IV_BYTES, IV_BYTES + TAG_BYTES));
      return decipher.update(bytes.subarray(IV_BYTES + TAG_BYTES), undefined, "utf8") +
        decipher.final("utf8");
    } catch (cause) {
      const why = "Cannot read the session master's message: it isn't encrypted as agreed";
      throw new SallyportError("cipher_failed", why, { side: "peer", retryable: true, cause });
    }
  }
}

function place(count: number): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(count));
  return bytes;
}
