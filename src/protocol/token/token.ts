/**
 * Complete tokens: a payload (wire/token_payload.ts) in a Fernet envelope (crypto/fernet.ts) (docs/protocols/snitun.md,
 * Token).
 *
 * @module
 */

import { Buffer } from "node:buffer";
import { hash, randomBytes } from "node:crypto";
import type { Bytes } from "../../bytes/bytes.ts";
import { couldBeComplete, FernetError, type FernetFault, type FernetRing } from "../../crypto/fernet.ts";
import { CIPHER_IV_BYTES, CIPHER_KEY_BYTES, type CipherName } from "../../crypto/header_cipher.ts";
import { SallyportError } from "../../errors.ts";
import {
  encodeTokenPayload,
  parseTokenPayload,
  TOKEN_MAX_BYTES,
  type TokenClaims,
} from "../../wire/token/token_payload.ts";

/** The session master: lifetimes of tokens in seconds. */
export const TOKEN_TTL_DEFAULT_S = 24 * 3600;
export const TOKEN_TTL_MIN_S = 10;
export const TOKEN_TTL_MAX_S = 31 * 24 * 3600;

/** Characters of {@link tokenId}: enough to distinguish the tokens in a log. */
const ID_CHARS = 12;
/** Version and time of a token, in bytes and in base64. */
const HEAD_BYTES = 9;
const HEAD_CHARS = 12;

/** Options of {@link createToken}: either `ttlSeconds` or `valid`. */
export type TokenRequest = TokenSubject & ({ ttlSeconds: number; valid?: undefined } | TokenUntil);

/** A token's expiry in Unix seconds, possibly fractional. */
export interface TokenUntil {
  /** Unix seconds. */
  readonly valid: number;
  /** Excluded by `valid`. */
  readonly ttlSeconds?: undefined;
}

/** The subject of a token. */
export interface TokenSubject {
  /** The name that the agent serves. */
  readonly hostname: string;
  /** Further names. */
  readonly aliases?: readonly string[];
  /** 0, 1 or 2. Defaults to 2. */
  readonly protocolVersion?: TokenClaims["protocolVersion"];
  /** Defaults to aes-gcm: aes-cbc provides no authentication. */
  readonly cipher?: CipherName;
  /** Further members, unknown to SniTun. Defaults to none. */
  readonly extra?: Readonly<Record<string, unknown>>;
  /** Milliseconds since 1970. */
  readonly nowMs: number;
  /** 32 bytes. Defaults to random. */
  readonly aesKey?: Bytes;
  /** 16 bytes. Defaults to random. */
  readonly aesIv?: Bytes;
}

/** A token and its claims. */
export interface CreatedToken {
  /** The token that the agent presents to the edge. */
  readonly token: string;
  /** The token's claims. */
  readonly claims: TokenClaims;
}

/**
 * Creates a token with the ring's newest key and fresh key material.
 *
 * @throws {SallyportError} `token_invalid`: an edge would refuse the requested token.
 */
export function createToken(ring: FernetRing, request: TokenRequest): CreatedToken {
  const { nowMs } = request;
  const payload = encodeTokenPayload({
    valid: request.valid ?? Math.floor(nowMs / 1000) + request.ttlSeconds,
    hostname: request.hostname,
    aliases: [...request.aliases ?? []],
    aesKey: request.aesKey ?? new Uint8Array(randomBytes(CIPHER_KEY_BYTES)),
    aesIv: request.aesIv ?? new Uint8Array(randomBytes(CIPHER_IV_BYTES)),
    protocolVersion: request.protocolVersion ?? 2,
    cipher: request.cipher ?? "aes-gcm",
    extra: request.extra ?? {},
  });
  // Parsed as an edge parses it, so that no token is issued that edges refuse.
  const claims = parseTokenPayload(payload);
  return { token: ring.seal(payload, { nowMs }), claims };
}

/**
 * Opens a token and checks its expiry at `nowSeconds` (Unix seconds).
 *
 * @throws {SallyportError} `token_invalid`, a {@link FernetError} if the envelope is invalid; `token_expired`.
 */
export function openToken(ring: FernetRing, token: Bytes | string, nowSeconds: number): TokenClaims {
  const opened = tryOpenToken(ring, token, nowSeconds);
  if (typeof opened === "string") throw new FernetError(opened);
  return opened;
}

/** Like {@link openToken}, but returns the envelope's fault, so that forged tokens cost no exceptions. */
export function tryOpenToken(
  ring: FernetRing,
  token: Bytes | string,
  nowSeconds: number,
): TokenClaims | FernetFault {
  const opened = ring.tryOpen(token);
  if (typeof opened === "string") return opened;
  const claims = parseTokenPayload(opened);
  checkTokenExpiry(claims, nowSeconds);
  return claims;
}

/**
 * Refuses a token that has expired at `nowSeconds` (Unix seconds); also used for established sessions.
 *
 * @throws {SallyportError} `token_expired`.
 */
export function checkTokenExpiry(claims: TokenClaims, nowSeconds: number): void {
  if (nowSeconds <= claims.valid) return;
  const late = Math.ceil(nowSeconds - claims.valid);
  throw new SallyportError("token_expired", `Cannot accept token: it expired ${late} s ago`, {
    side: "peer",
  });
}

/** A token's creation time in Unix seconds by its issuer's clock, unverified; 0 if it isn't a token. */
export function tokenMadeAtS(token: Bytes | string): number {
  const text = typeof token === "string" ? token : new TextDecoder().decode(token.subarray(0, HEAD_CHARS));
  // Fernet spec: a version byte, then the creation time in seconds, 64 bits big-endian.
  const head = Buffer.from(text.slice(0, HEAD_CHARS), "base64url");
  return head.length === HEAD_BYTES && head[0] === 0x80 ? Number(head.readBigUInt64BE(1)) : 0;
}

/**
 * Refuses text that can't be a session master's token before it is sent anywhere, so that a rogue master, or a
 * man-in-the-middle, can't have arbitrary bytes sent to an address of its choice.
 *
 * @throws {SallyportError} `token_invalid`.
 */
export function checkTokenShape(token: string): void {
  const text = new TextEncoder().encode(token);
  const whole = text.length <= TOKEN_MAX_BYTES && /^[\w-]+={0,2}$/.test(token) && couldBeComplete(text);
  if (whole && tokenMadeAtS(token) > 0) return;
  throw new SallyportError("token_invalid", "Cannot use token: it doesn't have the form of a Fernet token", {
    side: "peer",
    retryable: true,
  });
}

/** Identifies a token in logs without revealing it: the first twelve hex digits of its SHA-256. */
export function tokenId(token: Bytes | string): string {
  return hash("sha256", token, "hex").slice(0, ID_CHARS);
}
