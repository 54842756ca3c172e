/**
 * `service`: installs a command as a service of this machine, removes it, and shows its status.
 *
 * @module
 */
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, rm, writeFile } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import process from "node:process";
import { errorMessage, SallyportError } from "../errors.ts";
import { addExamples, type CliContext, type Command } from "./command.ts";
import type { CliIo } from "./io.ts";
import {
  hiddenFromUnits,
  type Manager,
  MANAGERS,
  placesText,
  SERVICE_COMMANDS,
  type ServiceCommand,
  servicePath,
  serviceText,
  socketPaths,
  type SocketUnit,
  socketUnits,
  STATE_DIR,
} from "./service_files.ts";

interface Flags {
  readonly manager?: string;
  readonly root?: string;
  readonly print?: boolean;
  readonly socketActivation?: boolean;
}

/** Adds the command. */
export function addService(program: Command, { io }: CliContext): void {
  const service = program.command("service").description(
    "Make serve, edge, master or agent a service of this machine: systemd, OpenRC or launchd.",
  );
  const common = (command: Command) =>
    command.argument("<command>", SERVICE_COMMANDS.join(", "))
      .option(
        "--manager <NAME>",
        `the service manager: ${MANAGERS.join(", ")}; default: the one found`,
      )
      .option("--root <FOLDER>", "write below this folder and start nothing, for packages and images");
  const install = common(service.command("install")).argument("[args...]", "flags for the command, after --")
    .description("Write the service's file, and start it now and at each boot.")
    .showHelpAfterError("(flags of the command itself go after --, as in the examples of --help)")
    .option("--print", "print the file instead of writing it")
    .option(
      "--socket-activation",
      "let systemd open the TCP ports: connections wait while the program restarts, and it needs no privilege",
    );
  addExamples(install, io, [
    {
      what: "an edge and its session master",
      args: "service install serve -- --public-address edge.example.org:8443",
    },
    {
      what: "the same with ports that systemd opens",
      args: "service install serve --socket-activation -- --listen [::]:443 --agent-listen [::]:8443",
    },
    { what: "an agent, with its settings in /etc/sallyport/agent.env", args: "service install agent" },
    { what: "only print it", args: "service install agent --print" },
  ]);
  install.action(async (name: string, args: string[], flags: Flags) => {
    const [command, manager] = [commandNamed(name), managerOf(flags)];
    const sockets = flags.socketActivation === true ? socketsOf(manager, command, args) : [];
    const { program, onDeno } = startWords();
    const text = serviceText(manager, { command, program, args, onDeno, sockets: sockets.length > 0 });
    const files = [{ path: servicePath(manager, command), text }, ...sockets];
    if (flags.print === true) return io.out(files.map(({ text }) => text).join("\n").trimEnd());
    const hidden = manager === "systemd" && flags.root === undefined ? hiddenFromUnits(program) : undefined;
    if (hidden !== undefined) {
      const why = `${hidden} is in a folder that systemd hides from services; move it, for example to ` +
        "/usr/local/bin or /opt, and run this command from there";
      throw wrong(`Cannot install service: ${why}`);
    }
    const paths = files.map(({ path }) => join(flags.root ?? "/", path));
    for (const [index, { text }] of files.entries()) {
      await write(paths[index]!, text, manager === "openrc" ? 0o755 : 0o644);
    }
    io.out(`Wrote ${paths.join(", ")}. ${placesText(manager, command)}`);
    if (flags.root === undefined) await tell(io, STARTS[manager](command, paths));
  });
  const uninstall = common(service.command("uninstall")).description(
    "Stop the service and remove its file; settings and keys stay.",
  );
  addExamples(uninstall, io, [{ what: "the agent", args: "service uninstall agent" }]);
  uninstall.action(async (name: string, flags: Flags) => {
    const [command, manager] = [commandNamed(name), managerOf(flags)];
    const here = (path: string) => join(flags.root ?? "/", path);
    const path = here(servicePath(manager, command));
    if (!existsSync(path)) throw wrong(`Cannot uninstall: there is no ${path}`);
    const sockets = manager === "systemd"
      ? socketPaths(command).map(here).filter((path) => existsSync(path))
      : [];
    const paths = [path, ...sockets];
    if (flags.root === undefined) await tell(io, STOPS[manager](command, paths));
    for (const path of paths) await rm(path);
    if (flags.root === undefined && manager === "systemd") await tell(io, [["systemctl", "daemon-reload"]]);
    io.out(`Removed ${paths.join(", ")}; settings and keys stay. ${placesText(manager, command)}`);
  });
  const status = common(service.command("status")).description("Show the service's state.");
  addExamples(status, io, [{ what: "the agent", args: "service status agent" }]);
  status.action(async (name: string, flags: Flags) => {
    const [command, manager] = [commandNamed(name), managerOf(flags)];
    const path = join(flags.root ?? "/", servicePath(manager, command));
    if (!existsSync(path)) return io.out(`${command} isn't installed as a service: there is no ${path}`);
    io.out(`installed: ${path}`);
    if (flags.root === undefined) await tell(io, SHOWS[manager](command));
  });
}

type Steps = readonly (readonly string[])[];

/** The steps for a command, given the files that are written: the service's, and its sockets'. */
type FileSteps = Record<Manager, (command: ServiceCommand, paths: readonly string[]) => Steps>;

/** BusyBox, as in Alpine, has no useradd, and Debian's adduser takes other flags. */
const ADD_USER = "if command -v useradd > /dev/null; " +
  `then useradd --system --user-group --no-create-home --home-dir ${STATE_DIR} sallyport; ` +
  "else addgroup -S sallyport && adduser -S -D -H -G sallyport sallyport; fi";

const unitNames = (paths: readonly string[]) => paths.map((path) => basename(path));
const STARTS: FileSteps = {
  systemd: (_, paths) => [
    ["systemctl", "daemon-reload"],
    // Sockets first: they can't be opened for a service that runs already.
    ["systemctl", "enable", "--now", ...unitNames(paths).reverse()],
  ],
  openrc: (command) => [
    ["sh", "-c", `id sallyport > /dev/null 2>&1 || { ${ADD_USER}; }`],
    ["rc-update", "add", `sallyport-${command}`, "default"],
    ["rc-service", `sallyport-${command}`, "start"],
  ],
  launchd: (_, paths) => [["launchctl", "bootstrap", "system", ...paths]],
};
const STOPS: FileSteps = {
  systemd: (_, paths) => [["systemctl", "disable", "--now", ...unitNames(paths).reverse()]],
  openrc: (command) => [
    ["rc-service", `sallyport-${command}`, "stop"],
    ["rc-update", "del", `sallyport-${command}`, "default"],
  ],
  launchd: (_, paths) => [["launchctl", "bootout", "system", ...paths]],
};
const SHOWS: Record<Manager, (command: ServiceCommand) => Steps> = {
  systemd: (command) => [["systemctl", "--no-pager", "status", `sallyport-${command}`]],
  openrc: (command) => [["rc-service", `sallyport-${command}`, "status"]],
  launchd: (command) => [["launchctl", "print", `system/org.sallyport.${command}`]],
};

/** Runs the manager's commands; one that can't be run is printed for the user to run. */
async function tell(io: CliIo, steps: Steps): Promise<void> {
  for (const [program = "", ...args] of steps) {
    const line = [program, ...args].join(" ");
    await new Promise<void>((done) => {
      execFile(program, args, { timeout: 60_000 }, (error, stdout, stderr) => {
        const said = `${stdout}${stderr}`.trim();
        if (said !== "") io.out(said);
        if (error !== null) {
          io.err(`Warning: \`${line}\` failed: ${errorMessage(error).slice(0, 200)}. Run it yourself`);
        }
        done();
      });
    });
  }
}

async function write(path: string, text: string, mode: number): Promise<void> {
  try {
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, text, { mode });
  } catch (error) {
    throw wrong(
      `Cannot write ${path}: ${errorMessage(error)}. It needs root: run it with sudo`,
    );
  }
}

function commandNamed(name: string): ServiceCommand {
  const found = SERVICE_COMMANDS.find((command) => command === name);
  if (found === undefined) {
    throw wrong(`Cannot use ${name} as a service: it takes ${SERVICE_COMMANDS.join(", ")}`);
  }
  return found;
}

function managerOf({ manager }: Flags): Manager {
  if (manager === undefined) {
    if (process.platform === "darwin") return "launchd";
    // A machine may have both programs: what it was started with says which one manages its services.
    return !isThere("/run/systemd/system") && isThere("/sbin/openrc-run") ? "openrc" : "systemd";
  }
  const found = MANAGERS.find((name) => name === manager);
  if (found === undefined) {
    throw wrong(`Cannot use --manager: ${manager} is not one of ${MANAGERS.join(", ")}`);
  }
  return found;
}

/** The socket units of a service that systemd activates. */
function socketsOf(
  manager: Manager,
  command: ServiceCommand,
  args: readonly string[],
): readonly SocketUnit[] {
  const cannot = manager !== "systemd"
    ? `${manager} can't pass sockets on; systemd can`
    : command === "agent"
    ? "an agent has no ports"
    : args.some((word) => /^--workers(=|$)/.test(word))
    ? "with --workers each worker opens the ports itself"
    : undefined;
  if (cannot !== undefined) throw wrong(`Cannot use --socket-activation: ${cannot}`);
  return socketUnits({ command, args });
}

function isThere(path: string): boolean {
  try {
    return existsSync(path);
  } catch {
    // Deno without permission to look there.
    return false;
  }
}

/** The command line that starts this program, on Deno with the flags that a service needs. */
function startWords(): { readonly program: readonly string[]; readonly onDeno: boolean } {
  const { execPath, argv } = process;
  const runtime = basename(execPath).replace(/\.exe$/, "");
  const script = argv[1];
  if (script === undefined || !/^(deno|bun)/.test(runtime)) return { program: [execPath], onDeno: false };
  if (runtime.startsWith("bun")) return { program: [execPath, resolve(script)], onDeno: false };
  const allowed = ["--allow-net", "--allow-env", "--allow-sys", "--allow-read", `--allow-write=${STATE_DIR}`];
  const flags = ["--quiet", "--no-prompt", "--unstable-net", ...allowed, "--allow-run=systemd-notify"];
  return { program: [execPath, "run", ...flags, resolve(script)], onDeno: true };
}

function wrong(message: string): SallyportError {
  return new SallyportError("config_invalid", message, { side: "config" });
}
