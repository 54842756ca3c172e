/**
 * The certificate store port: storage for an agent's ACME accounts, certificates and private keys, which never leave
 * it.
 *
 * @module
 */

/**
 * Stores small texts by key. A key is a path of up to three names of `a-z 0-9 . _ -`, such as
 * `certificates/home.example.org`.
 */
export interface CertificateStore {
  /** Its location, for messages. */
  readonly place: string;
  /** The text; undefined if there is none. Rejects with `io_failed` if it can't be read. */
  read(key: string): Promise<string | undefined>;
  /** Replaces the text atomically. Rejects with `io_failed`. */
  write(key: string, text: string): Promise<void>;
}

/** An in-memory store, lost at the end of the process. */
export class MemoryCertificateStore implements CertificateStore {
  readonly place = "memory";
  readonly #texts = new Map<string, string>();

  read(key: string): Promise<string | undefined> {
    return Promise.resolve(this.#texts.get(key));
  }

  write(key: string, text: string): Promise<void> {
    this.#texts.set(key, text);
    return Promise.resolve();
  }
}
