/**
 * Proof of a key without revealing it: both sides send nonces, and each proves possession of the key by an HMAC over
 * both nonces, its side, the method and the subject. A recorded proof is useless in another session or in the other
 * direction.
 *
 * @module
 */
import { createHmac, randomBytes, timingSafeEqual } from "node:crypto";
import { type Bytes, concat } from "../../bytes/bytes.ts";
import { SallyportError } from "../../errors.ts";
import { unauthorized } from "./negotiate.ts";
import type { AuthSteps } from "./port.ts";

/** Length of a nonce, and of a proof. */
export const NONCE_BYTES = 32;

/** The input of a signature or HMAC, encoded unambiguously. */
export function transcript(
  method: string,
  side: "prover" | "verifier",
  proverNonce: Bytes,
  verifierNonce: Bytes,
  subject: Bytes,
): Bytes {
  const label = new TextEncoder().encode(`sallyport tunnel ${method} ${side}\0`);
  return concat([label, proverNonce, verifierNonce, subject]);
}

/** Generates a nonce. */
export function makeNonce(): Bytes {
  return new Uint8Array(randomBytes(NONCE_BYTES));
}

/** Parses the prover's first message: its nonce and claimed identity. */
export function splitClaim(message: Bytes): { readonly nonce: Bytes; readonly subject: Bytes } {
  if (message.length <= NONCE_BYTES) throw unauthorized("its first message is too short");
  return { nonce: message.slice(0, NONCE_BYTES), subject: message.slice(NONCE_BYTES) };
}

/** Encodes the prover's first message. */
export function joinClaim(nonce: Bytes, subject: Bytes): Bytes {
  return concat([nonce, subject]);
}

/**
 * Runs the verifier's steps after the claim: challenge, proof. Returns the verifier's own proof for the confirmation.
 */
export async function verifyKey(
  steps: AuthSteps,
  method: string,
  claim: { readonly nonce: Bytes; readonly subject: Bytes },
  key: Bytes,
): Promise<Bytes> {
  const nonce = makeNonce();
  steps.send(nonce);
  const proof = await steps.receive();
  if (!same(proof, mac(key, transcript(method, "prover", claim.nonce, nonce, claim.subject)))) {
    throw unauthorized("its proof is wrong");
  }
  return mac(key, transcript(method, "verifier", claim.nonce, nonce, claim.subject));
}

/** Runs the prover's steps; returns a function that checks the verifier's own proof. */
export async function proveKey(
  steps: AuthSteps,
  method: string,
  subject: Bytes,
  key: Bytes,
): Promise<(confirmation: Bytes) => void> {
  const nonce = makeNonce();
  steps.send(joinClaim(nonce, subject));
  const theirs = await steps.receive();
  if (theirs.length !== NONCE_BYTES) throw unauthorized("the challenge has another length");
  steps.send(mac(key, transcript(method, "prover", nonce, theirs, subject)));
  return (confirmation) => {
    if (same(confirmation, mac(key, transcript(method, "verifier", nonce, theirs, subject)))) return;
    throw new SallyportError(
      "challenge_failed",
      "Cannot authenticate: the other side doesn't have the key itself",
      { side: "peer" },
    );
  };
}

function mac(key: Bytes, message: Bytes): Bytes {
  return new Uint8Array(createHmac("sha256", key).update(message).digest());
}

function same(one: Bytes, other: Bytes): boolean {
  return one.length === other.length && timingSafeEqual(one, other);
}
