/**
 * Authentication by a certificate with a known fingerprint: its key signs both sides' nonces, over any transport.
 * Neither chain nor validity dates are checked, only the fingerprint.
 *
 * @module
 */
import { createHash, createPrivateKey, sign, verify, X509Certificate } from "node:crypto";
import type { Bytes } from "../../bytes/bytes.ts";
import type { TunnelAttributes } from "../../cluster/registry.ts";
import { errorMessage, SallyportError } from "../../errors.ts";
import { joinClaim, makeNonce, NONCE_BYTES, splitClaim, transcript } from "./challenge.ts";
import { unauthorized } from "./negotiate.ts";
import type { Authenticator, TunnelCredential } from "./port.ts";

const METHOD = "certificate";

/** The owner of a certificate. */
export interface CertificateEntry {
  /** The tunnel's name. */
  readonly name: string;
  readonly attributes?: TunnelAttributes;
}

/**
 * Accepts a peer that holds the key of a known certificate. `find` gets its fingerprint, SHA-256 in 64 lower-case hex
 * digits, and returns its owner, undefined if unknown. The attribute `fingerprint` is added.
 */
export function certificateAuthenticator(
  find: (fingerprint: string) => CertificateEntry | undefined | Promise<CertificateEntry | undefined>,
): Authenticator {
  return {
    method: METHOD,
    async verify(steps) {
      const { nonce, subject } = splitClaim(await steps.receive());
      const fingerprint = createHash("sha256").update(subject).digest("hex");
      const entry = await find(fingerprint);
      if (entry === undefined) {
        throw unauthorized(`no peer has a certificate with fingerprint ${fingerprint}`);
      }
      const own = makeNonce();
      steps.send(own);
      const signature = await steps.receive();
      // Parsed after the look-up, so strangers' certificates aren't parsed.
      const { publicKey } = new X509Certificate(subject);
      const signed = transcript(METHOD, "prover", nonce, own, new TextEncoder().encode(fingerprint));
      if (!verify(digestOf(publicKey.asymmetricKeyType), signed, publicKey, signature)) {
        throw unauthorized("its signature is wrong");
      }
      const attributes = new Map(entry.attributes);
      attributes.set("fingerprint", new TextEncoder().encode(fingerprint));
      return { name: entry.name, attributes };
    },
  };
}

/** Proves possession of a certificate's private key, both in PEM. Throws `config_invalid`. */
export function certificateCredential(
  pem: { readonly certificate: string; readonly key: string },
): TunnelCredential {
  try {
    const certificate: Bytes = new Uint8Array(new X509Certificate(pem.certificate).raw);
    const fingerprint = createHash("sha256").update(certificate).digest("hex");
    const key = createPrivateKey(pem.key);
    return {
      method: METHOD,
      async prove(steps) {
        const nonce = makeNonce();
        steps.send(joinClaim(nonce, certificate));
        const theirs = await steps.receive();
        if (theirs.length !== NONCE_BYTES) throw unauthorized("the challenge has another length");
        const signed = transcript(METHOD, "prover", nonce, theirs, new TextEncoder().encode(fingerprint));
        steps.send(new Uint8Array(sign(digestOf(key.asymmetricKeyType), signed, key)));
      },
    };
  } catch (cause) {
    const why = `Cannot use certificate: ${errorMessage(cause)}`;
    throw new SallyportError("config_invalid", why, { side: "config", cause });
  }
}

/** Edwards curves have a built-in digest. */
function digestOf(keyType: string | undefined): "sha256" | null {
  return keyType === "ed25519" || keyType === "ed448" ? null : "sha256";
}
