/**
 * Measures each way in as a newcomer has it, with nothing cached: the seconds from the first command to a page through the
 * tunnel of `demo`, and what came onto the disk for it.
 *
 * ```sh
 * deno task release --no-checks --only linux-x64 && deno task ways
 * ```
 *
 * It takes Linux, git, node, curl, and deno and bun on PATH; each way sees only the runtime that it needs. The table is
 * that of docs/install.md.
 *
 * @module
 */
import { execFileSync, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, realpathSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
const RELEASE = join(ROOT, "build", "release");
const PORTS = "--listen 127.0.0.1:0 --master-listen 127.0.0.1:0";
const DENO_RIGHTS = "--unstable-net --allow-env --allow-sys --allow-net --allow-read --allow-write";
const CLONE = `git clone --quiet --depth 1 "file://${ROOT}" sallyport && cd sallyport`;

/** A way: its commands, and what must be there before them. */
interface Way {
  readonly name: string;
  readonly needs: readonly ("deno" | "bun" | "node")[];
  readonly commands: string;
}

const release = readdirSync(RELEASE);
const [tarball, file] = [/^sallyport-[\d.]+\.tgz$/, /-linux-x64$/].map((pattern) =>
  join(RELEASE, release.find((name) => pattern.test(name)) ?? "")
);
const WAYS: readonly Way[] = [
  { name: "Deno", needs: ["deno"], commands: `${CLONE} && exec deno run -P mod.ts demo ${PORTS}` },
  { name: "Bun", needs: ["bun"], commands: `${CLONE} && bun install && exec bun run server demo ${PORTS}` },
  {
    name: "npx deno",
    needs: ["node"],
    commands: `${CLONE} && exec npx --yes deno@2.9.6 run -P mod.ts demo ${PORTS}`,
  },
  {
    name: "npx bun",
    needs: ["node"],
    commands: `${CLONE} && npx --yes bun@1.4.5 install && exec npx --yes bun@1.4.5 run server demo ${PORTS}`,
  },
  {
    name: "npm install --global, no runtime there",
    needs: ["node"],
    commands:
      `npm install --global --prefix "$HOME/npm" "${tarball}" && exec "$HOME/npm/bin/sallyport" demo ${PORTS}`,
  },
  {
    name: "npm install --global, Bun there",
    needs: ["node", "bun"],
    commands:
      `npm install --global --prefix "$HOME/npm" "${tarball}" && exec "$HOME/npm/bin/sallyport" demo ${PORTS}`,
  },
  {
    name: "bunx",
    needs: ["bun"],
    commands: `echo '{}' > package.json && bun add "${tarball}" && exec bun x --bun sallyport demo ${PORTS}`,
  },
  {
    name: "deno install --global",
    needs: ["deno"],
    commands:
      `${CLONE} && deno install --global --root "$HOME/deno" --name sallyport ${DENO_RIGHTS} mod.ts && ` +
      `exec "$HOME/deno/bin/sallyport" demo ${PORTS}`,
  },
  { name: "single file", needs: [], commands: `cp "${file}" sallyport && exec ./sallyport demo ${PORTS}` },
];

for (const way of WAYS.filter(({ name }) => process.argv.length < 3 || process.argv.includes(name))) {
  const { seconds, megabytes } = await measure(way);
  console.log(`| ${way.name} | ${seconds.toFixed(1)} s | ${megabytes.toFixed(0)} MB |`);
}

async function measure({ needs, commands }: Way): Promise<{ seconds: number; megabytes: number }> {
  const home = mkdtempSync(join(tmpdir(), "sallyport-way-"));
  const [bin, work] = [join(home, ".bin"), join(home, "work")];
  mkdirSync(bin);
  mkdirSync(work);
  for (
    const name of [
      "git",
      "curl",
      ...needs.flatMap((need) => need === "node" ? ["node", "npm", "npx"] : [need]),
    ]
  ) {
    symlinkSync(which(name), join(bin, name));
  }
  const env: NodeJS.ProcessEnv = {
    HOME: home,
    PATH: `${bin}:/usr/bin:/bin`,
    NO_COLOR: "1",
    DENO_NO_UPDATE_CHECK: "1",
  };
  for (const name of ["NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE", "HTTPS_PROXY", "https_proxy"]) {
    if (process.env[name]) env[name] = process.env[name];
  }
  if (!needs.includes("node")) env.PATH = `${bin}:/bin`;
  const started = performance.now();
  const child = spawn("sh", ["-c", commands], {
    cwd: work,
    env,
    detached: true,
    stdio: ["ignore", "pipe", "pipe"],
  });
  try {
    let text = "";
    const line = await new Promise<string>((resolve, reject) => {
      const take = (part: unknown) => {
        text += String(part);
        const found = /^ *(curl --cacert .*)$/m.exec(text)?.[1];
        if (found !== undefined) resolve(found);
      };
      child.stdout.on("data", take);
      child.stderr.on("data", take);
      child.on("close", () => reject(new Error(`it ended:\n${text}`)));
      setTimeout(() => reject(new Error(`it takes too long:\n${text}`)), 300_000).unref();
    });
    // The certificate's file is named from the folder that the program runs in.
    const folder = commands.startsWith("git clone") ? join(work, "sallyport") : work;
    const page = execFileSync("sh", ["-c", `${line} --silent --show-error`], {
      cwd: folder,
      encoding: "utf8",
    });
    if (!page.includes("Hello from behind the tunnel")) throw new Error(`another page came: ${page}`);
    const seconds = (performance.now() - started) / 1000;
    const bytes = Number(execFileSync("du", ["-sb", home], { encoding: "utf8" }).split("\t")[0]);
    return { seconds, megabytes: bytes / 1e6 };
  } finally {
    const closed = new Promise((resolve) => child.once("close", resolve));
    try {
      process.kill(-child.pid!, "SIGTERM");
      await closed;
    } catch {
      // It has ended by itself.
    }
    rmSync(home, { recursive: true, force: true });
  }
}

/** Where a command really is: npx puts links to scripts on PATH. */
function which(name: string): string {
  const found = execFileSync("which", [name], { encoding: "utf8" }).trim();
  if (name === "deno") {
    return execFileSync(found, ["eval", "console.log(Deno.execPath())"], { encoding: "utf8" }).trim();
  }
  return realpathSync(found);
}
