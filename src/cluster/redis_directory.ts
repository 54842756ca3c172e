/**
 * The directory in Redis or Valkey, for nodes on several machines. Every decision is one script, which Redis runs
 * atomically: the rule is that of `decideClaim`. It needs one server, not a Redis Cluster: the scripts read keys of
 * several slots.
 *
 * @module
 */
import type { Clock } from "../runtime/port.ts";
import type { Logger } from "../telemetry/log.ts";
import { errorMessage, SallyportError } from "../errors.ts";
import {
  type ClaimOutcome,
  type Directory,
  type DirectoryChange,
  NODE_LEASE_MS,
  type NodeRecord,
  type RouteClaim,
  type RouteHolder,
} from "./directory.ts";
import { connectRedis, type RedisClient, withinRedisTimeout } from "./redis_client.ts";

/** A name that its node does not confirm for this long is removed; this bounds what dead nodes leave behind. */
export const ROUTE_TTL_MS = 1_800_000;

/** Options of {@link connectRedisDirectory}. */
interface RedisDirectoryOptions {
  /** `redis://`, `rediss://` or `redis+sentinel://`; see `connectRedis`. */
  readonly url: string;
  readonly clock: Clock;
  readonly log: Logger;
  /** Key prefix. Defaults to "sallyport:". */
  readonly prefix?: string;
  /** Lifetime of a node without renewal. Defaults to {@link NODE_LEASE_MS}. */
  readonly leaseMs?: number;
}

/**
 * KEYS used key, start of the records; ARGV until, now, when the token was made, whether nonces would repeat (1). 1:
 * first use; 0: used before; -1: the records start later than the token.
 */
const USE = `
local since = redis.call('GET', KEYS[2])
if not since then
  since = ARGV[2]
  redis.call('SET', KEYS[2], since)
end
if ARGV[4] == '1' and tonumber(ARGV[3]) < tonumber(since) then return -1 end
if redis.call('SET', KEYS[1], '1', 'NX', 'EXAT', ARGV[1]) then return 1 end
return 0`;

/**
 * KEYS node, nodes, start of the records; ARGV id, record, lease, now. 1: the node was known. The records start with the
 * first node: if they started with the first use, they would start later than the token that is used first.
 */
const ENTER = `
redis.call('SET', KEYS[3], ARGV[4], 'NX')
local known = redis.call('EXISTS', KEYS[1])
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
redis.call('SADD', KEYS[2], ARGV[1])
return known`;

/** KEYS node, nodes; ARGV id, channel. Claims of a removed node are void, so they may remain until they expire. */
const LEAVE = `
redis.call('DEL', KEYS[1])
redis.call('SREM', KEYS[2], ARGV[1])
redis.call('PUBLISH', ARGV[2], cjson.encode({kind = 'node_left', node = ARGV[1]}))`;

/** KEYS nodes; ARGV key prefix of nodes. */
const NODES = `
local found = {}
for _, id in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  local record = redis.call('GET', ARGV[1] .. id)
  if record then found[#found + 1] = record else redis.call('SREM', KEYS[1], id) end
end
return found`;

/** The holders of a name whose node is alive, as texts; removes the others. */
const LIVING = `
local function living(key, nodes)
  local found = {}
  local all = redis.call('HGETALL', key)
  for i = 1, #all, 2 do
    local holder = cjson.decode(all[i + 1])
    if redis.call('EXISTS', nodes .. holder.node) == 1 then found[#found + 1] = holder
    else redis.call('HDEL', key, all[i]) end
  end
  return found
end`;

/** KEYS route, fence; ARGV claim, key prefix of nodes, channel, lifetime of the name. */
const CLAIM = `${LIVING}
local claim = cjson.decode(ARGV[1])
local replaced = {}
for _, holder in ipairs(living(KEYS[1], ARGV[2])) do
  if holder.session ~= claim.session then
    if holder.owner ~= claim.owner then return cjson.encode({kind = 'refused', reason = 'name_taken', holder = holder}) end
    if holder.group ~= claim.group or (claim.member ~= nil and holder.member == claim.member) then
      if holder.madeAtMs > claim.madeAtMs then
        return cjson.encode({kind = 'refused', reason = 'replaced', holder = holder})
      end
      replaced[#replaced + 1] = holder
    end
  end
end
local fence = redis.call('INCR', KEYS[2])
local known = redis.call('HEXISTS', KEYS[1], claim.session)
claim.fence = fence
for _, holder in ipairs(replaced) do redis.call('HDEL', KEYS[1], holder.session) end
redis.call('HSET', KEYS[1], claim.session, cjson.encode(claim))
redis.call('PEXPIRE', KEYS[1], ARGV[4])
if #replaced == 0 then replaced = nil end
if known == 0 or replaced then
  redis.call('PUBLISH', ARGV[3], cjson.encode({kind = 'claimed', holder = claim, replaced = replaced}))
end
return cjson.encode({kind = 'granted', fence = fence, replaced = replaced})`;

/** KEYS route; ARGV session, channel, name. */
const RELEASE = `
if redis.call('HDEL', KEYS[1], ARGV[1]) == 1 then
  redis.call('PUBLISH', ARGV[2], cjson.encode({kind = 'released', name = ARGV[3], session = ARGV[1]}))
end`;

/** KEYS route; ARGV key prefix of nodes. */
const LOOKUP = `${LIVING}
local texts = {}
for _, holder in ipairs(living(KEYS[1], ARGV[1])) do texts[#texts + 1] = cjson.encode(holder) end
return texts`;

/** A use of a token's key, as {@link RedisDirectory.first} checks it. */
interface NotedUse {
  /** Unix seconds. */
  readonly madeAtS: number;
  /** An undetected second use would repeat nonces. */
  readonly noncesRepeat: boolean;
}

/**
 * Connects to Redis. If it is unreachable, that is logged, and the directory keeps trying: its methods reject with
 * `io_failed` until Redis answers. Rejects with `config_invalid` for an invalid URL or a login that Redis rejects.
 */
export async function connectRedisDirectory(options: RedisDirectoryOptions): Promise<RedisDirectory> {
  const { url, clock, log } = options;
  let away = false;
  const client = await connectRedis(url, clock, ({ code, message }) => {
    away = true;
    log.warn({ reason: code }, `${message}; this node works alone until it answers`);
  });
  const directory = new RedisDirectory(client, options);
  const subscribed = directory.subscribe();
  if (!away) await withinRedisTimeout(clock, subscribed);
  return directory;
}

/** A directory in Redis; it also records which keys of tokens were used (`KeyUseStore` of the edge). */
export class RedisDirectory implements Directory {
  readonly #client: RedisClient;
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #prefix: string;
  readonly #leaseMs: string;
  readonly #watchers = new Set<(change: DirectoryChange) => void>();
  #subscriber: RedisClient | undefined;
  #closed = false;

  constructor(
    client: RedisClient,
    { clock, log, prefix = "sallyport:", leaseMs = NODE_LEASE_MS }: RedisDirectoryOptions,
  ) {
    this.#client = client;
    this.#clock = clock;
    this.#log = log;
    this.#prefix = prefix;
    this.#leaseMs = String(leaseMs);
  }

  /** Subscribes to changes on a separate connection; resolves once subscribed, which may be late. */
  async subscribe(): Promise<void> {
    const subscriber = this.#client.duplicate();
    this.#subscriber = subscriber;
    subscriber.on("error", () => {});
    // Changes published while the connection was away are lost.
    let readyBefore = false;
    subscriber.on("ready", () => {
      if (readyBefore) this.#tell({ kind: "reconnected" });
      readyBefore = true;
    });
    // Sentinels announce a new master this way.
    subscriber.on("topology-change", (change) => {
      if ((change as { readonly type?: string }).type === "MASTER_CHANGE") {
        this.#tell({ kind: "reconnected" });
      }
    });
    try {
      await subscriber.connect();
      await subscriber.subscribe(this.#key("changes"), (message) => this.#heard(message));
    } catch (error) {
      if (!this.#closed) this.#log.warn({}, `Cannot follow changes of the directory: ${errorMessage(error)}`);
    }
  }

  /**
   * Records the fingerprint of a token's key until `validUntilS`; false if it was already recorded. Rejects with
   * `token_stale` if the records start after the token was made and nonces would repeat: Redis may have lost them.
   */
  async first(fingerprint: string, validUntilS: number, use: NotedUse): Promise<boolean> {
    const answer = await this.#run(USE, [this.#key(`used:${fingerprint}`), this.#key("used_since")], [
      String(Math.ceil(validUntilS) + 1),
      this.#nowS(),
      String(use.madeAtS),
      use.noncesRepeat ? "1" : "0",
    ]);
    if (answer === -1) {
      const why =
        "its token was issued before the cluster began to record used tokens; request a fresh token";
      throw new SallyportError("token_stale", `Cannot open session: ${why}`, {
        side: "peer",
        retryable: true,
      });
    }
    return answer === 1;
  }

  async enter(node: NodeRecord): Promise<"entered" | "renewed"> {
    const keys = [this.#key(`node:${node.id}`), this.#key("nodes"), this.#key("used_since")];
    const known = await this.#run(ENTER, keys, [node.id, JSON.stringify(node), this.#leaseMs, this.#nowS()]);
    return known === 1 ? "renewed" : "entered";
  }

  async leave(node: string): Promise<void> {
    await this.#run(LEAVE, [this.#key(`node:${node}`), this.#key("nodes")], [node, this.#key("changes")]);
  }

  async nodes(): Promise<readonly NodeRecord[]> {
    const texts = await this.#run(NODES, [this.#key("nodes")], [this.#key("node:")]);
    return (texts as string[]).map((text) => JSON.parse(text) as NodeRecord);
  }

  async claim(claim: RouteClaim): Promise<ClaimOutcome> {
    const { name, owner, group, member, madeAtMs, node, session } = claim;
    const text = await this.#run(
      CLAIM,
      [this.#route(name), this.#key("fence")],
      [
        JSON.stringify({ name, owner, group, member, madeAtMs, node, session }),
        this.#key("node:"),
        this.#key("changes"),
        String(ROUTE_TTL_MS),
      ],
    );
    const outcome = JSON.parse(text as string) as ClaimOutcome;
    // Lua has no empty list, so the field is omitted.
    return outcome.kind === "granted" ? { ...outcome, replaced: outcome.replaced ?? [] } : outcome;
  }

  async release(name: string, session: string): Promise<void> {
    await this.#run(RELEASE, [this.#route(name)], [session, this.#key("changes"), name]);
  }

  async lookup(name: string): Promise<readonly RouteHolder[]> {
    const texts = await this.#run(LOOKUP, [this.#route(name)], [this.#key("node:")]) as string[];
    return texts.map((text) => JSON.parse(text) as RouteHolder).sort((a, b) => b.fence - a.fence);
  }

  watch(listener: (change: DirectoryChange) => void): () => void {
    this.#watchers.add(listener);
    return () => this.#watchers.delete(listener);
  }

  async close(): Promise<void> {
    this.#closed = true;
    for (const client of [this.#subscriber, this.#client]) {
      if (client === undefined) continue;
      await withinRedisTimeout(this.#clock, client.close()).catch(() => client.destroy());
    }
  }

  #nowS(): string {
    return String(Math.floor(this.#clock.wallMs() / 1000));
  }

  #key(rest: string): string {
    return this.#prefix + rest;
  }

  #route(name: string): string {
    return this.#key(`route:${name}`);
  }

  async #run(script: string, keys: string[], args: string[]): Promise<unknown> {
    return await withinRedisTimeout(this.#clock, this.#client.eval(script, { keys, arguments: args }));
  }

  #heard(message: string): void {
    let change: DirectoryChange;
    try {
      change = JSON.parse(message) as DirectoryChange;
      if (change.kind === "claimed") change = { ...change, replaced: change.replaced ?? [] };
    } catch (error) {
      this.#log.warn({}, `Cannot read a change of the directory: ${errorMessage(error)}`);
      return;
    }
    this.#tell(change);
  }

  #tell(change: DirectoryChange): void {
    for (const watcher of this.#watchers) watcher(change);
  }
}
