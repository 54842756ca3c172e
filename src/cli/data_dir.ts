/**
 * The data folder: keys generated on the first start and stored, readable only by their owner (folder 0700, files
 * 0600).
 *
 * @module
 */
import { randomBytes } from "node:crypto";
import {
  appendFile,
  chmod,
  link,
  lstat,
  mkdir,
  open,
  readdir,
  readFile,
  rename,
  rm,
  stat,
} from "node:fs/promises";
import { join } from "node:path";
import process from "node:process";
import { UPGRADE_SOCKET } from "../cluster/upgrade_socket.ts";
import { STATUS_SOCKET } from "../agent/status/socket.ts";
import { errorMessage, SallyportError } from "../errors.ts";

/** Fernet keys, one per line, newest first. */
export const FERNET_FILE = "fernet.keys";
/** The session master's admin key. */
export const ADMIN_FILE = "admin.key";
/** The edge's secret key for the sealed transport. */
export const EDGE_FILE = "edge.key";
/** The key with which the nodes of a cluster authenticate each other. */
export const CLUSTER_FILE = "cluster.key";
/** The edge's certificate for the QUIC transport, followed by its secret key. */
export const CERTIFICATE_FILE = "edge.pem";
/** Certificates that the edge made for keys whose certificate in {@link CERTIFICATE_FILE} isn't valid at any date. */
export const UNDATED_FILE = "edge.undated.pem";
/** Keys of edges that an agent trusted on first use. */
export const PINS_FILE = "known_edges";

/** Which transport connected, by edge and network. */
export const TRANSPORTS_FILE = "known_transports";

/** An agent's identity at its session master, with its secret key. */
export const IDENTITY_FILE = "agent.identity";
/** Stored answers to an agent's prompts; an ordinary configuration file. */
export const ANSWERS_FILE = "agent.json";
/** The credential among these answers. */
export const CREDENTIAL_FILE = "agent.key";
/** The session master's database. */
export const DATABASE_FILE = "master.db";
/** An edge's name at its session master. */
export const EDGE_NAME_FILE = "edge.name";
/** An edge's unreported usage. */
export const JOURNAL_FILE = "edge.journal";
/** The folder of ACME accounts, certificates and their keys. */
export const CERTIFICATES_FOLDER = "tls";

const FOLDER_MODE = 0o700;
const FILE_MODE = 0o600;
/** Permission bits for anyone but the owner. */
const OTHERS = 0o077;
const KNOWN_FILES: readonly string[] = [
  FERNET_FILE,
  ADMIN_FILE,
  EDGE_FILE,
  CLUSTER_FILE,
  CERTIFICATE_FILE,
  UNDATED_FILE,
  PINS_FILE,
  TRANSPORTS_FILE,
  IDENTITY_FILE,
  ANSWERS_FILE,
  CREDENTIAL_FILE,
  DATABASE_FILE,
  `${DATABASE_FILE}-wal`,
  `${DATABASE_FILE}-shm`,
  JOURNAL_FILE,
  EDGE_NAME_FILE,
  CERTIFICATES_FOLDER,
  STATUS_SOCKET,
  UPGRADE_SOCKET,
];

/** Error codes of file systems without hard links. */
const NO_LINKS: readonly string[] = ["EPERM", "ENOTSUP", "EOPNOTSUPP", "ENOSYS"];

/** A file of the data folder. */
export interface DataFile {
  readonly path: string;
  readonly content: string;
  /** Whether this call created it. */
  readonly made: boolean;
}

/** A folder for keys. */
export class DataDir {
  readonly path: string;
  readonly #warnings: string[] = [];

  constructor(path: string) {
    this.path = path;
  }

  /** Warnings, as sentences: permissions that were too wide. */
  get warnings(): readonly string[] {
    return this.#warnings;
  }

  /** The path of a file of this folder. */
  file(name: string): string {
    return join(this.path, name);
  }

  /**
   * The content of a file; undefined if there is none. Narrows permissions that are too wide.
   *
   * @throws SallyportError `config_invalid` when it can't be read or narrowed.
   */
  async read(name: string): Promise<string | undefined> {
    const path = this.file(name);
    try {
      const content = await readFile(path, "utf8");
      await this.#narrow(path, FILE_MODE);
      return content;
    } catch (error) {
      if (codeOf(error) === "ENOENT") return undefined;
      throw this.#fault(path, error);
    }
  }

  /**
   * The content of a file, created by `make` if there is none; if several processes create it at once, all get the
   * first one's content.
   *
   * @throws SallyportError `config_invalid` when the folder or the file can't be made or read.
   */
  async readOrMake(name: string, make: () => string | Promise<string>): Promise<DataFile> {
    const path = this.file(name);
    await this.make();
    const found = await this.read(name);
    if (found !== undefined) return { path, content: found, made: false };
    // Written to a temporary file and then hard-linked into place: no one ever reads a partial key, and no key is
    // overwritten.
    const draft = this.file(`.${name}.${randomBytes(6).toString("hex")}`);
    const content = await make();
    try {
      await writeDurably(draft, content);
      await link(draft, path).catch((error) => {
        if (!NO_LINKS.includes(codeOf(error) ?? "")) throw error;
        // A file system without hard links: at least no existing file is overwritten.
        return writeDurably(path, content);
      });
      return { path, content, made: true };
    } catch (error) {
      if (codeOf(error) !== "EEXIST") throw this.#fault(path, error);
      const first = await this.read(name);
      if (first === undefined) throw this.#fault(path, error);
      return { path, content: first, made: false };
    } finally {
      await rm(draft, { force: true });
    }
  }

  /**
   * Appends to a file, creating it if there is none.
   *
   * @throws SallyportError `config_invalid` when that can't be done.
   */
  async append(name: string, text: string): Promise<void> {
    const path = this.file(name);
    await this.make();
    try {
      await appendFile(path, text, { mode: FILE_MODE });
    } catch (error) {
      throw this.#fault(path, error);
    }
  }

  /**
   * Replaces a file atomically.
   *
   * @throws SallyportError `config_invalid` when that can't be done.
   */
  async replace(name: string, content: string): Promise<void> {
    const path = this.file(name);
    await this.make();
    const draft = this.file(`.${name}.${randomBytes(6).toString("hex")}`);
    try {
      await writeDurably(draft, content);
      await rename(draft, path);
    } catch (error) {
      throw this.#fault(path, error);
    } finally {
      await rm(draft, { force: true });
    }
  }

  /** Creates the folder if there is none, and closes it to others. */
  async make(): Promise<void> {
    try {
      await mkdir(this.path, { recursive: true, mode: FOLDER_MODE });
      const names = (await readdir(this.path)).filter((name) => !name.startsWith("."));
      // A folder with other contents isn't ours to close; its key files are closed all the same.
      if (names.every((name) => KNOWN_FILES.includes(name))) await this.#narrow(this.path, FOLDER_MODE);
    } catch (error) {
      throw this.#fault(this.path, error);
    }
  }

  async #narrow(path: string, mode: number): Promise<void> {
    // Windows has no such permission bits.
    if (process.platform === "win32") return;
    const found = (await stat(path)).mode & 0o777;
    if ((found & OTHERS) === 0) return;
    // A link's target may belong to someone else, for example a mounted secret.
    if ((await lstat(path)).isSymbolicLink()) {
      this.#warn(`${path} links to a file that others can access (mode ${octal(found)}).`);
      return;
    }
    await chmod(path, found & mode);
    this.#warn(
      `${path} could be accessed by others (mode ${octal(found)}); it is ${octal(found & mode)} now.`,
    );
  }

  #warn(text: string): void {
    if (!this.#warnings.includes(text)) this.#warnings.push(text);
  }

  #fault(path: string, error: unknown): SallyportError {
    if (error instanceof SallyportError) return error;
    const message = `Cannot use data folder ${this.path}: ${path}: ${errorMessage(error)}`;
    return new SallyportError("config_invalid", message, { side: "config", cause: error });
  }
}

/** Whether there is such a file or folder. */
export function exists(path: string): Promise<boolean> {
  return stat(path).then(() => true, () => false);
}

async function writeDurably(path: string, content: string): Promise<void> {
  const file = await open(path, "wx", FILE_MODE);
  try {
    await file.writeFile(content);
    await file.sync();
  } finally {
    await file.close();
  }
}

function octal(mode: number): string {
  return mode.toString(8).padStart(4, "0");
}

function codeOf(error: unknown): string | undefined {
  return (error as NodeJS.ErrnoException | undefined)?.code;
}
