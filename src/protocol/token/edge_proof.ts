/**
 * How an edge and its session master authenticate each other: by their shared Fernet keys. An edge's request carries a
 * Fernet token that names the edge and the request and contains a fresh key. The master encrypts the requested stream
 * with that key, since it may contain further Fernet keys.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { createCipheriv, createDecipheriv, randomBytes } from "node:crypto";
import type { FernetRing } from "../../crypto/fernet.ts";
import { SallyportError } from "../../errors.ts";
import type { ProvenRequest } from "./agent_proof.ts";

/** An edge's proof is valid for this long after its creation, and as long before: clocks differ. */
export const EDGE_PROOF_WINDOW_S = 120;

const KEY_BYTES = 32;
const IV_BYTES = 12;
const TAG_BYTES = 16;

/** The contents of a proof. */
export interface EdgeProof {
  /** The edge's name. */
  readonly edge: string;
  /** The key that the master encrypts with, 32 bytes. */
  readonly key: Uint8Array;
}

/** Creates a proof for one request. */
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

/** Opens a proof; undefined if it isn't valid for this request. */
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

/** Encrypts the lines of one stream; each is bound to its position. */
export class StreamSealer {
  readonly #key: Uint8Array;
  #count = 0;

  constructor(key: Uint8Array) {
    this.#key = key;
  }

  /** Encrypts the next line; the result has no line end. */
  seal(text: string): string {
    const iv = randomBytes(IV_BYTES);
    const cipher = createCipheriv("aes-256-gcm", this.#key, iv).setAAD(place(this.#count++));
    const sealed = Buffer.concat([cipher.update(text, "utf8"), cipher.final()]);
    return Buffer.concat([iv, cipher.getAuthTag(), sealed]).toString("base64");
  }
}

/** Decrypts the lines of one stream. */
export class StreamOpener {
  readonly #key: Uint8Array;
  #count = 0;

  constructor(key: Uint8Array) {
    this.#key = key;
  }

  /**
   * The text of the next line.
   *
   * @throws SallyportError `cipher_failed` if it isn't from the master, or isn't the next line.
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
