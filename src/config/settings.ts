/**
 * The table of settings: every flag, environment variable and member of the configuration file, in the order of help
 * texts.
 *
 * @module
 */
import type { CommandName, Setting } from "./setting.ts";
import { AGENT_SETTINGS } from "./tables/agent.ts";
import { CERTIFICATES } from "./tables/certificates.ts";
import { CLUSTER } from "./tables/cluster.ts";
import { KEYS } from "./tables/keys.ts";
import { LISTENING } from "./tables/listening.ts";
import { PIPES } from "./tables/pipes.ts";
import { TUNING } from "./tables/tuning.ts";

/** All settings; the names are those of {@link import("./config.ts").Config}. */
export const SETTINGS = {
  ...LISTENING,
  ...KEYS,
  ...AGENT_SETTINGS,
  ...CERTIFICATES,
  ...PIPES,
  ...CLUSTER,
  ...TUNING,
};

/** The name of a setting in {@link SETTINGS}. */
export type SettingName = keyof typeof SETTINGS;

/** The names and settings that a command takes, in the order of help texts. */
export function settingsOf(command: CommandName): [SettingName, Setting][] {
  const all = Object.entries(SETTINGS) as [SettingName, Setting][];
  return all.filter(([, { commands }]) => commands.includes(command));
}
