/**
 * A connection to Redis or Valkey, for the registry and the directory: one server, a server behind TLS, or the master
 * named by Sentinels. It reconnects automatically; commands fail meanwhile, and each has a deadline.
 *
 * @module
 */
import { errorMessage, SallyportError } from "../errors.ts";
import type { Clock } from "../runtime/port.ts";
import { unbracketed } from "../wire/ip/host_port.ts";

/** Timeout for connecting to Redis, and for a command: Redis normally answers within a millisecond. */
export const REDIS_TIMEOUT_MS = 5_000;
/** Maximum delay between attempts to reconnect to Redis. */
const RECONNECT_MAX_MS = 5_000;

/** The parts of node-redis that are used. */
export interface RedisClient {
  on(event: string, listener: (detail: unknown) => void): unknown;
  connect(): Promise<unknown>;
  get(key: string): Promise<string | null>;
  eval(script: string, options: { readonly keys: string[]; readonly arguments: string[] }): Promise<unknown>;
  subscribe(channel: string, listener: (message: string) => void): Promise<unknown>;
  duplicate(): RedisClient;
  close(): Promise<unknown>;
  destroy(): void;
}

/**
 * Creates a client for `redis://`, `rediss://` (TLS) or `redis+sentinel://HOST:PORT,HOST:PORT/MASTER[?db=N]` and
 * connects it. Rejects with `io_failed` if Redis is unreachable, `config_invalid` for an invalid URL or a password that
 * Redis rejects.
 *
 * @param away is called with the reason if Redis is unreachable, and the client keeps trying; without it the call
 * rejects
 */
export async function connectRedis(
  url: string,
  clock: Clock,
  away?: (error: SallyportError) => void,
): Promise<RedisClient> {
  const client = await makeClient(url);
  let lastError: unknown;
  // The failing command reports the reason; without a listener the event would end the process.
  client.on("error", (error) => void (lastError = error));
  const connecting = client.connect();
  connecting.catch(() => {});
  try {
    await withinRedisTimeout(clock, connecting);
  } catch (error) {
    const why = errorMessage(lastError ?? error);
    const refused = /WRONGPASS|NOAUTH|NOPERM/.test(why);
    if (away === undefined || refused) client.destroy();
    if (refused) {
      throw new SallyportError("config_invalid", `Cannot use Redis: it refuses the login: ${why}`, {
        side: "config",
      });
    }
    const failed = new SallyportError("io_failed", `Cannot reach Redis: ${why}`, {
      side: "network",
      retryable: true,
      cause: error,
    });
    if (away === undefined) throw failed;
    away(failed);
  }
  return client;
}

/** The answer, if it arrives in time. Rejects with `io_failed`. */
export async function withinRedisTimeout<T>(clock: Clock, asked: Promise<T>): Promise<T> {
  const late = Promise.withResolvers<never>();
  const timer = clock.after(REDIS_TIMEOUT_MS, () => late.reject(new Error("no answer in time")));
  try {
    return await Promise.race([asked, late.promise]);
  } catch (cause) {
    throw new SallyportError("io_failed", `Cannot ask Redis: ${errorMessage(cause)}`, {
      side: "network",
      retryable: true,
      cause,
    });
  } finally {
    timer.cancel();
  }
}

async function makeClient(url: string): Promise<RedisClient> {
  const { createClient, createSentinel } = await import("@redis/client");
  const common = {
    // A queued renewal would be too late; its owner retries.
    disableOfflineQueue: true,
    socket: {
      connectTimeout: REDIS_TIMEOUT_MS,
      reconnectStrategy: (tries: number) => Math.min(100 * 2 ** tries, RECONNECT_MAX_MS),
    },
  };
  try {
    const sentinel = parseSentinelUrl(url);
    if (sentinel === undefined) return createClient({ url, ...common }) as unknown as RedisClient;
    const { nodes, name, username, password, database } = sentinel;
    return createSentinel({
      name,
      sentinelRootNodes: nodes,
      nodeClientOptions: { ...common, username, password, database },
    }) as unknown as RedisClient;
  } catch (cause) {
    const forms = "redis://HOST:PORT, rediss://HOST:PORT or redis+sentinel://HOST:PORT,HOST:PORT/MASTER";
    throw new SallyportError(
      "config_invalid",
      `Cannot use Redis: its URL isn't ${forms}: ${errorMessage(cause)}`,
      { side: "config" },
    );
  }
}

interface SentinelUrl {
  readonly nodes: { readonly host: string; readonly port: number }[];
  readonly name: string;
  readonly username?: string;
  readonly password?: string;
  readonly database?: number;
}

/** The parts of a Sentinel URL; undefined for another scheme. Throws if a part is missing. */
export function parseSentinelUrl(url: string): SentinelUrl | undefined {
  const match = /^redis\+sentinel:\/\/(?:([^@/]*)@)?([^/?#]+)\/([^/?#]+)(?:\?db=(\d+))?$/.exec(url);
  if (match === null) {
    if (url.startsWith("redis+sentinel:")) throw new Error("it names no Sentinels or no master");
    return undefined;
  }
  const [, login, hosts, name, database] = match;
  const nodes = hosts!.split(",").map((text) => {
    const at = text.lastIndexOf(":");
    const port = Number(text.slice(at + 1));
    if (at < 1 || !Number.isInteger(port) || port < 1 || port > 65_535) {
      throw new Error(`${text} isn't HOST:PORT`);
    }
    return { host: unbracketed(text.slice(0, at)), port };
  });
  const [username, password] = login?.includes(":")
    ? [
      decodeURIComponent(login.slice(0, login.indexOf(":"))),
      decodeURIComponent(login.slice(login.indexOf(":") + 1)),
    ]
    : [undefined, undefined];
  return {
    nodes,
    name: decodeURIComponent(name!),
    ...(username ? { username } : {}),
    ...(password ? { password } : {}),
    ...(database === undefined ? {} : { database: Number(database) }),
  };
}
