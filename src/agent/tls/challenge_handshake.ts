/**
 * The server's side of one TLS 1.3 handshake (RFC 8446) that presents a certificate and carries no data, with which an
 * authority validates control of a name (RFC 8737). The runtimes' TLS stacks can't be used: Deno's refuses to load a
 * certificate with the critical extension that the challenge requires.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import {
  createCipheriv,
  createECDH,
  createHash,
  createHmac,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  generateKeyPairSync,
  randomBytes,
  sign,
} from "node:crypto";
import type { Bytes } from "../../bytes/bytes.ts";
import { ByteReader } from "../../bytes/reader.ts";
import type { Identity } from "../../crypto/certificate.ts";
import { ACME_PROTOCOL } from "../../wire/tls/client_hello.ts";

const CLIENT_HELLO = 1;
const RECORD_HEADER_BYTES = 5;
const HASH_BYTES = 32;
const TLS_AES_128_GCM_SHA256 = 0x1301;
const ECDSA_SECP256R1_SHA256 = 0x0403;
const X25519 = 0x001d;
const SECP256R1 = 0x0017;
/** Prefix that turns a raw X25519 key into a SubjectPublicKeyInfo. */
const X25519_PREFIX = Buffer.from("302a300506032b656e032100", "hex");

/** The relevant parts of a ClientHello's offer. */
interface Offer {
  readonly sessionId: Buffer;
  readonly cipherSuites: readonly number[];
  readonly versions: readonly number[];
  readonly signatures: readonly number[];
  readonly shares: ReadonlyMap<number, Buffer>;
}

/**
 * The server's complete flight in response to a ClientHello (given with its record headers), to be sent at once.
 * Undefined if the client doesn't support TLS 1.3 with the algorithms that every such client supports.
 */
export function challengeFlight(helloRecords: Bytes, identity: Identity): Bytes | undefined {
  const hello = withoutRecordHeaders(helloRecords);
  const offer = readOffer(hello);
  const fits = offer.versions.includes(0x0304) && offer.cipherSuites.includes(TLS_AES_128_GCM_SHA256) &&
    offer.signatures.includes(ECDSA_SECP256R1_SHA256);
  const share = fits ? agree(offer.shares) : undefined;
  if (share === undefined) return undefined;

  const serverHello = message(2, [
    Buffer.from([3, 3]),
    randomBytes(32),
    sized(1, offer.sessionId),
    u16(TLS_AES_128_GCM_SHA256),
    Buffer.from([0]),
    sized(
      2,
      Buffer.concat([
        extension(43, u16(0x0304)),
        extension(51, Buffer.concat([u16(share.group), sized(2, share.publicKey)])),
      ]),
    ),
  ]);
  const secret = serverSecret(share.secret, hash(hello, serverHello));
  const encryptedExtensions = message(8, [
    sized(2, extension(16, sized(2, sized(1, Buffer.from(ACME_PROTOCOL, "latin1"))))),
  ]);
  const certificate = message(11, [
    sized(1, Buffer.alloc(0)),
    sized(3, Buffer.concat([sized(3, derOf(identity)), u16(0)])),
  ]);
  const before = [hello, serverHello, encryptedExtensions, certificate];
  const signed = Buffer.concat([
    Buffer.alloc(64, 0x20),
    Buffer.from("TLS 1.3, server CertificateVerify\0", "latin1"),
    hash(...before),
  ]);
  const signature = sign("sha256", signed, createPrivateKey(identity.keyPem));
  const verify = message(15, [u16(ECDSA_SECP256R1_SHA256), sized(2, signature)]);
  const finishedKey = expandLabel(secret, "finished", HASH_BYTES);
  const finished = message(20, [createHmac("sha256", finishedKey).update(hash(...before, verify)).digest()]);

  // RFC 8446 §D.4: a ChangeCipherSpec for middleboxes that know only TLS 1.2.
  const compatible = offer.sessionId.length > 0 ? [Buffer.from([20, 3, 3, 0, 1, 1])] : [];
  return new Uint8Array(Buffer.concat([
    record(22, serverHello),
    ...compatible,
    encrypted(secret, Buffer.concat([encryptedExtensions, certificate, verify, finished])),
  ]));
}

function withoutRecordHeaders(records: Bytes): Buffer {
  const reader = new ByteReader(records);
  const parts: Buffer[] = [];
  let byteLength = Infinity;
  for (let have = 0; have < byteLength && reader.left >= RECORD_HEADER_BYTES;) {
    reader.bytes(3);
    const part = Buffer.from(reader.bytes(reader.u16()));
    parts.push(part);
    have += part.length;
    const start = Buffer.concat(parts).subarray(0, 4);
    if (start.length === 4) byteLength = 4 + start.readUIntBE(1, 3);
  }
  return Buffer.concat(parts).subarray(0, byteLength);
}

function readOffer(hello: Buffer): Offer {
  const reader = new ByteReader(new Uint8Array(hello));
  if (reader.u8() !== CLIENT_HELLO) throw new TypeError("it isn't a ClientHello");
  reader.bytes(3 + 2 + 32);
  const sessionId = Buffer.from(reader.bytes(reader.u8()));
  const cipherSuites = numbers(reader.sub(reader.u16()));
  reader.bytes(reader.u8());
  const shares = new Map<number, Buffer>();
  let [versions, signatures]: number[][] = [[], []];
  const extensions = reader.left > 0 ? reader.sub(reader.u16()) : undefined;
  while (extensions !== undefined && extensions.left > 0) {
    const type = extensions.u16();
    const body = extensions.sub(extensions.u16());
    if (type === 43) versions = numbers(body.sub(body.u8()));
    else if (type === 13) signatures = numbers(body.sub(body.u16()));
    else if (type === 51) {
      const list = body.sub(body.u16());
      while (list.left > 0) shares.set(list.u16(), Buffer.from(list.bytes(list.u16())));
    }
  }
  return { sessionId, cipherSuites, versions: versions ?? [], signatures: signatures ?? [], shares };
}

function numbers(list: ByteReader): number[] {
  const found: number[] = [];
  while (list.left >= 2) found.push(list.u16());
  return found;
}

/** The shared secret, using the first of our groups for which the client has sent a key share. */
function agree(
  shares: ReadonlyMap<number, Buffer>,
): { readonly group: number; readonly publicKey: Buffer; readonly secret: Buffer } | undefined {
  const theirs = shares.get(X25519);
  if (theirs?.length === 32) {
    const own = generateKeyPairSync("x25519");
    const publicKey = createPublicKey({
      key: Buffer.concat([X25519_PREFIX, theirs]),
      format: "der",
      type: "spki",
    });
    const secret = diffieHellman({ privateKey: own.privateKey, publicKey });
    const spki = own.publicKey.export({ format: "der", type: "spki" });
    return { group: X25519, publicKey: Buffer.from(spki.subarray(-32)), secret: Buffer.from(secret) };
  }
  const point = shares.get(SECP256R1);
  if (point?.length !== 65) return undefined;
  const own = createECDH("prime256v1");
  own.generateKeys();
  return { group: SECP256R1, publicKey: own.getPublicKey(), secret: own.computeSecret(point) };
}

/** RFC 8446 §7.1, down to the server's handshake traffic secret. */
function serverSecret(shared: Buffer, transcript: Buffer): Buffer {
  const zeros = Buffer.alloc(HASH_BYTES);
  const early = hmac(zeros, zeros);
  const handshake = hmac(expandLabel(early, "derived", HASH_BYTES, hash()), shared);
  return expandLabel(handshake, "s hs traffic", HASH_BYTES, transcript);
}

function encrypted(secret: Buffer, messages: Buffer): Buffer {
  const [key, iv] = [expandLabel(secret, "key", 16), expandLabel(secret, "iv", 12)];
  const inner = Buffer.concat([messages, Buffer.from([22])]);
  const head = Buffer.concat([Buffer.from([23, 3, 3]), u16(inner.length + 16)]);
  // This is the first record under this key: its sequence number, 0, leaves the nonce unchanged.
  const cipher = createCipheriv("aes-128-gcm", key, iv);
  cipher.setAAD(head);
  return Buffer.concat([head, cipher.update(inner), cipher.final(), cipher.getAuthTag()]);
}

function expandLabel(
  secret: Buffer,
  label: string,
  byteLength: number,
  context: Buffer = Buffer.alloc(0),
): Buffer {
  const info = Buffer.concat([
    u16(byteLength),
    sized(1, Buffer.from(`tls13 ${label}`, "latin1")),
    sized(1, context),
  ]);
  // One block of HKDF-Expand (RFC 5869 §2.3); nothing here is longer.
  return hmac(secret, Buffer.concat([info, Buffer.from([1])])).subarray(0, byteLength);
}

function hmac(key: Buffer, data: Buffer): Buffer {
  return createHmac("sha256", key).update(data).digest();
}

function hash(...parts: Buffer[]): Buffer {
  return createHash("sha256").update(Buffer.concat(parts)).digest();
}

function message(type: number, parts: Buffer[]): Buffer {
  return Buffer.concat([Buffer.from([type]), sized(3, Buffer.concat(parts))]);
}

function record(type: number, content: Buffer): Buffer {
  return Buffer.concat([Buffer.from([type, 3, 3]), sized(2, content)]);
}

function extension(type: number, body: Buffer): Buffer {
  return Buffer.concat([u16(type), sized(2, body)]);
}

function sized(lengthBytes: number, body: Buffer): Buffer {
  const length = Buffer.alloc(lengthBytes);
  length.writeUIntBE(body.length, 0, lengthBytes);
  return Buffer.concat([length, body]);
}

function u16(value: number): Buffer {
  return Buffer.from([value >> 8, value & 255]);
}

function derOf({ certificatePem }: Identity): Buffer {
  return Buffer.from(certificatePem.replace(/-----[A-Z ]+-----/g, ""), "base64");
}
