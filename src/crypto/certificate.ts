/**
 * Certificates for QUIC: the edge's own certificate, which its agents pin by fingerprint, and those issued by a private
 * authority. New keys are P-256, which every QUIC implementation accepts.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { createHash, createPrivateKey, createPublicKey, type KeyObject, X509Certificate } from "node:crypto";
import { isIP } from "node:net";
import { DAY_MS } from "../calendar.ts";
import type { Bytes } from "../bytes/bytes.ts";
import { errorMessage, SallyportError } from "../errors.ts";

/** A certificate (a chain, leaf first) and its private key, both as PEM text. */
export interface Identity {
  readonly certificatePem: string;
  /** PKCS #8. */
  readonly keyPem: string;
}

/** Options of {@link makeAuthority}. */
export interface AuthorityRequest {
  /** The certificate's common name, for humans. */
  readonly commonName: string;
  /**
   * Validity, which begins a day before `wallMs`; "always" for a certificate that is recognised by its fingerprint, from
   * 1970 to the end of 9999 (RFC 5280, section 4.1.2.5).
   */
  readonly validDays: number | "always";
  /** The date, in milliseconds since 1970. */
  readonly wallMs: number;
}

/** Options of {@link makeCertificate}. */
export interface CertificateRequest extends AuthorityRequest {
  /** DNS names and IP addresses it is valid for. */
  readonly names: readonly string[];
  /** The authority that signs it. Defaults to self-signed. */
  readonly authority?: Identity;
  /** Its private key (PKCS #8), elliptic or RSA. Defaults to a new one. */
  readonly keyPem?: string;
}

const CERTIFICATES = /-----BEGIN CERTIFICATE-----[\sA-Za-z0-9+/=]+-----END CERTIFICATE-----/g;
const ALWAYS = { notBeforeDate: new Date(0), notAfterDate: new Date("9999-12-31T23:59:59Z") };

/** Creates a server certificate. Rejects with `config_invalid` if the authority or the key can't sign. */
export async function makeCertificate(request: CertificateRequest): Promise<Identity> {
  const { names, authority } = request;
  return await generateIdentity(request, authority, [
    // Strict clients (Bun's QUIC) refuse a CA certificate as a server certificate.
    { name: "basicConstraints", cA: false, critical: true },
    // A self-signed certificate is its own issuer, which Bun rejects if its key may not sign certificates.
    ...authority === undefined ? [] : [{ name: "keyUsage" as const, digitalSignature: true, critical: true }],
    { name: "extKeyUsage", serverAuth: true },
    {
      name: "subjectAltName",
      altNames: names.map((name) => isIP(name) === 0 ? { type: 2, value: name } : { type: 7, ip: name }),
    },
  ]);
}

/** Creates an authority: clients trust its certificate, its key signs others. */
export async function makeAuthority(request: AuthorityRequest): Promise<Identity> {
  return await generateIdentity(request, undefined, [
    { name: "basicConstraints", cA: true, pathLenConstraint: 0, critical: true },
    { name: "keyUsage", keyCertSign: true, cRLSign: true, critical: true },
  ]);
}

type Extensions = NonNullable<NonNullable<Parameters<typeof import("selfsigned").generate>[1]>["extensions"]>;

async function generateIdentity(
  { commonName, validDays, wallMs, keyPem }: AuthorityRequest & Pick<CertificateRequest, "keyPem">,
  authority: Identity | undefined,
  extensions: Extensions,
): Promise<Identity> {
  // Loaded on demand: it is large, and most runs never create a certificate.
  const { generate } = await import("selfsigned");
  try {
    const made = await generate([{ name: "commonName", value: commonName }], {
      ...keyPem === undefined ? { keyType: "ec", curve: "P-256" } : existingKey(keyPem),
      algorithm: "sha256",
      ...validDays === "always" ? ALWAYS : {
        // Tolerates a clock that is slightly behind.
        notBeforeDate: new Date(wallMs - DAY_MS),
        notAfterDate: new Date(wallMs + validDays * DAY_MS),
      },
      extensions,
      ...authority === undefined
        ? {}
        : { ca: { key: authority.keyPem, cert: firstCertificate(authority.certificatePem) } },
    });
    return { certificatePem: `${made.cert.trim()}\n`, keyPem: `${made.private.trim()}\n` };
  } catch (cause) {
    if (cause instanceof SallyportError) throw cause;
    const why = `Cannot make certificate ${commonName}: ${errorMessage(cause)}`;
    throw new SallyportError("config_invalid", why, { side: "config", cause });
  }
}

const CURVES: { readonly [name: string]: "P-256" | "P-384" | "P-521" } = {
  prime256v1: "P-256",
  secp384r1: "P-384",
  secp521r1: "P-521",
};

/** An existing key, as the options of `selfsigned`. */
function existingKey(keyPem: string) {
  const key = createPrivateKey(keyPem);
  const keyPair = { privateKey: keyPem, publicKey: publicKeyOf(createPublicKey(keyPem)) };
  if (key.asymmetricKeyType === "rsa") return { keyType: "rsa" as const, keyPair };
  const curve = CURVES[key.asymmetricKeyDetails?.namedCurve ?? ""];
  if (key.asymmetricKeyType === "ec" && curve !== undefined) {
    return { keyType: "ec" as const, curve, keyPair };
  }
  throw new Error(`its key is ${key.asymmetricKeyType}; use an elliptic key (P-256, P-384, P-521) or RSA`);
}

/** The first certificate in PEM text that is for this key and valid at any date; undefined if there is none. */
export function alwaysValidCertificate(pem: string, keyPem: string): string | undefined {
  const publicKey = publicKeyOf(createPublicKey(keyPem));
  return pem.match(CERTIFICATES)?.find((text) =>
    isAlwaysValid(text) && publicKeyOf(new X509Certificate(text).publicKey) === publicKey
  );
}

/** Whether the first certificate in PEM text is valid at any date. Throws `config_invalid` if there is none. */
export function isAlwaysValid(pem: string): boolean {
  const { validFrom, validTo } = new X509Certificate(firstCertificate(pem));
  return Date.parse(validFrom) <= ALWAYS.notBeforeDate.getTime() &&
    Date.parse(validTo) >= ALWAYS.notAfterDate.getTime();
}

function publicKeyOf(key: KeyObject): string {
  return key.export({ type: "spki", format: "pem" }) as string;
}

/** SHA-256 of the first certificate in PEM text (its DER), 32 bytes. Throws `config_invalid` if there is none. */
export function certificateFingerprint(pem: string): Bytes {
  const body = firstCertificate(pem).replace(/-----[A-Z ]+-----/g, "");
  return new Uint8Array(createHash("sha256").update(Buffer.from(body, "base64")).digest());
}

function firstCertificate(pem: string): string {
  const [found] = pem.match(CERTIFICATES) ?? [];
  if (found === undefined) {
    const why = "Cannot read certificate: the text has none; it must contain -----BEGIN CERTIFICATE-----";
    throw new SallyportError("config_invalid", why, { side: "config" });
  }
  return found;
}

/** A fingerprint in the format of settings, messages and `openssl x509 -fingerprint -sha256`: `AB:CD:…`. */
export function fingerprintText(fingerprint: Bytes): string {
  return Array.from(fingerprint, (byte) => byte.toString(16).padStart(2, "0").toUpperCase()).join(":");
}

/** Parses a SHA-256 fingerprint: 64 hexadecimal digits, with or without colons; undefined for anything else. */
export function parseFingerprint(text: string): Bytes | undefined {
  const digits = text.trim();
  if (!/^([0-9a-f]{2}:){31}[0-9a-f]{2}$/i.test(digits) && !/^[0-9a-f]{64}$/i.test(digits)) return undefined;
  return new Uint8Array(Buffer.from(digits.replaceAll(":", ""), "hex"));
}
