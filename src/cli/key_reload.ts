/**
 * Reloads keys and policy without a restart: on SIGHUP, and when a key file or the configuration file changes.
 *
 * @module
 */
import {
  changedSettings,
  type Config,
  type LoadedConfig,
  type SettingName,
  SETTINGS,
} from "../config/config.ts";
import { errorMessage } from "../errors.ts";
import { adminCredentials, type Credentials, type CredentialUse } from "../master/credentials.ts";
import { ADMIN_FILE, DataDir, FERNET_FILE } from "./data_dir.ts";
import { Keys } from "./keys.ts";
import { type MasterPolicy, POLICY_SETTINGS } from "./master_policy.ts";
import type { Base } from "./parts.ts";
import { watchForReload } from "./reload.ts";

/** Receives the keys from {@link reloadKeys}. */
interface ReloadedKeys {
  /** Fernet keys, newest first. */
  fernet(keys: readonly string[]): void | Promise<void>;
  /** The admin key; absent if there is none. */
  admin?(key: string): void;
  /** Settings that can change; absent if there are none. */
  readonly policy?: MasterPolicy;
}

/** Settings whose values are the keys, which are reloaded apart from the others. */
const KEY_SETTINGS: readonly SettingName[] = ["fernetKeys", "adminKey"];

/** Watches the key files and the configuration file until the program ends. `reread` reads the configuration again. */
export function reloadKeys(
  base: Base,
  { config, file }: Pick<LoadedConfig, "config" | "file">,
  reread: () => LoadedConfig,
  to: ReloadedKeys,
): void {
  const { io, runtime: { clock }, log, life } = base;
  const folder = new DataDir(config.dataDir);
  const load = async () => {
    try {
      const { config: fresh } = reread();
      const keys = new Keys(fresh);
      const { texts } = await keys.fernet();
      await to.fernet(texts);
      if (to.admin !== undefined) to.admin((await keys.admin()).value);
      log.info({ count: texts.length }, "keys reloaded");
      reloadSettings(fresh);
    } catch (error) {
      log.error({}, `Cannot reload keys and settings, the old ones stay: ${errorMessage(error)}`);
    }
  };
  const reloadSettings = (fresh: Config) => {
    const { policy } = to;
    const reloadable: readonly SettingName[] = policy === undefined ? [] : POLICY_SETTINGS;
    const envOf = (names: readonly SettingName[]) => names.map((name) => SETTINGS[name].env);
    const applied = changedSettings(policy?.current ?? {}, fresh).filter((name) => reloadable.includes(name));
    if (policy !== undefined) policy.current = fresh;
    if (applied.length > 0) log.info({ settings: envOf(applied) }, "settings reloaded");
    const waiting = changedSettings(config, fresh)
      .filter((name) => !reloadable.includes(name) && !KEY_SETTINGS.includes(name));
    if (waiting.length > 0) {
      log.warn({ settings: envOf(waiting) }, "changed settings take effect after a restart");
    }
  };
  const paths = [
    config.fernetKeysFile ?? folder.file(FERNET_FILE),
    ...to.admin === undefined ? [] : [config.adminKeyFile ?? folder.file(ADMIN_FILE)],
    ...file === undefined ? [] : [file],
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
