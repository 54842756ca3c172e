/**
 * How an enrolled agent authenticates to the session master: with a JWT (RFC 7519) for one request, signed with its
 * Ed25519 key. The master has only the public key.
 *
 * | | |
 * | --- | --- |
 * | header | `typ` "sallyport-agent+jwt", `alg` "EdDSA", `kid` the agent's id |
 * | `iat` | when it was signed, in seconds since 1970 |
 * | `jti` | a random number that the master takes once |
 * | `htm`, `htu` | the request's method and path, as in RFC 9449 |
 *
 * @module
 */
import { createPrivateKey, createPublicKey, generateKeyPairSync, randomBytes, sign } from "node:crypto";
import { decodeJwt, decodeProtectedHeader, importJWK, jwtVerify } from "jose";
import { Buffer } from "node:buffer";

/** An agent's proof is valid for this long after its signing, and as long before: clocks differ. */
export const AGENT_PROOF_WINDOW_S = 60;

const TYPE = "sallyport-agent+jwt";

/** The request that a proof is for. */
export interface ProvenRequest {
  readonly method: string;
  /** The path, without query. */
  readonly path: string;
}

/** An agent's key pair. */
export interface AgentKeys {
  /** 32 bytes in base64url. */
  readonly publicKey: string;
  /** 32 bytes in base64url; a secret. */
  readonly secretKey: string;
}

/** Generates a key pair. */
export function makeAgentKeys(): AgentKeys {
  const { privateKey } = generateKeyPairSync("ed25519");
  const { x, d } = privateKey.export({ format: "jwk" });
  return { publicKey: x!, secretKey: d! };
}

/** Whether this is an agent's public key: a valid Ed25519 point, in base64url. */
export function isAgentPublicKey(text: string): boolean {
  if (!/^[\w-]{43}$/.test(text)) return false;
  try {
    createPublicKey({ key: { kty: "OKP", crv: "Ed25519", x: text }, format: "jwk" });
    return Buffer.from(text, "base64url").toString("base64url") === text;
  } catch {
    return false;
  }
}

/** Signs a proof for one request. */
export function signAgentProof(
  agent: string,
  keys: AgentKeys,
  { method, path }: ProvenRequest,
  nowMs: number,
): string {
  const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const header = { typ: TYPE, alg: "EdDSA", kid: agent };
  const claims = {
    iat: Math.floor(nowMs / 1000),
    jti: randomBytes(16).toString("base64url"),
    htm: method,
    htu: path,
  };
  const signed = `${part(header)}.${part(claims)}`;
  const { publicKey: x, secretKey: d } = keys;
  const key = createPrivateKey({ key: { kty: "OKP", crv: "Ed25519", x, d }, format: "jwk" });
  return `${signed}.${sign(null, Buffer.from(signed), key).toString("base64url")}`;
}

/** The agent that a proof names, unverified; undefined if it isn't an agent's proof. */
export function proofAgent(proof: string): string | undefined {
  try {
    const { typ, alg, kid } = decodeProtectedHeader(proof);
    return typ === TYPE && alg === "EdDSA" && typeof kid === "string" ? kid : undefined;
  } catch {
    return undefined;
  }
}

/** The result of verifying a proof: its `jti` and when that may be forgotten, or why it is invalid. */
type ProofVerdict =
  | { readonly nonce: string; readonly expiresAtMs: number }
  | { readonly fault: "signature" | "request" | "time" };

/** Verifies a proof with the agent's public key. The caller checks whether its `jti` has been used. */
export async function verifyAgentProof(
  proof: string,
  publicKey: string,
  request: ProvenRequest,
  nowMs: number,
): Promise<ProofVerdict> {
  try {
    const key = await importJWK({ kty: "OKP", crv: "Ed25519", x: publicKey }, "EdDSA");
    await jwtVerify(proof, key, { algorithms: ["EdDSA"], typ: TYPE, currentDate: new Date(nowMs) });
  } catch {
    return { fault: "signature" };
  }
  const { iat, jti, htm, htu } = decodeJwt(proof);
  if (typeof iat !== "number" || typeof jti !== "string" || !/^[\w-]{16,64}$/.test(jti)) {
    return { fault: "signature" };
  }
  if (htm !== request.method || htu !== request.path) return { fault: "request" };
  if (Math.abs(nowMs / 1000 - iat) > AGENT_PROOF_WINDOW_S) return { fault: "time" };
  return { nonce: jti, expiresAtMs: (iat + AGENT_PROOF_WINDOW_S + 1) * 1000 };
}
