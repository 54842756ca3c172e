/**
 * Reloads changed keys without a restart: on SIGHUP, and when a key file changes.
 *
 * @module
 */
import type { Config } from "../config/config.ts";
import { errorMessage } from "../errors.ts";
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

/** Watches the key files until the program ends. `settings` reads the configuration again. */
export function reloadKeys(base: Base, settings: () => Config, to: ReloadedKeys): void {
  const { io, runtime: { clock }, log, life } = base;
  const config = settings();
  const folder = new DataDir(config.dataDir);
  const load = async () => {
    try {
      const keys = new Keys(settings());
      const { texts } = await keys.fernet();
      await to.fernet(texts);
      if (to.admin !== undefined) to.admin((await keys.admin()).value);
      log.info({ count: texts.length }, "keys reloaded");
    } catch (error) {
      log.error({}, `Cannot reload keys, the old ones stay: ${errorMessage(error)}`);
    }
  };
  const files = [
    config.fernetKeysFile ?? folder.file(FERNET_FILE),
    ...to.admin === undefined ? [] : [config.adminKeyFile ?? folder.file(ADMIN_FILE)],
  ];
  for (const [index, path] of files.entries()) {
    // SIGHUP reloads all of them, once.
    const own = index === 0 ? io : { ...io, onReload: () => () => {} };
    life.add("keys", watchForReload({ io: own, clock, log, path, reload: () => void load() }));
  }
}
