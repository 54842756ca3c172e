/**
 * The keys of a command: from the settings, else from the data folder, where they are generated on the first start.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { randomBytes } from "node:crypto";
import { type Config, keyLines } from "../config/config.ts";
import { FernetRing, generateFernetKey, isFernetKey } from "../crypto/fernet.ts";
import { alwaysValidCertificate, type Identity, makeCertificate } from "../crypto/certificate.ts";
import { KEY_BYTES, type KeyPair, type Sodium } from "../crypto/sodium.ts";
import { errorMessage, SallyportError } from "../errors.ts";
import {
  ADMIN_FILE,
  CERTIFICATE_FILE,
  CLUSTER_FILE,
  DataDir,
  type DataFile,
  EDGE_FILE,
  FERNET_FILE,
  UNDATED_FILE,
} from "./data_dir.ts";

/** A key and its origin. */
export interface FoundKey<Value> {
  readonly value: Value;
  /** "settings", or the path of the file in the data folder. */
  readonly from: string;
  /** Whether this start created the file. */
  readonly made: boolean;
}

/** Fernet keys, also as text. */
export interface FoundFernetKeys extends FoundKey<FernetRing> {
  /** Newest first; secrets. */
  readonly texts: readonly string[];
}

/** The keys of one command, looked up in its settings and its data folder. */
export class Keys {
  readonly #config: Pick<Config, "dataDir" | "fernetKeys" | "adminKey"> & Partial<Pick<Config, "clusterKey">>;
  readonly #folder: DataDir;

  constructor(
    config: Pick<Config, "dataDir" | "fernetKeys" | "adminKey"> & Partial<Pick<Config, "clusterKey">>,
  ) {
    this.#config = config;
    this.#folder = new DataDir(config.dataDir);
  }

  /** Warnings about the data folder, as sentences. */
  get warnings(): readonly string[] {
    return this.#folder.warnings;
  }

  /**
   * The Fernet keys; generates the first one if there is none.
   *
   * @throws SallyportError `config_invalid` if the data folder can't be used, or holds an invalid key.
   */
  async fernet(): Promise<FoundFernetKeys> {
    const { fernetKeys } = this.#config;
    if (fernetKeys !== undefined) {
      return { value: new FernetRing(fernetKeys), texts: fernetKeys, from: "settings", made: false };
    }
    return ringOf(await this.#folder.readOrMake(FERNET_FILE, () => `${makeFernetKey()}\n`));
  }

  /**
   * The Fernet keys, if there are any.
   *
   * @throws SallyportError `config_invalid` if there are none: newly generated keys would make tokens that no edge
   * accepts.
   */
  async existingFernet(): Promise<FoundFernetKeys> {
    if (this.#config.fernetKeys !== undefined) return await this.fernet();
    const content = await this.#folder.read(FERNET_FILE);
    const path = this.#folder.file(FERNET_FILE);
    if (content !== undefined) return ringOf({ path, content, made: false });
    throw invalid(
      `Cannot make a token: there are no Fernet keys in ${path}. Start serve, edge or master there first, ` +
        "or give them with --fernet-keys-file",
    );
  }

  /**
   * The edge's key pair for the sealed transport, from the data folder; generated if there is none.
   *
   * @throws SallyportError `config_invalid` if the data folder can't be used, or holds an invalid key.
   */
  async edge(sodium: Sodium): Promise<FoundKey<KeyPair>> {
    const { path, content, made } = await this.#folder.readOrMake(EDGE_FILE, makeEdgeKey);
    const secretKey = new Uint8Array(Buffer.from(content.trim(), "base64url"));
    if (!/^[\w-]{43}$/.test(content.trim()) || secretKey.length !== KEY_BYTES) {
      throw invalid(`Cannot use ${path}: it must hold one key, 43 characters of base64url`);
    }
    return { value: { secretKey, publicKey: sodium.publicKey(secretKey) }, from: path, made };
  }

  /**
   * The edge's certificate and its key for the QUIC transport, from the data folder; generated if there is none. Agents
   * pin it, and Deno's QUIC judges even a pinned certificate by its dates: a key whose certificate isn't valid at any
   * date gets another one that is.
   *
   * @throws SallyportError `config_invalid` if the data folder can't be used, or holds no key that can be used.
   */
  async certificate(): Promise<FoundKey<Identity>> {
    const { path, content, made } = await this.#folder.readOrMake(CERTIFICATE_FILE, async () => {
      const { certificatePem, keyPem } = await makeEdgeCertificate();
      return certificatePem + keyPem;
    });
    const keyPem = /-----BEGIN PRIVATE KEY-----[^-]+-----END PRIVATE KEY-----\n?/.exec(content)?.[0];
    if (keyPem === undefined) throw invalid(`Cannot use ${path}: it holds no private key (PKCS #8, PEM)`);
    const find = async () =>
      alwaysValidCertificate(`${content}\n${await this.#folder.read(UNDATED_FILE) ?? ""}`, keyPem);
    try {
      let certificatePem = await find();
      if (certificatePem === undefined) {
        const undated = await makeEdgeCertificate(keyPem);
        // Workers start together: each appends one, and all take the first.
        await this.#folder.append(UNDATED_FILE, undated.certificatePem);
        certificatePem = await find() ?? undated.certificatePem;
      }
      return { value: { certificatePem, keyPem }, from: path, made };
    } catch (error) {
      throw invalid(`Cannot use ${path}: ${errorMessage(error)}`);
    }
  }

  /**
   * The key with which the nodes of a cluster authenticate each other; generated if there is none.
   *
   * @throws SallyportError `config_invalid` if the data folder can't be used, or holds an invalid key.
   */
  async cluster(): Promise<FoundKey<string>> {
    const { clusterKey } = this.#config;
    if (clusterKey !== undefined) return { value: clusterKey, from: "settings", made: false };
    const { path, content, made } = await this.#folder.readOrMake(CLUSTER_FILE, () => `${makeFernetKey()}\n`);
    const value = content.trim();
    if (isFernetKey(value)) return { value, from: path, made };
    throw invalid(`Cannot use ${path}: it must hold one key, as \`sallyport keygen\` makes it`);
  }

  /**
   * The session master's admin key; generated if there is none.
   *
   * @throws SallyportError `config_invalid` if the data folder can't be used, or its key is empty.
   */
  async admin(): Promise<FoundKey<string>> {
    const { adminKey } = this.#config;
    if (adminKey !== undefined) return { value: adminKey, from: "settings", made: false };
    const { path, content, made } = await this.#folder.readOrMake(ADMIN_FILE, () => `${makeAdminKey()}\n`);
    const value = content.trim();
    if (value.length < 16 || /\s/.test(value)) {
      throw invalid(
        `Cannot use ${path}: it must hold one key of at least 16 characters; delete it for a new one`,
      );
    }
    return { value, from: path, made };
  }
}

/** A key's origin, for a start message. */
export function keyOrigin({ from, made }: FoundKey<unknown>): string {
  return from === "settings" ? "as set" : made ? `${from}, made just now` : from;
}

/** Generates an edge's secret key, in its file's format. */
function makeEdgeKey(): string {
  return `${randomBytes(KEY_BYTES).toString("base64url")}\n`;
}

/**
 * Generates an edge's certificate, for this key or a new one. Agents recognise it by its fingerprint, regardless of its
 * contents, but for its dates on Deno; and a board without a battery starts in 1970.
 */
async function makeEdgeCertificate(keyPem?: string): Promise<Identity> {
  return await makeCertificate({
    commonName: "Sallyport edge",
    names: ["edge.invalid"],
    validDays: "always",
    wallMs: Date.now(),
    ...keyPem === undefined ? {} : { keyPem },
  });
}

/** Generates a Fernet key that doesn't start with a dash, which command lines would take for a flag. */
export function makeFernetKey(): string {
  let key = generateFernetKey();
  while (key.startsWith("-")) key = generateFernetKey();
  return key;
}

/** Generates an admin key: 32 random bytes, with a prefix that scanners for leaked secrets can detect. */
export function makeAdminKey(): string {
  return `sallyport_admin_${randomBytes(32).toString("base64url")}`;
}

function ringOf({ path, content, made }: DataFile): FoundFernetKeys {
  try {
    const texts = keyLines(content);
    return { value: new FernetRing(texts), texts, from: path, made };
  } catch (error) {
    if (error instanceof SallyportError) throw invalid(`${error.message} (${path})`);
    throw error;
  }
}

function invalid(message: string): SallyportError {
  return new SallyportError("config_invalid", message, { side: "config" });
}
