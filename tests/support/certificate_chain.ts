/** Certificates of an authority, one that it vouches for, and a server, to be spoilt in every way. */
import * as x509 from "@peculiar/x509";
import type { Bytes } from "../../src/bytes/bytes.ts";

const ALGORITHM = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" } as const;
const DAY_MS = 86_400_000;

/** A certificate with its key. */
export interface Issued {
  readonly certificate: x509.X509Certificate;
  readonly keys: CryptoKeyPair;
  readonly der: Bytes;
  readonly pem: string;
}

/** What is out of the ordinary. */
export interface Oddity {
  readonly fromMs?: number;
  readonly toMs?: number;
  readonly extensions?: readonly x509.Extension[];
  /** The key that signs it, in place of the issuer's. */
  readonly signer?: CryptoKey;
}

/** Issues a certificate, valid from a day before `nowMs` for thirty days; without an issuer it signs itself. */
export async function issue(
  name: string,
  issuer: Issued | undefined,
  nowMs: number,
  { fromMs = nowMs - DAY_MS, toMs = nowMs + 30 * DAY_MS, extensions = [], signer }: Oddity = {},
): Promise<Issued> {
  const keys = await crypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"]) as CryptoKeyPair;
  const certificate = await x509.X509CertificateGenerator.create({
    subject: `CN=${name}`,
    issuer: issuer?.certificate.subject ?? `CN=${name}`,
    notBefore: new Date(fromMs),
    notAfter: new Date(toMs),
    publicKey: keys.publicKey,
    signingKey: signer ?? issuer?.keys.privateKey ?? keys.privateKey,
    signingAlgorithm: ALGORITHM,
    extensions: [...extensions],
  });
  return { certificate, keys, der: new Uint8Array(certificate.rawData), pem: certificate.toString("pem") };
}

/** Extensions of an authority's certificate. */
export const authority = (pathLength?: number): x509.Extension[] => [
  new x509.BasicConstraintsExtension(true, pathLength, true),
  new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign, true),
];

/** Extensions of a server's certificate. */
export const server = (...names: readonly string[]): x509.Extension[] => [
  new x509.BasicConstraintsExtension(false, undefined, true),
  new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth]),
  new x509.SubjectAlternativeNameExtension(names.map((value) => ({ type: "dns" as const, value }))),
];
