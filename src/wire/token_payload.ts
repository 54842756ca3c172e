/**
 * The JSON inside a token (spec: snitun.md, Token).
 *
 * @module
 */
import { z } from "zod";
import type { Bytes } from "../bytes/bytes.ts";
import { SallyportError } from "../errors.ts";
import { NAMES_PER_SESSION_MAX } from "../limits.ts";
import { canonicalHostname, hostnameFault } from "./hostname.ts";

const AES_KEY_BYTES = 32;
const AES_IV_BYTES = 16;

/** What a token says. */
export interface TokenClaims {
  /** Unix seconds after which the token is refused; may be fractional. */
  readonly valid: number;
  /** The name that the agent serves, canonical. */
  readonly hostname: string;
  /** Further names, canonical, without the hostname and without repetition. */
  readonly aliases: readonly string[];
  /** 32 bytes. */
  readonly aesKey: Bytes;
  /** 16 bytes; aes-cbc alone uses them. */
  readonly aesIv: Bytes;
  readonly protocolVersion: 0 | 1 | 2;
  readonly cipher: "aes-cbc" | "aes-gcm" | "aes-gcm-siv";
  /** Members that SniTun doesn't know. */
  readonly extra: Readonly<Record<string, unknown>>;
}

const name = z.string().superRefine((text, context) => {
  const fault = hostnameFault(text);
  if (fault !== undefined) context.addIssue({ code: "custom", message: fault });
}).transform((text) => canonicalHostname(text));

const hex = (byteLength: number) =>
  z.string().superRefine((text, context) => {
    if (!/^([0-9a-f]{2})*$/i.test(text)) {
      context.addIssue({ code: "custom", message: "it isn't hexadecimal" });
    } else if (text.length !== 2 * byteLength) {
      context.addIssue({ code: "custom", message: `it has ${text.length / 2} bytes, needs ${byteLength}` });
    }
  }).transform((text): Bytes => Uint8Array.from(text.match(/../g) ?? [], (pair) => parseInt(pair, 16)));

const payload = z.looseObject({
  valid: z.number(),
  hostname: name,
  aes_key: hex(AES_KEY_BYTES),
  aes_iv: hex(AES_IV_BYTES),
  protocol_version: z.union([z.literal(0), z.literal(1), z.literal(2)], "it isn't 0, 1 or 2").default(0),
  cipher: z.enum(["aes-cbc", "aes-gcm", "aes-gcm-siv"], "it isn't aes-cbc, aes-gcm or aes-gcm-siv").default(
    "aes-cbc",
  ),
  alias: z.array(name).max(NAMES_PER_SESSION_MAX - 1).nullish(),
});

/** Parses a token's payload; throws `token_invalid`, naming the member. Whether it has expired is the caller's to judge. */
export function parseTokenPayload(bytes: Bytes): TokenClaims {
  const parsed = payload.safeParse(parseJson(bytes));
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    const member = issue.path.length === 0 ? "payload" : issue.path.join(".");
    throw invalid(
      /^it /.test(issue.message) ? `${member}${issue.message.slice(2)}` : `${member}: ${issue.message}`,
    );
  }
  const { valid, hostname, aes_key, aes_iv, protocol_version, cipher, alias, ...extra } = parsed.data;
  const aliases = [...new Set(alias ?? [])].filter((other) => other !== hostname);
  return {
    valid,
    hostname,
    aliases,
    aesKey: aes_key,
    aesIv: aes_iv,
    protocolVersion: protocol_version,
    cipher,
    extra,
  };
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
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
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
  return new SallyportError("token_invalid", `Cannot parse token: ${why}`);
}

function toHex(bytes: Bytes): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
