/**
 * Starts the program under real service managers: boots Debian with systemd, then with OpenRC, each in a container made
 * of namespaces, installs the Debian package and the services there, and shows that they start, report that they are
 * ready, reload, restart after a crash or a hang, upgrade from an older version and stop.
 *
 * ```sh
 * deno task check:service            # as root on Linux, with debootstrap and nfpm; the first time takes some minutes
 * deno task check:service systemd    # one of the two
 * ```
 *
 * The program is a single file made for it, and sources on Bun and on Deno. systemd.sh and openrc.sh hold what is
 * checked, checks.sh what they share.
 *
 * @module
 */
import { execFileSync, spawnSync } from "node:child_process";
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { buildFor } from "../build.ts";
import { assertRootOnLinux, makeDebianWith } from "../debian.ts";
import { exportHead } from "../head.ts";
import { writeVersion } from "../release/version.ts";

const ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const HERE = join(ROOT, "packaging/service");
const PACKAGES = [
  "systemd",
  "systemd-sysv",
  "dbus",
  "openrc",
  "curl",
  "iproute2",
  "procps",
  "ca-certificates",
];
const MANAGERS = ["systemd", "openrc"] as const;
type Manager = typeof MANAGERS[number];
/** The version of the package that is upgraded. */
const OLDER = "0.0.1";

async function main(): Promise<void> {
  assertRootOnLinux("service");
  const named = process.argv.slice(2).filter((word) => word !== "--");
  const chosen = MANAGERS.filter((manager) => named.length === 0 || named.includes(manager));
  if (chosen.length === 0) throw new Error(`Cannot check service: it takes ${MANAGERS.join(" or ")}`);
  const folder = mkdtempSync(join(tmpdir(), "sallyport-service-"));
  try {
    const file = buildFor("linux-x64", join(ROOT, "build"));
    const packages = [await makeOlderPackage(join(folder, "older")), makePackage(ROOT, file)];
    const debian = makeDebianWith("services", PACKAGES);
    for (const manager of chosen) {
      const root = join(folder, manager);
      execFileSync("cp", ["-a", debian, root]);
      install(manager, root, file, packages);
      boot(manager, root);
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Runs a command whose output doesn't matter unless it fails. */
function run(command: string, args: readonly string[], cwd: string, env = process.env): void {
  execFileSync(command, args, { cwd, env, stdio: ["ignore", "ignore", 2] });
}

/** Puts what HEAD has into a folder, with the packages that it needs. */
function exportSources(folder: string): void {
  exportHead(folder);
  run("bun", ["install", "--frozen-lockfile"], folder);
}

/** Makes the Debian package of a single file, with the sources in `root`; returns its path. */
function makePackage(root: string, file: string): string {
  run("sh", ["packaging/deb/build.sh", file], root);
  const [, version] = /sallyport-([^-]+)-/.exec(basename(file))!;
  return join(root, "build", `sallyport_${version}_amd64.deb`);
}

/** The package of the same program under an older version. */
async function makeOlderPackage(root: string): Promise<string> {
  exportSources(root);
  await writeVersion(root, OLDER);
  run("bun", ["packaging/build.ts", "linux-x64"], root);
  return makePackage(root, join(root, "build", `sallyport-${OLDER}-linux-x64`));
}

/** Puts the program into the system, in each form that is to be started, and the checks. */
function install(manager: Manager, root: string, file: string, packages: readonly string[]): void {
  copyFileSync(file, join(root, "usr/local/bin/sallyport"));
  copyFileSync(join(HERE, `${manager}.sh`), join(root, "check.sh"));
  copyFileSync(join(HERE, "checks.sh"), join(root, "checks.sh"));
  writeFileSync(join(root, "etc/hosts"), "127.0.0.1 localhost demo.localhost\n::1 localhost\n");
  if (manager === "openrc") return;
  for (const [index, name] of ["older.deb", "newer.deb"].entries()) {
    copyFileSync(packages[index]!, join(root, name));
  }
  copyFileSync(join(HERE, "check.service"), join(root, "etc/systemd/system/check.service"));
  // The sources, with both runtimes and what they import: the container has no network.
  const sources = join(root, "opt/sallyport");
  exportSources(sources);
  for (const runtime of ["bun", "deno"]) {
    copyFileSync(runtimePath(runtime), join(root, "usr/local/bin", runtime));
  }
  const cache = { DENO_DIR: join(root, "var/cache/private/sallyport") };
  run("deno", ["cache", "--quiet", "--frozen", "mod.ts"], sources, { ...process.env, ...cache });
  chmodSync(join(root, "var/cache/private"), 0o700);
}

/** Boots the system, which ends with the exit code of its check. */
function boot(manager: Manager, root: string): void {
  console.log(`${manager}:`);
  // A control group of its own, so that systemd sees only what it makes.
  const groups = execFileSync("findmnt", ["-t", "cgroup2", "-n", "-o", "TARGET"], { encoding: "utf8" });
  const group = join(groups.split("\n")[0]!, `sallyport-check-${process.pid}`);
  mkdirSync(group, { recursive: true });
  try {
    const script = 'echo $$ > "$1/cgroup.procs" && exec unshare --cgroup --mount --pid --fork --kill-child ' +
      '--uts --ipc --net sh "$2" "$3" "$4"';
    const words = ["-c", script, "sh", group, join(HERE, "boot.sh"), root, manager];
    const { status, stdout } = spawnSync("sh", words, { timeout: 480_000, encoding: "utf8" });
    const text = manager === "systemd" ? readFileSync(join(root, "check.log"), "utf8") : stdout;
    const said = text.trimEnd().split("\n");
    console.log((status === 0 ? said.filter((line) => line.startsWith("ok: ")) : said).join("\n"));
    if (status !== 0) throw new Error(`Cannot accept ${manager}: its check ended with ${status}`);
  } finally {
    // The groups that systemd made in it stay; each goes once its last process has ended.
    spawnSync("sh", [
      "-c",
      'for i in 1 2 3 4 5; do find "$0" -depth -type d -exec rmdir {} + && break; sleep 1; done',
      group,
    ]);
  }
}

/** The runtime's own file: npx puts links to scripts on PATH. */
function runtimePath(name: string): string {
  if (name === "bun") return realpathSync(execFileSync("which", ["bun"], { encoding: "utf8" }).trim());
  return execFileSync("deno", ["eval", "console.log(Deno.execPath())"], { encoding: "utf8" }).trim();
}

await main();
