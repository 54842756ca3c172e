/**
 * The certificate store port: where an agent keeps its ACME accounts, its certificates and their keys. They never leave it.
 *
 * @module
 */

/**
 * Keeps small texts by key. A key is a path of up to three names of `a-z 0-9 . _ -`, such as
 * `certificates/home.example.org`.
 */
export interface CertificateStore {
  /** Where it is, for messages. */
  readonly place: string;
  /** The text; undefined where there is none. Rejects with `io_failed` where it can't be read. */
  read(key: string): Promise<string | undefined>;
  /** Puts a text in the place of what there was: whole, or not at all. Rejects with `io_failed`. */
  write(key: string, text: string): Promise<void>;
}

/** A store that forgets everything at the end of the process. */
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
