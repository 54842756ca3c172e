/**
 * Sockets from the service manager: systemd listens before the program runs, and passes the sockets on (`LISTEN_FDS`,
 * sd_listen_fds(3)). Connections then wait while the program restarts, and it needs no privilege for its ports.
 *
 * @module
 */
import process from "node:process";
import {
  type CommandName,
  type Config,
  type Setting,
  type SettingName,
  settingsOf,
} from "../config/config.ts";
import { SallyportError } from "../errors.ts";

/** The first file descriptor that systemd passes. */
const FIRST_DESCRIPTOR = 3;
/** The settings that a socket can stand in for: those of TCP listeners. */
const LISTENERS = ["listen", "agentListen", "sealedListen", "masterListen", "metricsListen"] as const;
type ListenerSetting = typeof LISTENERS[number];

/** A listening socket of this process. */
interface PassedSocket {
  /** The flag whose addresses it replaces, as the socket unit's FileDescriptorName= says. */
  readonly name: string;
  readonly descriptor: number;
}

/** The sockets passed to this process, in order. */
export function passedSockets(
  env: Readonly<Record<string, string | undefined>>,
  pid: number = process.pid,
): readonly PassedSocket[] {
  const { LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES = "" } = env;
  // Otherwise they were passed to a process that has started this one.
  if (LISTEN_PID !== String(pid)) return [];
  const names = LISTEN_FDNAMES.split(":");
  return Array.from({ length: Number(LISTEN_FDS ?? 0) }, (_, index) => ({
    name: names[index] ?? "",
    descriptor: FIRST_DESCRIPTOR + index,
  }));
}

/** A flag whose sockets can be passed. */
interface PassableFlag {
  readonly setting: ListenerSetting;
  readonly flag: string;
  /** Its default addresses. */
  readonly standard: readonly string[];
}

/** The flags of a command whose sockets can be passed to it. */
export function passableFlags(command: CommandName): readonly PassableFlag[] {
  const taken = new Map<SettingName, Setting>(settingsOf(command));
  return LISTENERS.flatMap((setting) => {
    const { flag, default: standard = [] } = taken.get(setting) ?? {};
    return flag === undefined ? [] : [{ setting, flag, standard: [standard].flat() }];
  });
}

/** The settings with the passed sockets in place of the addresses that they are for. */
export function withSockets(
  command: CommandName,
  config: Config,
  sockets: readonly PassedSocket[],
): Config {
  if (sockets.length > 0 && config.workers !== undefined) {
    throw cannotUse("sockets from systemd", "with --workers each worker opens the ports itself");
  }
  const flags = new Map(passableFlags(command).map(({ flag, setting }) => [flag, setting]));
  const changed: Partial<Record<ListenerSetting, Config[ListenerSetting]>> = {};
  for (const { name, descriptor } of sockets) {
    const setting = flags.get(name);
    if (setting === undefined) {
      const names = [...flags.keys()].join(", ");
      throw cannotUse(
        `socket "${name}" from systemd`,
        `FileDescriptorName= of its unit must be one of ${names}`,
      );
    }
    const before = changed[setting] ?? [];
    const [configured = { host: "::", port: 0 }] = config[setting].slice(before.length);
    changed[setting] = [...before, { ...configured, descriptor }];
  }
  return { ...config, ...changed };
}

function cannotUse(what: string, why: string): SallyportError {
  return new SallyportError("config_invalid", `Cannot use ${what}: ${why}`, { side: "config" });
}
