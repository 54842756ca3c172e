/**
 * The session master's settings that can change without a restart.
 *
 * @module
 */
import type { Config, SettingName } from "../config/config.ts";

/** Their names. */
export const POLICY_SETTINGS = [
  "tokensPerMinute",
  "apiRequestsPerMinute",
  "auditRetention",
  "usageRetention",
  "webhookNetworks",
] as const satisfies readonly SettingName[];

type PolicySettings = Pick<Config, typeof POLICY_SETTINGS[number]>;

/** The current values of {@link POLICY_SETTINGS}. */
export class MasterPolicy {
  current: PolicySettings;

  constructor(config: PolicySettings) {
    this.current = config;
  }
}
