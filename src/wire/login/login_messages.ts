/**
 * LOGIN, CHALLENGE and VERDICT: how an agent presents its token over our own transports, and how the edge answers
 * (docs/protocols/login.md). Integers are big-endian.
 *
 * @module
 */
import type { Bytes } from "../../bytes/bytes.ts";
import { type ErrorCode, SallyportError } from "../../errors.ts";
import { TOKEN_MAX_BYTES } from "../token/token_payload.ts";

/** Bytes of a login's proof. */
export const PROOF_BYTES = 32;
/** Bytes of CHALLENGE, a nonce from the edge. */
export const LOGIN_CHALLENGE_BYTES = 32;
/** Bytes before the token in LOGIN: its length. */
const LOGIN_HEAD_BYTES = 2;
/** The longest LOGIN. */
export const LOGIN_MAX_BYTES: number = LOGIN_HEAD_BYTES + TOKEN_MAX_BYTES + PROOF_BYTES;
/** The longest text of a verdict. */
const CODE_MAX_BYTES = 64;

/** An agent's credentials: its token, and the proof that it has the key in the token. */
export interface Login {
  readonly token: Bytes;
  readonly proof: Bytes;
}

/** Writes LOGIN up to its proof. */
export function encodeLoginToken(token: Bytes): Bytes {
  const bytes = new Uint8Array(LOGIN_HEAD_BYTES + token.length);
  bytes[0] = token.length >> 8;
  bytes[1] = token.length;
  bytes.set(token, LOGIN_HEAD_BYTES);
  return bytes;
}

/** Writes LOGIN. */
export function encodeLogin({ token, proof }: Login): Bytes {
  const bytes = new Uint8Array(LOGIN_HEAD_BYTES + token.length + PROOF_BYTES);
  bytes.set(encodeLoginToken(token));
  bytes.set(proof, LOGIN_HEAD_BYTES + token.length);
  return bytes;
}

/** The length of the LOGIN that begins with these bytes, undefined until it is known. Throws `token_invalid`. */
export function loginLength(bytes: Bytes): number | undefined {
  if (bytes.length < LOGIN_HEAD_BYTES) return undefined;
  const length = (bytes[0]! << 8) | bytes[1]!;
  if (length < 1 || length > TOKEN_MAX_BYTES) throw invalidLogin();
  return LOGIN_HEAD_BYTES + length + PROOF_BYTES;
}

/** Reads a LOGIN; copies. Throws `token_invalid`. */
export function decodeLogin(bytes: Bytes): Login {
  if (loginLength(bytes) !== bytes.length) throw invalidLogin();
  const proofAt = bytes.length - PROOF_BYTES;
  return {
    token: new Uint8Array(bytes.subarray(LOGIN_HEAD_BYTES, proofAt)),
    proof: new Uint8Array(bytes.subarray(proofAt)),
  };
}

/** Writes VERDICT: accepted if there is no code, else the reason for refusal. */
export function encodeVerdict(code: string | undefined): Bytes {
  const text = new TextEncoder().encode(code ?? "").subarray(0, CODE_MAX_BYTES);
  const bytes = new Uint8Array(1 + text.length);
  bytes[0] = text.length;
  bytes.set(text, 1);
  return bytes;
}

/** Refusal reasons of an edge that an agent adopts as its own. */
const VERDICTS: readonly ErrorCode[] = [
  "access_denied",
  "challenge_failed",
  "deadline_exceeded",
  "key_reused",
  "limit_exceeded",
  "name_flapping",
  "name_taken",
  "shutdown",
  "token_expired",
  "token_invalid",
  "token_stale",
  "unauthorized",
];

/** Maps a verdict's reason to the agent's: `session_refused` for an unknown one. */
export function verdictCode(code: string): ErrorCode {
  return VERDICTS.find((known) => known === code) ?? "session_refused";
}

/** The length of the VERDICT that begins with these bytes, undefined until it is known. */
export function verdictLength(bytes: Bytes): number | undefined {
  return bytes.length === 0 ? undefined : 1 + bytes[0]!;
}

/** Reads a VERDICT: undefined if accepted, else an error code. Throws `challenge_failed`. */
export function decodeVerdict(bytes: Bytes): string | undefined {
  const text = new TextDecoder().decode(bytes.subarray(1));
  if (bytes.length === 0 || bytes[0] !== bytes.length - 1 || !/^[a-z_]{0,64}$/.test(text)) {
    throw new SallyportError("challenge_failed", "Cannot open session: the edge's verdict can't be read", {
      side: "peer",
    });
  }
  return text === "" ? undefined : text;
}

function invalidLogin(): SallyportError {
  return new SallyportError("token_invalid", "Cannot read login: its length doesn't match its parts", {
    side: "peer",
  });
}
