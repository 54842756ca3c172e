import assert from "node:assert/strict";
import { createPrivateKey, generateKeyPairSync, sign, verify, X509Certificate } from "node:crypto";
import { test } from "node:test";
import {
  alwaysValidCertificate,
  certificateFingerprint,
  fingerprintText,
  makeAuthority,
  makeCertificate,
  parseFingerprint,
} from "../../src/crypto/certificate.ts";
import { SallyportError } from "../../src/errors.ts";

const wallMs = Date.UTC(2026, 0, 1);

test("a server's certificate carries its names, signs, and is no authority", async () => {
  const { certificatePem, keyPem } = await makeCertificate({
    commonName: "edge",
    names: ["edge.test", "192.0.2.1", "2001:db8::1"],
    validDays: 30,
    wallMs,
  });
  const certificate = new X509Certificate(certificatePem);
  assert.equal(certificate.checkHost("edge.test"), "edge.test");
  assert.equal(certificate.checkHost("other.test"), undefined);
  assert.match(certificate.subjectAltName ?? "", /192\.0\.2\.1.*2001:DB8/i);
  assert.equal(certificate.ca, false);
  assert.equal(Date.parse(certificate.validTo), wallMs + 30 * 86_400_000);
  assert.ok(Date.parse(certificate.validFrom) < wallMs);
  const text = new TextEncoder().encode("text");
  const signature = sign("sha256", text, createPrivateKey(keyPem));
  assert.ok(verify("sha256", text, certificate.publicKey, signature));
  const fingerprint = certificateFingerprint(certificatePem);
  assert.equal(fingerprintText(fingerprint), certificate.fingerprint256);
});

test("a certificate that is recognised by its fingerprint is valid at any date", async () => {
  const request = { commonName: "edge", names: ["edge.test"], validDays: "always", wallMs } as const;
  const certificate = new X509Certificate((await makeCertificate(request)).certificatePem);
  assert.equal(Date.parse(certificate.validFrom), 0);
  assert.equal(certificate.validTo, "Dec 31 23:59:59 9999 GMT");
});

test("a certificate is made for an existing key, and found by it", async () => {
  const encoding = {
    publicKeyEncoding: { type: "spki", format: "pem" },
    privateKeyEncoding: { type: "pkcs8", format: "pem" },
  } as const;
  const request = { commonName: "edge", names: ["edge.test"], wallMs } as const;
  const elliptic = generateKeyPairSync("ec", { namedCurve: "P-384", ...encoding });
  const rsa = generateKeyPairSync("rsa", { modulusLength: 2048, ...encoding });
  const made = await Promise.all([elliptic, rsa].map(async ({ privateKey: keyPem }) => {
    const dated = await makeCertificate({ ...request, validDays: 1, keyPem });
    const always = await makeCertificate({ ...request, validDays: "always", keyPem });
    return [dated.certificatePem, always.certificatePem] as const;
  }));
  const all = made.flat().join("");
  assert.equal(alwaysValidCertificate(all, elliptic.privateKey), made[0]?.[1].trim());
  assert.equal(alwaysValidCertificate(all, rsa.privateKey), made[1]?.[1].trim());
  const { privateKey: keyPem } = generateKeyPairSync("ed25519", encoding);
  assert.equal(alwaysValidCertificate(all, keyPem), undefined);
  await assert.rejects(makeCertificate({ ...request, validDays: 1, keyPem }), {
    code: "config_invalid",
    message: /its key is ed25519; use an elliptic key/,
  });
});

test("an authority signs others' certificates", async () => {
  const authority = await makeAuthority({ commonName: "authority", validDays: 30, wallMs });
  const own = new X509Certificate(authority.certificatePem);
  assert.equal(own.ca, true);
  const request = { commonName: "edge", names: ["edge.test"], validDays: 30, wallMs };
  const issued = new X509Certificate((await makeCertificate({ ...request, authority })).certificatePem);
  assert.ok(issued.verify(own.publicKey));
  assert.equal(issued.issuer, own.subject);
  const wrong = { certificatePem: authority.certificatePem, keyPem: "no key" };
  await assert.rejects(makeCertificate({ ...request, authority: wrong }), (error) => {
    return error instanceof SallyportError && error.code === "config_invalid";
  });
  assert.throws(
    () => certificateFingerprint("no certificate"),
    /it must contain -----BEGIN CERTIFICATE-----/,
  );
});

test("fingerprints are read with and without colons, in either case, and nothing else is", () => {
  const bytes = Uint8Array.from({ length: 32 }, (_, i) => i * 7);
  const text = fingerprintText(bytes);
  for (const given of [text, text.toLowerCase(), text.replaceAll(":", ""), ` ${text}\n`]) {
    assert.deepEqual(parseFingerprint(given), bytes);
  }
  for (const wrong of ["", text.slice(3), `${text}:00`, text.replace(":", ""), text.replace("0", "g")]) {
    assert.equal(parseFingerprint(wrong), undefined, wrong);
  }
});
