/**
 * A Debian to start from in checks that need a system of their own: made by debootstrap in .cache/, once.
 *
 * @module
 */
import { execFileSync } from "node:child_process";
import { copyFileSync, cpSync, existsSync, mkdirSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";

const CACHE = join(dirname(dirname(fileURLToPath(import.meta.url))), ".cache");
const DEBIAN = join(CACHE, "debian-bookworm");

/** Throws unless a check can make a system of its own here. */
export function assertRootOnLinux(what: string): void {
  if (process.platform === "linux" && process.getuid?.() === 0) return;
  throw new Error(`Cannot check ${what}: it takes root on Linux`);
}

/** The folder of a minimal Debian. */
export function makeDebian(): string {
  return once(DEBIAN, (draft) => {
    console.log("debootstrap bookworm (once)");
    execFileSync("debootstrap", ["--variant=minbase", "bookworm", draft], { stdio: ["ignore", "ignore", 2] });
  });
}

/** The folder of the same with more packages. */
export function makeDebianWith(name: string, packages: readonly string[]): string {
  return once(`${DEBIAN}-${name}`, (draft) => {
    execFileSync("cp", ["-a", makeDebian(), draft]);
    useRegistry(draft);
    console.log(`apt-get install ${packages.join(" ")} (once)`);
    const install = "apt-get update -q && apt-get install -qy --no-install-recommends";
    const script =
      'mount -t proc proc "$0/proc" && mount --rbind /dev "$0/dev" && exec chroot "$0" sh -c "$1"';
    execFileSync("unshare", [
      ...["--mount", "--pid", "--fork", "sh", "-c", script, draft],
      `DEBIAN_FRONTEND=noninteractive; export DEBIAN_FRONTEND; ${install} ${packages.join(" ")}`,
    ], { stdio: ["ignore", "ignore", 2] });
  });
}

/** Gives a root this machine's way to the package registries. */
export function useRegistry(root: string): void {
  copyFileSync("/etc/resolv.conf", join(root, "etc/resolv.conf"));
  cpSync("/etc/ssl/certs", join(root, "etc/ssl/certs"), { recursive: true, dereference: true });
}

function once(folder: string, make: (draft: string) => void): string {
  if (existsSync(join(folder, "etc/debian_version"))) return folder;
  const draft = `${folder}.draft`;
  rmSync(draft, { recursive: true, force: true });
  mkdirSync(CACHE, { recursive: true });
  make(draft);
  execFileSync("mv", [draft, folder]);
  return folder;
}
