/**
 * Fernet tokens made with node:crypto alone: tests that bring our edge and the reference together must not take both
 * sides' tokens from the code under test.
 *
 * @module
 */

import { createCipheriv, createHmac, randomBytes } from "node:crypto";

/** SniTun's names of the header ciphers. */
export type CipherName = "aes-cbc" | "aes-gcm" | "aes-gcm-siv";

/** What a token says of a session; everything but the hostname has a default. */
export interface TokenOptions {
  readonly hostname: string;
  readonly alias?: readonly string[];
  readonly protocolVersion?: number;
  readonly cipher?: CipherName;
  /** From now on; negative for an expired token. */
  readonly ttlSeconds?: number;
}

/** A token and what the agent must know of it. */
export interface IssuedToken {
  readonly token: string;
  readonly hostname: string;
  /** Hex, 32 bytes. */
  readonly aesKey: string;
  /** Hex, 16 bytes. */
  readonly aesIv: string;
  readonly protocolVersion: number;
  readonly cipher: CipherName;
}

/** A fresh Fernet key: 32 bytes in URL-safe base64 with padding. */
export function fernetKey(): string {
  return urlSafe(randomBytes(32));
}

/** Encrypts `text` under `key` as the Fernet specification has it. */
export function fernetSeal(key: string, text: string): string {
  const raw = Buffer.from(key, "base64url");
  const iv = randomBytes(16);
  const time = Buffer.alloc(8);
  time.writeBigUInt64BE(BigInt(Math.floor(Date.now() / 1000)));
  const cipher = createCipheriv("aes-128-cbc", raw.subarray(16), iv);
  const signed = Buffer.concat([Buffer.from([0x80]), time, iv, cipher.update(text, "utf8"), cipher.final()]);
  return urlSafe(Buffer.concat([signed, createHmac("sha256", raw.subarray(0, 16)).update(signed).digest()]));
}

/** Makes a token with fresh key material. */
export function issueToken(key: string, options: TokenOptions): IssuedToken {
  const aesKey = randomBytes(32).toString("hex");
  const aesIv = randomBytes(16).toString("hex");
  const protocolVersion = options.protocolVersion ?? 2;
  const cipher = options.cipher ?? "aes-cbc";
  const token = fernetSeal(
    key,
    JSON.stringify({
      valid: Date.now() / 1000 + (options.ttlSeconds ?? 3600),
      hostname: options.hostname,
      aes_key: aesKey,
      aes_iv: aesIv,
      protocol_version: protocolVersion,
      ...(cipher === "aes-cbc" ? {} : { cipher }),
      ...(options.alias === undefined ? {} : { alias: options.alias }),
    }),
  );
  return { token, hostname: options.hostname, aesKey, aesIv, protocolVersion, cipher };
}

function urlSafe(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("base64").replaceAll("+", "-").replaceAll("/", "_");
}
