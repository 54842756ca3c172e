/**
 * Keys and credentials of `pipe`; never passed as arguments, which every process on the machine can read.
 *
 * @module
 */
import { mkdir, open, readFile, stat } from "node:fs/promises";
import { dirname } from "node:path";
import process from "node:process";
import type { Bytes } from "../bytes/bytes.ts";
import { type KeyPair, makeKeyPair, type Sodium } from "../crypto/sodium.ts";
import { errorMessage, SallyportError } from "../errors.ts";

/** Environment variables for the credentials. */
export const LOGIN_ENV = "SALLYPORT_PIPE_LOGIN";
export const PASSPHRASE_ENV = "SALLYPORT_PIPE_PASSPHRASE";
/** Environment variables for the keys, 64 hex digits as the C programs print them. */
export const SECRET_KEY_ENV = "SALLYPORT_PIPE_KEY";
export const PUBLIC_KEY_ENV = "SALLYPORT_PIPE_PUBLIC_KEY";

const OTHERS = 0o077;

/** The environment, used instead of a file. */
interface Environment {
  readonly env: Readonly<Record<string, string | undefined>>;
  err(line: string): void;
}

function wrong(message: string): SallyportError {
  return new SallyportError("config_invalid", message, { side: "config" });
}

/** A key as text: 64 hex digits, `what` for the message. Throws `config_invalid`. */
export function parseKey(text: string, what: string): Bytes {
  const digits = text.trim();
  // The text isn't included in the message, since it may be a secret.
  if (!/^[0-9a-fA-F]{64}$/.test(digits)) {
    throw wrong(`Cannot use ${what}: it has ${digits.length} characters, needs 64 hex digits`);
  }
  return new Uint8Array((digits.match(/../g) as string[]).map((byte) => parseInt(byte, 16)));
}

/** A key as text. */
export function formatKey(key: Bytes): string {
  return Array.from(key, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The receiver's key pair from a file or {@link SECRET_KEY_ENV}. Throws `config_invalid`. */
export async function readKeyPair(
  sodium: Sodium,
  path: string | undefined,
  io: Environment,
): Promise<KeyPair> {
  const text = path === undefined ? io.env[SECRET_KEY_ENV] : await readSecret(path, io);
  if (text === undefined || text === "") {
    throw wrong(
      `Cannot start: the key is missing. Give --key-file or ${SECRET_KEY_ENV}; pipe keygen makes one`,
    );
  }
  const secretKey = parseKey(text, path ?? SECRET_KEY_ENV);
  return { secretKey, publicKey: sodium.publicKey(secretKey) };
}

/** Generates a key, writes its secret half to a file that must not exist, and returns the public half as text. */
export async function makeKeyFile(sodium: Sodium, path: string): Promise<string> {
  const keys = makeKeyPair(sodium);
  try {
    await mkdir(dirname(path), { recursive: true, mode: 0o700 });
    const file = await open(path, "wx", 0o600);
    try {
      await file.writeFile(`${formatKey(keys.secretKey)}\n`);
      await file.sync();
    } finally {
      await file.close();
    }
  } catch (error) {
    throw wrong(`Cannot write ${path}: ${errorMessage(error)}`);
  }
  return formatKey(keys.publicKey);
}

/** Login and passphrase: the first two lines of a file, or the two environment variables. Throws `config_invalid`. */
export async function readCredentials(
  path: string | undefined,
  io: Environment,
): Promise<{ login: string; passphrase: string }> {
  if (path !== undefined) {
    const [login = "", passphrase = ""] = (await readSecret(path, io)).split(/\r?\n/);
    if (login === "" || passphrase === "") {
      throw wrong(
        `Cannot use ${path}: it needs the login on its first line and the passphrase on its second`,
      );
    }
    return { login, passphrase };
  }
  const login = io.env[LOGIN_ENV];
  const passphrase = io.env[PASSPHRASE_ENV];
  if (!login || !passphrase) {
    throw wrong(
      `Cannot start: login and passphrase are missing. Give ${LOGIN_ENV} and ${PASSPHRASE_ENV}, ` +
        "or --credentials-file with one on each line",
    );
  }
  return { login, passphrase };
}

async function readSecret(path: string, io: Environment): Promise<string> {
  try {
    const { mode } = await stat(path);
    if (process.platform !== "win32" && (mode & OTHERS) !== 0) {
      io.err(`Warning: ${path} can be read by others (mode ${(mode & 0o777).toString(8)}); chmod 600 it`);
    }
    return await readFile(path, "utf8");
  } catch (error) {
    throw wrong(`Cannot read ${path}: ${errorMessage(error)}`);
  }
}
