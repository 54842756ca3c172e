/**
 * A certificate store in files readable only by their owner: folders 0700, files 0600.
 *
 * @module
 */
import { randomBytes } from "node:crypto";
import { chmod, mkdir, open, readFile, rename, rm, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import process from "node:process";
import { errorMessage, SallyportError } from "../../errors.ts";
import type { CertificateStore } from "./certificate_store.ts";

const FOLDER_MODE = 0o700;
const FILE_MODE = 0o600;
/** Permission bits for anyone but the owner. */
const OTHERS = 0o077;

/** Stores texts in files below a folder, which is created on the first write. */
export class FileCertificateStore implements CertificateStore {
  readonly place: string;

  constructor(folder: string) {
    this.place = folder;
  }

  async read(key: string): Promise<string | undefined> {
    const path = this.#path(key);
    try {
      const text = await readFile(path, "utf8");
      if (process.platform !== "win32" && ((await stat(path)).mode & OTHERS) !== 0) {
        await chmod(path, FILE_MODE);
      }
      return text;
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code === "ENOENT") return undefined;
      throw this.#failure("read", path, cause);
    }
  }

  async write(key: string, text: string): Promise<void> {
    const path = this.#path(key);
    const draft = `${path}.${randomBytes(6).toString("hex")}`;
    try {
      await mkdir(dirname(path), { recursive: true, mode: FOLDER_MODE });
      const file = await open(draft, "wx", FILE_MODE);
      try {
        await file.writeFile(text);
        await file.sync();
      } finally {
        await file.close();
      }
      await rename(draft, path);
    } catch (cause) {
      throw this.#failure("write", path, cause);
    } finally {
      await rm(draft, { force: true }).catch(() => {});
    }
  }

  #path(key: string): string {
    const names = key.split("/");
    const fit = names.length <= 3 && names.every((name) => /^[a-z0-9_-][a-z0-9._-]*$/.test(name));
    if (!fit) throw new TypeError(`this isn't a key of a store: ${JSON.stringify(key)}`);
    return join(this.place, ...names);
  }

  #failure(what: string, path: string, cause: unknown): SallyportError {
    const message = `Cannot ${what} ${path}: ${errorMessage(cause)}`;
    return new SallyportError("io_failed", message, { side: "config", retryable: true, cause });
  }
}
