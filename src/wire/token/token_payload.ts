/**
 * The JSON inside a token (docs/protocols/snitun.md, Token).
 *
 * @module
 */
import type { Bytes } from "../../bytes/bytes.ts";
import { SallyportError } from "../../errors.ts";
import { canonicalServedName, servedNameFault } from "../wildcard.ts";

/** Largest token: fits hundreds of aliases. */
export const TOKEN_MAX_BYTES = 16 * 1024;
/** Maximum names in one token: its hostname and aliases. */
export const NAMES_PER_SESSION_MAX = 256;

const AES_KEY_BYTES = 32;
const AES_IV_BYTES = 16;

/** The claims of a token. */
export interface TokenClaims {
  /** Unix seconds after which the token is refused; may be fractional. */
  readonly valid: number;
  /** The name that the agent serves, canonical; it may be a wildcard, `*.home.example.org`, as the aliases may. */
  readonly hostname: string;
  /** Further names, canonical, without the hostname or duplicates. */
  readonly aliases: readonly string[];
  /** 32 bytes. */
  readonly aesKey: Bytes;
  /** 16 bytes; used only by aes-cbc. */
  readonly aesIv: Bytes;
  /** SniTun's version. */
  readonly protocolVersion: 0 | 1 | 2;
  /** The cipher of the session's headers. */
  readonly cipher: "aes-cbc" | "aes-gcm" | "aes-gcm-siv";
  /** Members unknown to SniTun. */
  readonly extra: Readonly<Record<string, unknown>>;
}

const CIPHERS = ["aes-cbc", "aes-gcm", "aes-gcm-siv"] as const;

/**
 * Parses a token's payload. The caller checks its expiry.
 *
 * @throws SallyportError `token_invalid`, naming the invalid member but never its value.
 */
export function parseTokenPayload(bytes: Bytes): TokenClaims {
  const payload = parseJson(bytes);
  if (!isObject(payload)) throw invalid("payload is not an object");
  const { valid, hostname, aes_key, aes_iv, protocol_version = 0, cipher = "aes-cbc", alias, ...extra } =
    payload;
  // JSON has no NaN, but 1e999 is Infinity: a token that never expires.
  if (typeof valid !== "number" || !Number.isFinite(valid)) {
    throw invalid(wrong("valid", valid, "a finite number"));
  }
  if (protocol_version !== 0 && protocol_version !== 1 && protocol_version !== 2) {
    throw invalid("protocol_version isn't 0, 1 or 2");
  }
  const knownCipher = CIPHERS.find((known) => known === cipher);
  if (knownCipher === undefined) throw invalid(`cipher isn't ${CIPHERS.join(", ")}`);
  const name = parseName("hostname", hostname);
  return {
    valid,
    hostname: name,
    aliases: parseAliases(alias, name),
    aesKey: parseHex("aes_key", aes_key, AES_KEY_BYTES),
    aesIv: parseHex("aes_iv", aes_iv, AES_IV_BYTES),
    protocolVersion: protocol_version,
    cipher: knownCipher,
    extra,
  };
}

function parseAliases(value: unknown, hostname: string): string[] {
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value)) throw invalid(wrong("alias", value, "an array or null"));
  if (value.length >= NAMES_PER_SESSION_MAX) {
    throw invalid(`alias has ${value.length} names, at most ${NAMES_PER_SESSION_MAX - 1} are allowed`);
  }
  const names = new Set(value.map((alias, index) => parseName(`alias.${index}`, alias)));
  names.delete(hostname);
  return [...names];
}

function parseName(member: string, value: unknown): string {
  if (typeof value !== "string") throw invalid(wrong(member, value, "a string"));
  const fault = servedNameFault(value);
  // Faults read "it is empty", "a label has ...".
  if (fault !== undefined) {
    throw invalid(fault.startsWith("it ") ? member + fault.slice(2) : `${member}: ${fault}`);
  }
  return canonicalServedName(value);
}

function parseHex(member: string, value: unknown, byteLength: number): Bytes {
  if (typeof value !== "string") throw invalid(wrong(member, value, "a string"));
  if (!/^([0-9a-f]{2})*$/i.test(value)) throw invalid(`${member} isn't hexadecimal`);
  if (value.length !== 2 * byteLength) {
    throw invalid(`${member} has ${value.length / 2} bytes, needs ${byteLength}`);
  }
  return Uint8Array.from({ length: byteLength }, (_, i) => parseInt(value.slice(2 * i, 2 * i + 2), 16));
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function wrong(member: string, value: unknown, needed: string): string {
  return value === undefined ? `${member} is missing` : `${member} is not ${needed}`;
}

/** The payload of a token, as JSON in UTF-8. */
export function encodeTokenPayload(
  claims: Omit<TokenClaims, "protocolVersion"> & { readonly protocolVersion: number },
): Bytes {
  return new TextEncoder().encode(JSON.stringify({
    ...claims.extra,
    valid: claims.valid,
    hostname: claims.hostname,
    aes_key: toHex(claims.aesKey),
    aes_iv: toHex(claims.aesIv),
    protocol_version: claims.protocolVersion,
    cipher: claims.cipher,
    alias: claims.aliases,
  }));
}

function parseJson(bytes: Bytes): unknown {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw invalid("payload isn't UTF-8");
  }
  try {
    return JSON.parse(text);
  } catch {
    throw invalid("payload isn't JSON");
  }
}

function invalid(why: string): SallyportError {
  return new SallyportError("token_invalid", `Cannot parse token: ${why}`, { side: "peer" });
}

function toHex(bytes: Bytes): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
