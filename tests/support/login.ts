/**
 * Logins of agents that a test plays itself.
 *
 * @module
 */
import type { Bytes } from "../../src/bytes/bytes.ts";
import { type LoginBinding, loginProof } from "../../src/protocol/handshake/login_proof.ts";
import type { CreatedToken } from "../../src/protocol/token/token.ts";
import { encodeLogin } from "../../src/wire/login/login_messages.ts";

/** LOGIN of an agent that has this token and its key. */
export function loginOf({ token: text, claims }: CreatedToken, binding: LoginBinding): Bytes {
  const token: Bytes = new TextEncoder().encode(text);
  return encodeLogin({ token, proof: loginProof(claims.aesKey, token, binding) });
}
