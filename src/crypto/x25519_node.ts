/**
 * The runtime's X25519 (RFC 7748), used if libsodium is WebAssembly, which takes twice as long on Bun and a third
 * longer on Deno. libsodium's native build is at least as fast.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { createPrivateKey, createPublicKey, diffieHellman, type KeyObject } from "node:crypto";
import type { Bytes } from "../bytes/bytes.ts";

/** The bytes before the 32-byte key in PKCS #8 and in SubjectPublicKeyInfo (RFC 8410). */
const SECRET_PREFIX = Buffer.from("302e020100300506032b656e04220420", "hex");
const PUBLIC_PREFIX = Buffer.from("302a300506032b656e032100", "hex");

/** The public key of a secret one. */
export function nodePublicKey(secretKey: Bytes): Bytes {
  const spki = createPublicKey(secretObject(secretKey) as KeyObject & { type: "private" })
    .export({ format: "der", type: "spki" });
  return new Uint8Array(spki.subarray(PUBLIC_PREFIX.length));
}

/** The shared secret; undefined if the public key is of low order. */
export function nodeSharedSecret(secretKey: Bytes, publicKey: Bytes): Bytes | undefined {
  const key = Buffer.concat([PUBLIC_PREFIX, publicKey]);
  try {
    const secret = diffieHellman({
      privateKey: secretObject(secretKey),
      publicKey: createPublicKey({ key, format: "der", type: "spki" }),
    });
    // Some runtimes refuse such keys, others return zeros.
    return secret.some((byte) => byte !== 0) ? new Uint8Array(secret) : undefined;
  } catch {
    return undefined;
  }
}

/** Whether the runtime has a correct X25519: checks Bob's keys and the shared secret of RFC 7748, section 6.1. */
export function nodeHasX25519(): boolean {
  const bytes = (hex: string): Bytes => new Uint8Array(Buffer.from(hex, "hex"));
  const same = (one: Bytes | undefined, hex: string): boolean =>
    one !== undefined && Buffer.from(one).toString("hex") === hex;
  const bob = bytes("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb");
  const alicePublic = bytes("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a");
  try {
    return same(nodePublicKey(bob), "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f") &&
      same(
        nodeSharedSecret(bob, alicePublic),
        "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742",
      );
  } catch {
    return false;
  }
}

function secretObject(secretKey: Bytes): KeyObject {
  return createPrivateKey({ key: Buffer.concat([SECRET_PREFIX, secretKey]), format: "der", type: "pkcs8" });
}
