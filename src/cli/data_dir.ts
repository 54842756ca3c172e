/**
 * The data folder: keys that are made on the first start and kept, for their owner's eyes only (folder 0700, files 0600).
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

/** Fernet keys, one a line, newest first. */
export const FERNET_FILE = "fernet.keys";
/** The session master's admin key. */
export const ADMIN_FILE = "admin.key";
/** The edge's secret key for the sealed transport. */
export const EDGE_FILE = "edge.key";
/** The key by which the nodes of a cluster know each other. */
export const CLUSTER_FILE = "cluster.key";
/** The edge's certificate for the QUIC transport, and its secret key behind it. */
export const CERTIFICATE_FILE = "edge.pem";
/** Keys of edges that an agent believed on first use. */
export const PINS_FILE = "known_edges";

/** Which transport got through, by edge and network. */
export const TRANSPORTS_FILE = "known_transports";

/** Who an agent is at its session master, with its secret key. */
export const IDENTITY_FILE = "agent.identity";
/** What was answered to an agent's questions; a configuration file like any other. */
export const ANSWERS_FILE = "agent.json";
/** The credential among these answers. */
export const CREDENTIAL_FILE = "agent.key";
/** The session master's database. */
export const DATABASE_FILE = "master.db";
/** How an edge is called at its session master. */
export const EDGE_NAME_FILE = "edge.name";
/** What an edge hasn't reported yet. */
export const JOURNAL_FILE = "edge.journal";
/** The folder of ACME accounts, certificates and their keys. */
export const CERTIFICATES_FOLDER = "tls";

const FOLDER_MODE = 0o700;
const FILE_MODE = 0o600;
/** Bits that give others than the owner something. */
const OTHERS = 0o077;
const KNOWN_FILES: readonly string[] = [
  FERNET_FILE,
  ADMIN_FILE,
  EDGE_FILE,
  CLUSTER_FILE,
  CERTIFICATE_FILE,
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

/** How file systems say that they have no hard links. */
const NO_LINKS: readonly string[] = ["EPERM", "ENOTSUP", "EOPNOTSUPP", "ENOSYS"];

/** A file of the data folder. */
export interface DataFile {
  readonly path: string;
  readonly content: string;
  /** It was made by this call. */
  readonly made: boolean;
}

/** A folder for keys. */
export class DataDir {
  readonly path: string;
  readonly #warnings: string[] = [];

  constructor(path: string) {
    this.path = path;
  }

  /** What was found in a state that needed a word, in sentences: permissions that were too wide. */
  get warnings(): readonly string[] {
    return this.#warnings;
  }

  /** The path of a file of this folder. */
  file(name: string): string {
    return join(this.path, name);
  }

  /**
   * The content of a file, or undefined where there is none. Permissions that are too wide are narrowed.
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
   * The content of a file, which is made by `make` where there is none; of several processes that make it at once, all
   * get the content of the first.
   *
   * @throws SallyportError `config_invalid` when the folder or the file can't be made or read.
   */
  async readOrMake(name: string, make: () => string | Promise<string>): Promise<DataFile> {
    const path = this.file(name);
    await this.make();
    const found = await this.read(name);
    if (found !== undefined) return { path, content: found, made: false };
    // Written beside its place and linked there whole: nobody ever reads half a key, and nobody's key is overwritten.
    const draft = this.file(`.${name}.${randomBytes(6).toString("hex")}`);
    const content = await make();
    try {
      await writeDurably(draft, content);
      await link(draft, path).catch((error) => {
        if (!NO_LINKS.includes(codeOf(error) ?? "")) throw error;
        // A file system without hard links: at least nothing that exists is overwritten.
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
   * Adds to a file, which is made where there is none.
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
   * Puts a file in the place of what there was, whole.
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

  /** Makes the folder where there is none, and closes it to others. */
  async make(): Promise<void> {
    try {
      await mkdir(this.path, { recursive: true, mode: FOLDER_MODE });
      const names = (await readdir(this.path)).filter((name) => !name.startsWith("."));
      // A folder with other things in it isn't ours to close; its key files are closed all the same.
      if (names.every((name) => KNOWN_FILES.includes(name))) await this.#narrow(this.path, FOLDER_MODE);
    } catch (error) {
      throw this.#fault(this.path, error);
    }
  }

  async #narrow(path: string, mode: number): Promise<void> {
    // Windows has no such bits.
    if (process.platform === "win32") return;
    const found = (await stat(path)).mode & 0o777;
    if ((found & OTHERS) === 0) return;
    // What a link points to may be somebody else's, a mounted secret for example.
    if ((await lstat(path)).isSymbolicLink()) {
      this.#warn(`${path} links to a file that others can get at (mode ${octal(found)}).`);
      return;
    }
    await chmod(path, found & mode);
    this.#warn(`${path} could be got at by others (mode ${octal(found)}); it is ${octal(found & mode)} now.`);
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
