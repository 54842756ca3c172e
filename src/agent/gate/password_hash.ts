/**
 * Password hashes for a service's file: scrypt (RFC 7914), `$scrypt$ln=15,r=8,p=1$SALT$HASH`.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { randomBytes, scrypt, timingSafeEqual } from "node:crypto";
import { SallyportError } from "../../errors.ts";

/** Cost of a new hash: 2^15 rounds over 32 MiB, a tenth of a second. */
const LOG_ROUNDS = 15;
const BLOCK_SIZE = 8;
const PARALLEL = 1;
const SALT_BYTES = 16;
const HASH_BYTES = 32;
/** Most memory that a hash from elsewhere may require. */
const MEMORY_MAX_BYTES = 256 * 1024 * 1024;

/** A stored hash. */
export interface PasswordHash {
  readonly rounds: number;
  readonly blockSize: number;
  readonly parallel: number;
  readonly salt: Buffer;
  readonly hash: Buffer;
}

/** Hashes a password for a file. */
export async function hashPassword(password: string): Promise<string> {
  const salt = randomBytes(SALT_BYTES);
  const cost = { rounds: 2 ** LOG_ROUNDS, blockSize: BLOCK_SIZE, parallel: PARALLEL };
  const hash = await derive(password, salt, HASH_BYTES, cost);
  const text = (bytes: Buffer) => bytes.toString("base64").replace(/=+$/, "");
  return `$scrypt$ln=${LOG_ROUNDS},r=${BLOCK_SIZE},p=${PARALLEL}$${text(salt)}$${text(hash)}`;
}

/**
 * Parses a hash.
 *
 * @throws SallyportError `config_invalid`; the hash isn't in the message.
 */
export function parsePasswordHash(text: string): PasswordHash {
  const match = /^\$scrypt\$ln=(\d{1,2}),r=(\d{1,2}),p=(\d{1,2})\$([A-Za-z0-9+/]{11,})\$([A-Za-z0-9+/]{22,})$/
    .exec(text);
  const [ln, blockSize, parallel] = [Number(match?.[1]), Number(match?.[2]), Number(match?.[3])];
  const rounds = 2 ** ln;
  const memory = 128 * rounds * blockSize * parallel;
  if (match === null || ln < 10 || blockSize < 1 || parallel < 1 || memory > MEMORY_MAX_BYTES) {
    const why = "it is not $scrypt$ln=15,r=8,p=1$SALT$HASH, as `sallyport agent password` prints it";
    throw new SallyportError("config_invalid", `Cannot use password hash: ${why}`, { side: "config" });
  }
  const [salt, hash] = [Buffer.from(match[4] as string, "base64"), Buffer.from(match[5] as string, "base64")];
  return { rounds, blockSize, parallel, salt, hash };
}

/** Whether a password matches a hash; wrong and right ones take equally long. */
export async function isPassword(password: string, { salt, hash, ...cost }: PasswordHash): Promise<boolean> {
  return timingSafeEqual(await derive(password, salt, hash.length, cost), hash);
}

function derive(
  password: string,
  salt: Buffer,
  byteLength: number,
  { rounds, blockSize, parallel }: Pick<PasswordHash, "rounds" | "blockSize" | "parallel">,
): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const options = { N: rounds, r: blockSize, p: parallel, maxmem: 2 * MEMORY_MAX_BYTES };
    scrypt(password.normalize("NFC"), salt, byteLength, options, (error, key) => {
      if (error) reject(error);
      else resolve(key);
    });
  });
}
