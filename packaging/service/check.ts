/**
 * Starts the program under real service managers: boots Debian with systemd, then with OpenRC, each in a container made
 * of namespaces, installs the Debian package and the services there, and shows that they start, report that they are
 * ready, reload, restart after a crash or a hang, upgrade and stop.
 *
 * ```sh
 * deno task check:service            # as root on Linux, with debootstrap and nfpm; the first time takes some minutes
 * deno task check:service systemd    # one of the two
 * ```
 *
 * The program is a single file made for it, and sources on Bun and on Deno. systemd.sh and openrc.sh hold what is checked, checks.sh what they share.
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
import { dirname, join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { buildFor } from "../build.ts";
import { assertRootOnLinux, makeDebianWith } from "../debian.ts";

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

function main(): void {
  assertRootOnLinux("service");
  const named = process.argv.slice(2).filter((word) => word !== "--");
  const chosen = MANAGERS.filter((manager) => named.length === 0 || named.includes(manager));
  if (chosen.length === 0) throw new Error(`Cannot check service: it takes ${MANAGERS.join(" or ")}`);
  const folder = mkdtempSync(join(tmpdir(), "sallyport-service-"));
  try {
    const file = buildFor("linux-x64", join(ROOT, "build"));
    execFileSync("sh", ["packaging/deb/build.sh", file], { cwd: ROOT, stdio: ["ignore", "ignore", 2] });
    const debian = makeDebianWith("services", PACKAGES);
    for (const manager of chosen) {
      const root = join(folder, manager);
      execFileSync("cp", ["-a", debian, root]);
      install(manager, root, file);
      boot(manager, root);
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Puts the program into the system, in each form that is to be started, and the checks. */
function install(manager: Manager, root: string, file: string): void {
  copyFileSync(file, join(root, "usr/local/bin/sallyport"));
  copyFileSync(join(HERE, `${manager}.sh`), join(root, "check.sh"));
  copyFileSync(join(HERE, "checks.sh"), join(root, "checks.sh"));
  writeFileSync(join(root, "etc/hosts"), "127.0.0.1 localhost demo.localhost\n::1 localhost\n");
  if (manager === "openrc") return;
  const [deb] = execFileSync("sh", ["-c", "ls build/sallyport_*_amd64.deb"], { cwd: ROOT, encoding: "utf8" })
    .split("\n");
  copyFileSync(join(ROOT, deb!), join(root, "sallyport.deb"));
  copyFileSync(join(HERE, "check.service"), join(root, "etc/systemd/system/check.service"));
  // The sources, with both runtimes and what they import: the container has no network.
  const sources = join(root, "opt/sallyport");
  mkdirSync(sources);
  const archive = execFileSync("git", ["archive", "--format=tar", "HEAD"], { cwd: ROOT, maxBuffer: 1 << 28 });
  execFileSync("tar", ["-x", "-C", sources], { input: archive });
  execFileSync("bun", ["install", "--frozen-lockfile"], { cwd: sources, stdio: ["ignore", "ignore", 2] });
  for (const runtime of ["bun", "deno"]) {
    copyFileSync(runtimePath(runtime), join(root, "usr/local/bin", runtime));
  }
  execFileSync("deno", ["cache", "--quiet", "--frozen", "mod.ts"], {
    cwd: sources,
    env: { ...process.env, DENO_DIR: join(root, "var/cache/private/sallyport") },
    stdio: ["ignore", "ignore", 2],
  });
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

main();
