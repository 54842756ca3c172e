/**
 * Service files for the program: units for systemd, a script for OpenRC, a property list for launchd. Generates only
 * text; `service` writes it, and packaging/ ships it.
 *
 * @module
 */
import { basename } from "node:path/posix";
import { passableFlags } from "./activation.ts";
import { BUN_ENVIRONMENT } from "./bun_environment.ts";
import { shellWord } from "./startup.ts";

/** A long-running command. */
export type ServiceCommand = "serve" | "edge" | "master" | "agent";
export const SERVICE_COMMANDS: readonly ServiceCommand[] = ["serve", "edge", "master", "agent"];

/** A service manager that files can be written for. */
export type Manager = "systemd" | "openrc" | "launchd";
export const MANAGERS: readonly Manager[] = ["systemd", "openrc", "launchd"];

/** The parameters of a service file. */
interface ServiceSpec {
  readonly command: ServiceCommand;
  /** The words that start the program, up to its own arguments. */
  readonly program: readonly string[];
  /** Arguments after the command. */
  readonly args: readonly string[];
  /** Whether systemd listens and passes the sockets on. */
  readonly sockets?: boolean;
  /** Whether the program is sources that Deno runs, which needs a cache that the service may write. */
  readonly onDeno?: boolean;
}

/** A socket unit of systemd. */
export interface SocketUnit {
  readonly path: string;
  readonly text: string;
}

const ABOUT: Readonly<Record<ServiceCommand, string>> = {
  serve: "Sallyport edge and session master",
  edge: "Sallyport edge",
  master: "Sallyport session master",
  agent: "Sallyport agent",
};

/** A service's state folder: keys and learned data. */
export const STATE_DIR = "/var/lib/sallyport";
/** The same where launchd runs it. */
const LAUNCHD_STATE_DIR = "/usr/local/var/sallyport";
/** Deno's cache: a service's user has no home folder. */
const DENO_CACHE = "/var/cache/sallyport";
/** Folders that ProtectHome= and PrivateTmp= hide from a unit. */
const HIDDEN_FROM_UNITS = /^\/(home|root|run\/user|tmp|var\/tmp)\//;

/** The file among a unit's words that the unit couldn't reach. */
export function hiddenFromUnits(program: readonly string[]): string | undefined {
  return program.find((word) => HIDDEN_FROM_UNITS.test(word));
}

/** Where a service's settings and keys are, as a sentence. */
export function placesText(manager: Manager, command: ServiceCommand): string {
  return manager === "launchd"
    ? `Settings are the flags after \`--\`; keys are in ${LAUNCHD_STATE_DIR}.`
    : `Settings go to ${settingsFile(command)} as SALLYPORT_ variables; keys are in ${STATE_DIR}.`;
}

/** The file with its settings, as SALLYPORT_ variables. */
const settingsFile = (command: ServiceCommand): string => `/etc/sallyport/${command}.env`;

/** The path where a manager expects the file. */
export function servicePath(manager: Manager, command: ServiceCommand): string {
  return {
    systemd: `/etc/systemd/system/sallyport-${command}.service`,
    openrc: `/etc/init.d/sallyport-${command}`,
    launchd: `/Library/LaunchDaemons/org.sallyport.${command}.plist`,
  }[manager];
}

/** The socket units of a service, by the listening addresses among its arguments: one for each flag. */
export function socketUnits({ command, args }: Pick<ServiceSpec, "command" | "args">): readonly SocketUnit[] {
  return passableFlags(command).flatMap(({ flag, standard }) => {
    const given = args.flatMap((word, index) =>
      word === `--${flag}`
        ? args[index + 1] ?? ""
        : word.startsWith(`--${flag}=`)
        ? word.slice(flag.length + 3)
        : []
    );
    const addresses = (given.length > 0 ? given : standard).flatMap((list) => list.split(","));
    if (addresses.length === 0) return [];
    return [{
      path: socketPath(command, flag),
      text: socketUnit(command, flag, addresses.map((address) => address.trim())),
    }];
  });
}

function socketPath(command: ServiceCommand, flag: string): string {
  return `/etc/systemd/system/sallyport-${command}-${flag}.socket`;
}

/** The paths of all socket units that a service may have. */
export function socketPaths(command: ServiceCommand): readonly string[] {
  return passableFlags(command).map(({ flag }) => socketPath(command, flag));
}

function socketUnit(command: ServiceCommand, flag: string, addresses: readonly string[]): string {
  return `[Unit]
Description=${ABOUT[command]}: --${flag}

[Socket]
${addresses.map((address) => `ListenStream=${address}`).join("\n")}
FileDescriptorName=${flag}
Service=sallyport-${command}.service
Backlog=4096
NoDelay=yes

[Install]
WantedBy=sockets.target
`;
}

/** The file's text. */
export function serviceText(manager: Manager, spec: ServiceSpec): string {
  return { systemd: systemdUnit, openrc: openrcScript, launchd: launchdList }[manager](spec);
}

/** A hardened unit; the runtime's JIT compiler rules out MemoryDenyWriteExecute. */
function systemdUnit({ command, program, args, sockets = false, onDeno = false }: ServiceSpec): string {
  // An agent only dials, and systemd opens the TCP ports that it passes on.
  const listens = sockets
    ? args.some((word) => /^--(curve-listen|quic-listen|publish-ports)\b/.test(word))
    : true;
  const capability = command !== "agent" && listens ? "CAP_NET_BIND_SERVICE" : "";
  const units = sockets ? socketUnits({ command, args }) : [];
  const passed = units.length === 0 ? "" : `Sockets=${units.map(({ path }) => basename(path)).join(" ")}\n`;
  // With sockets to keep, Bun can't restart itself to get it.
  const bunEnvironment = passed === ""
    ? ""
    : Object.entries(BUN_ENVIRONMENT).map(([name, value]) => `Environment=${name}=${value}\n`).join("");
  return `[Unit]
Description=${ABOUT[command]}
Wants=network-online.target
After=network-online.target

[Service]
Type=notify
NotifyAccess=all
WatchdogSec=60
WatchdogSignal=SIGKILL
ExecStart=${[...program, command, ...args].map(systemdWord).join(" ")}
ExecReload=/bin/kill -HUP $MAINPID
${passed}EnvironmentFile=-${settingsFile(command)}
Environment=SALLYPORT_DATA_DIR=${STATE_DIR}
${onDeno ? `Environment=DENO_DIR=${DENO_CACHE}\nCacheDirectory=sallyport\n` : bunEnvironment}Restart=always
RestartSec=2
TimeoutStopSec=11min
LimitNOFILE=262144
LimitCORE=0
User=sallyport
DynamicUser=yes
StateDirectory=sallyport
StateDirectoryMode=0700
UMask=0077
AmbientCapabilities=${capability}
CapabilityBoundingSet=${capability}
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
ProtectProc=invisible
ProtectClock=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectControlGroups=yes
PrivateTmp=yes
PrivateDevices=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RemoveIPC=yes
LockPersonality=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
`;
}

function systemdWord(word: string): string {
  const escaped = word.replaceAll("\\", "\\\\").replaceAll("%", "%%").replaceAll("$", "$$$$").replaceAll(
    '"',
    '\\"',
  );
  return /^[\w@+=:,./[\]-]+$/.test(word) ? word : `"${escaped}"`;
}

/**
 * The settings that OpenRC offers for some of this don't work everywhere. `capabilities` is set only where OpenRC is
 * built with them, since it refuses the option otherwise; `rc_ulimit` fails as a whole in dash and where a limit can't
 * be raised; and OpenRC 0.45 passes `no_new_privs` under a name that its own supervise-daemon doesn't know.
 */
function openrcScript({ command, program, args, onDeno = false }: ServiceSpec): string {
  const [start = "sallyport", ...words] = [...program, command, ...args];
  const folders = onDeno ? `${STATE_DIR} ${DENO_CACHE}` : STATE_DIR;
  const capability = command === "agent" ? "" : `
  capabilities="^cap_net_bind_service"
  if ! supervise-daemon "$RC_SVCNAME" --capabilities "$capabilities" --version > /dev/null 2>&1; then
    unset capabilities
    ewarn "This OpenRC has no capabilities: ports below 1024 need sysctl net.ipv4.ip_unprivileged_port_start"
  fi`;
  return `#!/sbin/openrc-run
# Settings: SALLYPORT_ variables in ${settingsFile(command)}
description="${ABOUT[command]}"
supervisor=supervise-daemon
command=${unixWord(start)}
command_args="${words.map(unixWord).join(" ").replaceAll('"', '\\"')}"
command_user="sallyport:sallyport"
output_log="/var/log/$RC_SVCNAME.log"
error_log="/var/log/$RC_SVCNAME.log"
supervise_daemon_args="--no-new-privs"
umask=077
respawn_delay=2
retry="TERM/660/KILL/5"
extra_started_commands="reload"

depend() {
  use net
  after net firewall
}

start_pre() {
  checkpath --directory --mode 0700 --owner sallyport:sallyport ${folders} || return 1
  checkpath --file --mode 0640 --owner sallyport:sallyport "$output_log" || return 1
  ulimit -c 0
  ulimit -n 262144 2> /dev/null || ewarn "Cannot raise the limit of open files: it stays at $(ulimit -n)"${capability}
  export SALLYPORT_DATA_DIR=${STATE_DIR}${onDeno ? `\n  export DENO_DIR=${DENO_CACHE}` : ""}
  if [ -r ${settingsFile(command)} ]; then
    set -a
    . ${settingsFile(command)}
    set +a
  fi
}

reload() {
  supervise-daemon "$RC_SVCNAME" --signal HUP
}
`;
}

function launchdList({ command, program, args }: ServiceSpec): string {
  const words = [...program, command, ...args].map((word) => `    <string>${xmlText(word)}</string>`).join(
    "\n",
  );
  return `<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
  <key>Label</key>
  <string>org.sallyport.${command}</string>
  <key>ProgramArguments</key>
  <array>
${words}
  </array>
  <key>EnvironmentVariables</key>
  <dict>
    <key>SALLYPORT_DATA_DIR</key>
    <string>${LAUNCHD_STATE_DIR}</string>
  </dict>
  <key>RunAtLoad</key>
  <true/>
  <key>KeepAlive</key>
  <true/>
  <key>HardResourceLimits</key>
  <dict>
    <key>Core</key>
    <integer>0</integer>
  </dict>
  <key>StandardErrorPath</key>
  <string>/Library/Logs/sallyport-${command}.log</string>
</dict>
</plist>
`;
}

function unixWord(word: string): string {
  return shellWord(word, "linux");
}

function xmlText(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}
