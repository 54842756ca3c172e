/**
 * Takes the Dockerfile's steps where there is no container engine: in a chroot that debootstrap makes, then starts what
 * came out as a container would: as its own user, without rights, in a network of its own, on a read-only root.
 *
 * ```sh
 * deno task check:container      # as root on Linux, with debootstrap; the first time takes some minutes
 * ```
 *
 * The two base images have stand-ins: Debian with Bun for `oven/bun`, and Debian's C libraries without a shell for
 * distroless. An agent and a visitor then show that the program inside does its work.
 *
 * @module
 */
import { execFileSync, spawnSync } from "node:child_process";
import {
  chmodSync,
  chownSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { assertRootOnLinux, makeDebian, useRegistry } from "../debian.ts";
import { exportHead } from "../head.ts";
import { NOTICES } from "../notices.ts";
import { execForm, type Instruction, pairs, parseDockerfile, type Stage } from "./dockerfile.ts";

const ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
/** Packages whose files a distroless/cc image has. */
const RUNTIME_PACKAGES = ["libc6", "libgcc-s1", "libstdc++6"];

/** An image while it is made, as a folder. */
interface Image {
  readonly root: string;
  readonly env: Record<string, string>;
  workdir: string;
  user: string;
  entrypoint: string[];
  command: string[];
  healthcheck: string[];
  readonly volumes: string[];
}

function main(): void {
  assertRootOnLinux("container");
  const stages = parseDockerfile(readFileSync(join(ROOT, "packaging/container/Dockerfile"), "utf8"));
  const folder = mkdtempSync(join(tmpdir(), "sallyport-container-"));
  try {
    const context = join(folder, "context");
    exportHead(context);
    const images = new Map<string, Image>();
    for (const stage of stages) {
      const image = makeImage(stage, join(folder, stage.name ?? "final"));
      for (const step of stage.steps) take(step, image, context, images);
      images.set(stage.name ?? "final", image);
    }
    const image = images.get("final")!;
    if (image.user === "" || image.user.startsWith("0")) {
      throw new Error("Cannot accept image: it runs as root");
    }
    if (existsSync(join(image.root, "bin/sh"))) {
      throw new Error("Cannot accept image: there is a shell in it");
    }
    for (const name of ["LICENSE", NOTICES]) {
      if (!existsSync(join(image.root, "usr/share/doc/sallyport", name))) {
        throw new Error(`Cannot accept image: ${name} is missing in it`);
      }
    }
    runImage(image, folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** The stand-in of a base image. */
function makeImage({ from }: Stage, root: string): Image {
  const image: Image = {
    ...{ root, env: { PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" } },
    ...{ workdir: "/", user: "", entrypoint: [], command: [], healthcheck: [], volumes: [] },
  };
  const [, bunVersion] = /^oven\/bun:([\d.]+)$/.exec(from) ?? [];
  if (bunVersion !== undefined) {
    execFileSync("cp", ["-a", makeDebian(), root]);
    const bun = process.versions.bun === undefined ? which("bun") : process.execPath;
    const found = execFileSync(bun, ["--version"], { encoding: "utf8" }).trim();
    if (found !== bunVersion) throw new Error(`Cannot stand in for ${from}: bun on PATH is ${found}`);
    cpSync(realpathSync(bun), join(root, "usr/local/bin/bun"));
    useRegistry(root);
    for (const name of ["NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE", "HTTPS_PROXY", "https_proxy"]) {
      if (process.env[name]) image.env[name] = process.env[name];
    }
    image.env.HOME = "/root";
    return image;
  }
  if (!from.startsWith("gcr.io/distroless/cc-debian12:nonroot")) {
    throw new Error(`Cannot stand in for ${from}`);
  }
  for (const folder of ["usr/bin", "usr/lib", "usr/lib64", "usr/local/bin", "etc", "tmp", "proc", "dev"]) {
    mkdirSync(join(root, folder), { recursive: true });
  }
  execFileSync("ln", ["-s", "usr/lib", join(root, "lib")]);
  execFileSync("ln", ["-s", "usr/lib64", join(root, "lib64")]);
  const debian = makeDebian();
  for (const name of RUNTIME_PACKAGES) {
    const listed = execFileSync("chroot", [debian, "dpkg", "-L", name], { encoding: "utf8" }).split("\n");
    const files = listed.filter((path) => /\.so/.test(path) && !statOf(join(debian, path))?.isDirectory());
    execFileSync("tar", ["-x", "-C", root], {
      input: execFileSync("tar", [
        "-c",
        "-C",
        debian,
        ...files.map((path) => `.${path}`.replace(/^\.\/(lib\w*)\//, "./usr/$1/")),
      ], {
        maxBuffer: 1 << 28,
      }),
    });
  }
  writeFileSync(
    join(root, "etc/passwd"),
    "root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n",
  );
  writeFileSync(join(root, "etc/group"), "root:x:0:\nnonroot:x:65532:\n");
  // An engine puts this there.
  writeFileSync(join(root, "etc/hosts"), "127.0.0.1 localhost\n::1 localhost\n");
  chmodSync(join(root, "tmp"), 0o1777);
  image.user = "65532:65532";
  return image;
}

/** Takes one instruction. */
function take(step: Instruction, image: Image, context: string, images: ReadonlyMap<string, Image>): void {
  const { name, text } = step;
  console.log(`${name} ${text}`);
  switch (name) {
    case "WORKDIR":
      image.workdir = text;
      mkdirSync(join(image.root, text), { recursive: true });
      return;
    case "ENV":
      for (const [key, value] of pairs(text)) image.env[key] = value;
      return;
    case "ARG":
      for (const [key, value] of pairs(text)) image.env[key] = process.arch === "arm64" ? "arm64" : value;
      return;
    case "COPY":
      return copy(text, image, context, images);
    case "RUN": {
      const words = Object.entries(image.env).map(([key, value]) => `${key}=${value}`);
      const script =
        'mount -t proc proc "$0/proc" && mount --rbind /dev "$0/dev" && exec chroot "$0" /usr/bin/env -i "$@"';
      const inside = ["/bin/sh", "-c", `cd ${image.workdir} && ${text}`];
      execFileSync("unshare", [
        "--mount",
        "--pid",
        "--fork",
        "sh",
        "-c",
        script,
        image.root,
        ...words,
        ...inside,
      ], {
        stdio: ["ignore", "ignore", 2],
      });
      return;
    }
    case "USER":
      image.user = text;
      return;
    case "VOLUME":
      image.volumes.push(text);
      return;
    case "HEALTHCHECK":
      image.healthcheck = execForm(step);
      return;
    case "ENTRYPOINT":
      image.entrypoint = execForm(step);
      return;
    case "CMD":
      image.command = execForm(step);
      return;
    case "LABEL":
    case "EXPOSE":
      return;
    default:
      throw new Error(`Cannot take step of Dockerfile: ${name} isn't known here`);
  }
}

function copy(text: string, image: Image, context: string, images: ReadonlyMap<string, Image>): void {
  const words = text.split(" ");
  const flag = (name: string) => words.find((word) => word.startsWith(`--${name}=`))?.split("=")[1];
  const from = flag("from");
  const source = from === undefined ? context : images.get(from)?.root;
  if (source === undefined) throw new Error(`Cannot copy: there is no stage ${from}`);
  const paths = words.filter((word) => !word.startsWith("--"));
  const target = paths.pop()!;
  const into = join(image.root, target.startsWith("/") ? "" : image.workdir, target);
  for (const path of paths) {
    const file = join(source, path);
    const isFolder = statSync(file).isDirectory();
    const at = !isFolder && /(^|\/)\.?$/.test(target) ? join(into, path.split("/").at(-1)!) : into;
    mkdirSync(dirname(at), { recursive: true });
    cpSync(file, at, { recursive: true });
    const owner = flag("chown")?.split(":").map(Number);
    if (owner !== undefined) chownSync(at, owner[0]!, owner[1] ?? owner[0]!);
  }
}

/** Starts the image as a container, and shows by a health check, an agent and a visitor that it works. */
function runImage(image: Image, folder: string): void {
  const script = join(folder, "run.sh");
  writeFileSync(script, CONTAINER_SCRIPT);
  const words = Object.entries(image.env).map(([name, value]) => `${name}=${value}`);
  const page = join(folder, "page.ts");
  writeFileSync(
    page,
    'Bun.serve({ hostname: "127.0.0.1", port: 3000, fetch: () => new Response("a page in a container") });\n',
  );
  const { status } = spawnSync("unshare", [
    "--mount",
    "--mount-proc",
    "--net",
    "--pid",
    "--fork",
    "--kill-child",
    "sh",
    script,
  ], {
    stdio: "inherit",
    timeout: 120_000,
    env: {
      ...process.env,
      IMAGE: image.root,
      DATA: image.volumes[0] ?? "/data",
      OWNER: image.user,
      ENVIRONMENT: words.join(" "),
      START: [...image.entrypoint, ...image.command].join(" "),
      PROGRAM: image.entrypoint.join(" "),
      HEALTH: image.healthcheck.join(" "),
      BUN: which("bun"),
      PAGE: page,
      LOGS: folder,
    },
  });
  if (status !== 0) {
    for (const name of ["serve.log", "agent.log"]) {
      if (existsSync(join(folder, name))) console.error(readFileSync(join(folder, name), "utf8"));
    }
    throw new Error("Cannot accept image: it doesn't do its work, see above");
  }
}

/** What an engine does by `docker run --read-only --cap-drop ALL --security-opt no-new-privileges`. */
const CONTAINER_SCRIPT = String.raw`
set -eu
ip link set lo up
mount --bind "$IMAGE" "$IMAGE"
mount -t proc proc "$IMAGE/proc"
mount --rbind /dev "$IMAGE/dev"
mount -t tmpfs -o "mode=0755" tmpfs "$IMAGE$DATA"
chown "$OWNER" "$IMAGE$DATA"
mount -o remount,bind,ro "$IMAGE"
# In a subshell, which becomes the program. The words of ENVIRONMENT and of the commands have no spaces of their own.
contained() {
  exec env -i $ENVIRONMENT setpriv --no-new-privs --inh-caps=-all --bounding-set=-all,+sys_chroot,+setuid,+setgid \
    chroot --userspec="$OWNER" --groups= "$IMAGE" "$@"
}
say() { echo "  $*"; }

say "start: $START"
(contained $START) > "$LOGS/serve.log" 2>&1 &
serve=$!
tries=0
until (contained $HEALTH) > /dev/null 2>&1; do
  tries=$((tries + 1)); [ "$tries" -lt 100 ] || { say "HEALTHCHECK never passed"; exit 1; }
  sleep 0.2
done
say "HEALTHCHECK passes: $HEALTH"
grep -E "^(Uid|CapEff|NoNewPrivs):" "/proc/$serve/status" | sed 's/^/  /'
grep -q "^CapEff:.*0000000000000000$" "/proc/$serve/status" || { say "it has rights"; exit 1; }
grep -q "^Uid:.\{0,1\}0" "/proc/$serve/status" && { say "it is root"; exit 1; }
"$BUN" "$PAGE" &
page=$!
start=$(contained $PROGRAM agents add demo --hostname demo.localhost \
  --master http://127.0.0.1:8080 --credential-file "$DATA/admin.key" | grep -o "'http[^']*'" | tr -d "'")
(contained $PROGRAM agent --join "$start" --to http://127.0.0.1:3000 --data-dir "$DATA/agent") \
  > "$LOGS/agent.log" 2>&1 &
agent=$!
tries=0
until curl -sk --max-time 5 https://demo.localhost:8443/ 2> /dev/null | grep -q "a page in a container"; do
  tries=$((tries + 1)); [ "$tries" -lt 100 ] || { say "no page came through the tunnel"; exit 1; }
  sleep 0.2
done
say "a visitor gets the page by agent and edge"
if ls -A "$IMAGE" > /dev/null && touch "$IMAGE/written" 2> /dev/null; then say "its root can be written"; exit 1; fi
say "its root is read-only; in $DATA: $(ls "$IMAGE$DATA" | tr '\n' ' ')"
kill "$agent" "$page"
kill "$serve"
wait "$serve" || { say "it ended with $?"; exit 1; }
say "it stops in order at SIGTERM"
`;

function which(name: string): string {
  return realpathSync(execFileSync("which", [name], { encoding: "utf8" }).trim());
}

function statOf(path: string): ReturnType<typeof statSync> | undefined {
  try {
    return statSync(path);
  } catch {
    return undefined;
  }
}

main();
