/**
 * Measures each way in as a newcomer has it, with nothing cached: the seconds from the first command to a page through the
 * tunnel of `demo`, what was downloaded for it, and what came onto the disk.
 *
 * ```sh
 * deno task release --no-checks --only linux-x64 && deno task ways
 * ```
 *
 * It takes Linux, git, node, curl, and deno and bun on PATH; each way sees only the runtime that it needs. Names after the
 * command choose ways. Downloaded are the bytes that a proxy on this machine passes on from the package registries (as they
 * come, with TLS around them), and the file or the clone of ours. The table is that of docs/install.md.
 *
 * @module
 */
import { execFileSync, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, realpathSync, rmSync, statSync, symlinkSync } from "node:fs";
import { type AddressInfo, connect, createServer } from "node:net";
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
  /** The file of ours that it begins with; otherwise it clones the project. */
  readonly file?: string;
}

/** What a way costs. */
interface Cost {
  readonly seconds: number;
  readonly downloadedBytes: number;
  readonly diskBytes: number;
}

const release = readdirSync(RELEASE);
const [tarball = "", file = "", deb = ""] = [/^sallyport-[\d.]+\.tgz$/, /-linux-x64$/, /_amd64\.deb$/].map((
  pattern,
) => join(RELEASE, release.find((name) => pattern.test(name)) ?? ""));
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
    file: tarball,
  },
  {
    name: "npm install --global, Bun there",
    needs: ["node", "bun"],
    commands:
      `npm install --global --prefix "$HOME/npm" "${tarball}" && exec "$HOME/npm/bin/sallyport" demo ${PORTS}`,
    file: tarball,
  },
  {
    name: "bunx",
    needs: ["bun"],
    commands: `echo '{}' > package.json && bun add "${tarball}" && exec bun x --bun sallyport demo ${PORTS}`,
    file: tarball,
  },
  {
    name: "deno install --global",
    needs: ["deno"],
    commands:
      `${CLONE} && deno install --global --root "$HOME/deno" --name sallyport ${DENO_RIGHTS} main.ts && ` +
      `exec "$HOME/deno/bin/sallyport" demo ${PORTS}`,
  },
  {
    name: "single file",
    needs: [],
    commands: `cp "${file}" sallyport && exec ./sallyport demo ${PORTS}`,
    file,
  },
  {
    name: "Debian package, unpacked",
    needs: [],
    commands: `dpkg-deb --extract "${deb}" . && exec usr/bin/sallyport demo ${PORTS}`,
    file: deb,
  },
];

const chosen = process.argv.slice(2).filter((word) => word !== "--");
for (const way of WAYS.filter(({ name }) => chosen.length === 0 || chosen.includes(name))) {
  const { seconds, downloadedBytes, diskBytes } = await measure(way);
  const [downloaded, disk] = [downloadedBytes, diskBytes].map((bytes) => `${(bytes / 1e6).toFixed(0)} MB`);
  console.log(`| ${way.name} | ${seconds.toFixed(1)} s | ${downloaded} | ${disk} |`);
}

async function measure({ needs, commands, file }: Way): Promise<Cost> {
  const home = mkdtempSync(join(tmpdir(), "sallyport-way-"));
  const [bin, work] = [join(home, ".bin"), join(home, "work")];
  // The certificate's file is named from the folder that the program runs in.
  const folder = file === undefined ? join(work, "sallyport") : work;
  mkdirSync(bin);
  mkdirSync(work);
  const names = [
    "git",
    "curl",
    ...needs.flatMap((need) => need === "node" ? ["node", "npm", "npx"] : [need]),
  ];
  for (const name of names) symlinkSync(which(name), join(bin, name));
  const proxy = await startCountingProxy();
  const env: NodeJS.ProcessEnv = {
    HOME: home,
    PATH: `${bin}:${needs.includes("node") ? "/usr/bin:/bin" : "/bin"}`,
    NO_COLOR: "1",
    DENO_NO_UPDATE_CHECK: "1",
    HTTPS_PROXY: proxy.url,
    https_proxy: proxy.url,
    NO_PROXY: "127.0.0.1,localhost",
  };
  for (const name of ["NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE"]) {
    if (process.env[name]) env[name] = process.env[name];
  }
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
    const page = execFileSync("sh", ["-c", `${line} --silent --show-error`], {
      cwd: folder,
      encoding: "utf8",
    });
    if (!page.includes("Hello from behind the tunnel")) throw new Error(`another page came: ${page}`);
    const seconds = (performance.now() - started) / 1000;
    const ours = file === undefined ? bytesOf(join(folder, ".git", "objects", "pack")) : statSync(file).size;
    return { seconds, downloadedBytes: proxy.bytes() + ours, diskBytes: bytesOf(home) };
  } finally {
    const closed = new Promise((resolve) => child.once("close", resolve));
    try {
      process.kill(-child.pid!, "SIGTERM");
      await closed;
    } catch {
      // It has ended by itself.
    }
    proxy.close();
    rmSync(home, { recursive: true, force: true });
  }
}

/** The bytes of a folder's files. */
function bytesOf(folder: string): number {
  return Number(execFileSync("du", ["-sb", folder], { encoding: "utf8" }).split("\t")[0]);
}

/** An HTTP proxy for TLS (CONNECT), which counts the bytes that it passes on to its clients. */
async function startCountingProxy(): Promise<{ url: string; bytes(): number; close(): void }> {
  let bytes = 0;
  const server = createServer((client) => {
    client.on("error", () => client.destroy());
    // Clients send nothing more before the answer.
    client.once("data", (head) => {
      const [, host, port] = /^CONNECT (\S+):(\d+) /.exec(String(head)) ?? [];
      if (host === undefined) return client.end("HTTP/1.1 405 Only CONNECT\r\n\r\n");
      const registry = connect(Number(port), host, () => client.write("HTTP/1.1 200 Connected\r\n\r\n"));
      registry.on("data", (part) => bytes += part.length).on("error", () => client.destroy());
      registry.pipe(client).pipe(registry);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  server.unref();
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return { url, bytes: () => bytes, close: () => void server.close() };
}

/** Where a command really is: npx puts links to scripts on PATH. */
function which(name: string): string {
  const found = execFileSync("which", [name], { encoding: "utf8" }).trim();
  if (name === "deno") {
    return execFileSync(found, ["eval", "console.log(Deno.execPath())"], { encoding: "utf8" }).trim();
  }
  return realpathSync(found);
}
