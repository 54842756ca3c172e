/**
 * Certificate requests, challenge certificates, and parsing of certificates.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { DAY_MS } from "../../calendar.ts";
import type { Identity } from "../../crypto/certificate.ts";
import { errorMessage, SallyportError } from "../../errors.ts";
import { certificateId } from "./acme_client.ts";

const ALGORITHM = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" } as const;
/** RFC 8737 §6.1: acmeIdentifier. */
const ACME_IDENTIFIER = "1.3.6.1.5.5.7.1.31";
const CHALLENGE_VALID_MS = DAY_MS;

/** The contents of a certificate. */
export interface CertificateDetails {
  readonly names: readonly string[];
  readonly issuer: string;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
  /** Its identifier in renewal information; undefined if it has no authority key identifier. */
  readonly renewalId: string | undefined;
}

// The library is slow to load, and most runs never need it.
async function library(): Promise<typeof import("@peculiar/x509")> {
  return await import("@peculiar/x509");
}

/** A new key, and a request for a certificate for these names. */
export async function makeRequest(names: readonly string[]): Promise<{ csr: Uint8Array; keyPem: string }> {
  const { Pkcs10CertificateRequestGenerator, SubjectAlternativeNameExtension, PemConverter } =
    await library();
  const keys = await crypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"]);
  const request = await Pkcs10CertificateRequestGenerator.create({
    keys,
    signingAlgorithm: ALGORITHM,
    extensions: [
      new SubjectAlternativeNameExtension(names.map((value) => ({ type: "dns" as const, value }))),
    ],
  });
  const pkcs8 = await crypto.subtle.exportKey("pkcs8", keys.privateKey);
  return { csr: new Uint8Array(request.rawData), keyPem: `${PemConverter.encode(pkcs8, "PRIVATE KEY")}\n` };
}

/** The certificate that proves control of a name to a client with ALPN `acme-tls/1` (RFC 8737 §3). */
export async function makeChallengeCertificate(name: string, keyAuthorization: string): Promise<Identity> {
  const { Extension, PemConverter, SubjectAlternativeNameExtension, X509CertificateGenerator } =
    await library();
  const keys = await crypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"]);
  const digest = createHash("sha256").update(keyAuthorization).digest();
  const certificate = await X509CertificateGenerator.createSelfSigned({
    name: `CN=${name.length <= 64 ? name : "acme"}`,
    notBefore: new Date(Date.now() - CHALLENGE_VALID_MS),
    notAfter: new Date(Date.now() + CHALLENGE_VALID_MS),
    keys,
    signingAlgorithm: ALGORITHM,
    extensions: [
      new SubjectAlternativeNameExtension([{ type: "dns", value: name }]),
      // An OCTET STRING with the digest.
      new Extension(ACME_IDENTIFIER, true, Uint8Array.from([4, digest.length, ...digest])),
    ],
  });
  const pkcs8 = await crypto.subtle.exportKey("pkcs8", keys.privateKey);
  return {
    certificatePem: `${certificate.toString("pem")}\n`,
    keyPem: `${PemConverter.encode(pkcs8, "PRIVATE KEY")}\n`,
  };
}

/** Reads the first certificate of a chain. Rejects with `config_invalid` if there is none. */
export async function readCertificate(pem: string): Promise<CertificateDetails> {
  const { AuthorityKeyIdentifierExtension, SubjectAlternativeNameExtension, X509Certificate } =
    await library();
  try {
    const [first] = pem.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/) ?? [];
    if (first === undefined) {
      throw new Error("the text has none; it must contain -----BEGIN CERTIFICATE-----");
    }
    const certificate = new X509Certificate(first);
    const names = certificate.getExtension(SubjectAlternativeNameExtension)?.names.items
      .filter(({ type }) => type === "dns").map(({ value }) => value.toLowerCase()) ?? [];
    const keyId = certificate.getExtension(AuthorityKeyIdentifierExtension)?.keyId;
    return {
      names,
      issuer: certificate.issuer,
      notBeforeMs: certificate.notBefore.getTime(),
      notAfterMs: certificate.notAfter.getTime(),
      renewalId: keyId === undefined
        ? undefined
        : certificateId(Buffer.from(keyId, "hex"), Buffer.from(certificate.serialNumber, "hex")),
    };
  } catch (cause) {
    throw new SallyportError("config_invalid", `Cannot read certificate: ${errorMessage(cause)}`, {
      side: "config",
      cause,
    });
  }
}
