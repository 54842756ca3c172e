/**
 * The registry in Redis, for several nodes. Compare-and-change operations are scripts, which Redis runs atomically
 * (docs/protocols/snocat.md, Around it). It needs one Redis, not a cluster: the scripts access keys of several slots.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import type { Clock } from "../runtime/port.ts";
import { connectRedis, type RedisClient, withinRedisTimeout } from "./redis_client.ts";
import type { RegistryLifetimes, TunnelKey, TunnelRecord, TunnelRegistry } from "./registry.ts";
import { REGISTRY_NAME_TTL_MS, REGISTRY_RECORD_TTL_MS } from "./registry.ts";

/** Options of {@link connectRedisRegistry}. */
export interface RedisRegistryOptions extends RegistryLifetimes {
  /** For example `redis://user:password@host:6379/0`; `rediss:` for TLS. */
  readonly url: string;
  readonly clock: Clock;
  /** Key prefix. Defaults to "sallyport:". */
  readonly prefix?: string;
}

/** Name → id, id → record: KEYS name, id; ARGV id, record, both lifetimes. */
const REGISTER = `
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[4])`;

/** The same, but sets the name only if no other live tunnel has it; ARGV[5] is the key prefix of ids. */
const RENEW = `
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] and redis.call('EXISTS', ARGV[5] .. holder) == 1 then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[4])
return 1`;

/** Compare and delete: a successor keeps its name. */
const REMOVE = `
redis.call('DEL', KEYS[2])
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end`;

const BY_NAME = `
local id = redis.call('GET', KEYS[1])
return id and redis.call('GET', ARGV[1] .. id)`;

/**
 * Connects to Redis, and reconnects whenever the connection is lost; requests reject meanwhile. Rejects with
 * `io_failed` if Redis is unreachable, `config_invalid` for an invalid URL.
 */
export async function connectRedisRegistry(options: RedisRegistryOptions): Promise<TunnelRegistry> {
  return new RedisRegistry(await connectRedis(options.url, options.clock), options);
}

class RedisRegistry implements TunnelRegistry {
  readonly #client: RedisClient;
  readonly #clock: Clock;
  readonly #names: string;
  readonly #ids: string;
  readonly #lifetimes: readonly [string, string];

  constructor(client: RedisClient, options: RedisRegistryOptions) {
    const { clock, prefix = "sallyport:", recordTtlMs, nameTtlMs } = options;
    this.#client = client;
    this.#clock = clock;
    this.#names = `${prefix}name:`;
    this.#ids = `${prefix}tunnel:`;
    this.#lifetimes = [
      String(recordTtlMs ?? REGISTRY_RECORD_TTL_MS),
      String(nameTtlMs ?? REGISTRY_NAME_TTL_MS),
    ];
  }

  async register(record: TunnelRecord): Promise<void> {
    await this.#run(REGISTER, record, [record.id, encode(record), ...this.#lifetimes]);
  }

  async renew(record: TunnelRecord): Promise<"current" | "replaced"> {
    const held = await this.#run(RENEW, record, [record.id, encode(record), ...this.#lifetimes, this.#ids]);
    return held === 1 ? "current" : "replaced";
  }

  async remove(key: TunnelKey): Promise<void> {
    await this.#run(REMOVE, key, [key.id]);
  }

  async byId(id: string): Promise<TunnelRecord | undefined> {
    return decode(await withinRedisTimeout(this.#clock, this.#client.get(this.#ids + id)));
  }

  async byName(name: string): Promise<TunnelRecord | undefined> {
    const asked = this.#client.eval(BY_NAME, { keys: [this.#names + name], arguments: [this.#ids] });
    return decode(await withinRedisTimeout(this.#clock, asked));
  }

  async close(): Promise<void> {
    await withinRedisTimeout(this.#clock, this.#client.close()).catch(() => this.#client.destroy());
  }

  async #run(script: string, { id, name }: TunnelKey, args: string[]): Promise<unknown> {
    const keys = [this.#names + name, this.#ids + id];
    return await withinRedisTimeout(this.#clock, this.#client.eval(script, { keys, arguments: args }));
  }
}

function encode({ id, name, node, transport, attributes }: TunnelRecord): string {
  const encoded = [...attributes].map(([key, value]) => [key, Buffer.from(value).toString("base64")]);
  return JSON.stringify({ id, name, node, transport, attributes: Object.fromEntries(encoded) });
}

/** Decodes a record; undefined if there is none, or if the value isn't ours. */
function decode(text: unknown): TunnelRecord | undefined {
  if (typeof text !== "string") return undefined;
  try {
    const { id, name, node, transport, attributes } = JSON.parse(text) as Record<string, unknown>;
    const texts = [id, name, node, transport];
    if (!texts.every((one) => typeof one === "string") || typeof attributes !== "object") return undefined;
    const decoded = Object.entries(attributes ?? {}).map(([key, value]) =>
      [key, new Uint8Array(Buffer.from(String(value), "base64"))] as const
    );
    return { id, name, node, transport, attributes: new Map(decoded) } as TunnelRecord;
  } catch {
    return undefined;
  }
}
