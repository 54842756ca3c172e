/**
 * The proof sent with a token (docs/protocols/login.md): an agent proves that it has the key in the token, without
 * revealing the key. Under SniTun a token crosses the network in clear, so a copy of it must not open a session. The
 * proof is valid for one login: it is bound to the transport, to the edge, and to a value unique to this connection.
 *
 * @module
 */
import { hash, timingSafeEqual } from "node:crypto";
import type { Bytes } from "../../bytes/bytes.ts";
import { hkdfExpand, hkdfExtract } from "../../crypto/hkdf.ts";
import { hmacSha256 } from "../../crypto/hmac.ts";
import { SallyportError } from "../../errors.ts";
import { PROOF_BYTES } from "../../wire/login/login_messages.ts";

const KEY_LABEL = "sallyport login 1 key";
const PROOF_LABEL = "sallyport login 1 proof";
const NO_SALT: Bytes = new Uint8Array(32);

/** The values that a login's proof is bound to. */
export interface LoginBinding {
  /** The transport's name. */
  readonly transport: string;
  /** 32 bytes that identify the edge: its public key, or its certificate's fingerprint. */
  readonly edgeKey: Bytes;
  /** 32 bytes unique to this connection: derived from its keys, or a nonce from the edge. */
  readonly channel: Bytes;
}

/** Makes the proof for a token with its key, `aesKey`. */
export function loginProof(
  aesKey: Bytes,
  token: Bytes,
  { transport, edgeKey, channel }: LoginBinding,
): Bytes {
  const key = hkdfExpand(hkdfExtract(NO_SALT, aesKey), KEY_LABEL, PROOF_BYTES);
  const label = new TextEncoder().encode(`${PROOF_LABEL}\0${transport}\0`);
  const tokenHash = Uint8Array.fromHex(hash("sha256", token, "hex"));
  return hmacSha256(key, label, edgeKey, channel, tokenHash);
}

/**
 * Compares a proof in constant time.
 *
 * @throws {SallyportError} `challenge_failed`: it was made without the token's key, or for another login.
 */
export function checkLoginProof(proof: Bytes, aesKey: Bytes, token: Bytes, binding: LoginBinding): void {
  const expected = loginProof(aesKey, token, binding);
  if (proof.length === expected.length && timingSafeEqual(proof, expected)) return;
  const why = "its proof was made with another key or for another login";
  throw new SallyportError(
    "challenge_failed",
    `Cannot open session: the agent presents a token, but ${why}`,
    {
      side: "peer",
    },
  );
}
