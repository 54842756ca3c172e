/**
 * Reloads changed keys without a restart: on SIGHUP, and when a key file changes.
 *
 * @module
 */
import type { Config } from "../config/config.ts";
import { errorMessage } from "../errors.ts";
import { adminCredentials, type Credentials, type CredentialUse } from "../master/credentials.ts";
import { ADMIN_FILE, DataDir, FERNET_FILE } from "./data_dir.ts";
import { Keys } from "./keys.ts";
import type { Base } from "./parts.ts";
import { watchForReload } from "./reload.ts";

/** Receives the keys from {@link reloadKeys}. */
interface ReloadedKeys {
  /** Fernet keys, newest first. */
  fernet(keys: readonly string[]): void | Promise<void>;
  /** The admin key; absent if there is none. */
  admin?(key: string): void;
}

/** Watches the key files of `config` until the program ends. `reread` reads the configuration again. */
export function reloadKeys(base: Base, config: Config, reread: () => Config, to: ReloadedKeys): void {
  const { io, runtime: { clock }, log, life } = base;
  const folder = new DataDir(config.dataDir);
  const load = async () => {
    try {
      const keys = new Keys(reread());
      const { texts } = await keys.fernet();
      await to.fernet(texts);
      if (to.admin !== undefined) to.admin((await keys.admin()).value);
      log.info({ count: texts.length }, "keys reloaded");
    } catch (error) {
      log.error({}, `Cannot reload keys, the old ones stay: ${errorMessage(error)}`);
    }
  };
  const paths = [
    config.fernetKeysFile ?? folder.file(FERNET_FILE),
    ...to.admin === undefined ? [] : [config.adminKeyFile ?? folder.file(ADMIN_FILE)],
  ];
  life.add("keys", watchForReload({ io, clock, log, paths, reload: () => void load() }));
}

/** The admin key as a credential whose key can be replaced. Throws `config_invalid` for an empty key. */
export class AdminCredential implements Credentials {
  #current: Credentials;

  constructor(key: string) {
    this.#current = adminCredentials(key);
  }

  /** Replaces the key; throws like the constructor, and the old key stays. */
  replace(key: string): void {
    this.#current = adminCredentials(key);
  }

  find(bearer: string, use: CredentialUse): ReturnType<Credentials["find"]> {
    return this.#current.find(bearer, use);
  }
}
