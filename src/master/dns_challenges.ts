/**
 * DNS-01 for agents: sets the TXT records that an authority looks for, with the operator's program. An agent may have
 * the record of a wildcard of its own, and of no other name.
 *
 * @module
 */
import type { DnsHook, DnsRecord } from "../dns/dns_hook.ts";
import { errorMessage } from "../errors.ts";
import type { Clock, Timer } from "../runtime/port.ts";
import type { Logger } from "../telemetry/log.ts";
import type { Credential } from "./credentials.ts";
import { inactiveFault } from "./model.ts";
import { Problem } from "./problem.ts";
import { ownerOf, type Store } from "./store/store.ts";

/** Records at the same time, of all agents. */
export const DNS_CHALLENGES_MAX = 64;
/** Records at the same time of one agent. */
export const DNS_CHALLENGES_PER_AGENT_MAX = 8;
/** How long a request waits for the program. */
export const DNS_CHALLENGE_WAIT_MS = 10_000;
/** A record that the agent doesn't remove is removed after this time. */
export const DNS_CHALLENGE_KEPT_MS = 15 * 60_000;

const CANNOT_SET = "Cannot set DNS record";

/** Options of {@link DnsChallenges}. */
interface DnsChallengesOptions {
  readonly hook: DnsHook;
  readonly clock: Clock;
  readonly log: Logger;
}

interface Challenge {
  readonly owner: string;
  readonly record: DnsRecord;
  /** Settles when the program has ended. */
  readonly set: Promise<void>;
  readonly timer: Timer;
}

/** Sets and removes the records. Throws {@link Problem}s. */
export class DnsChallenges {
  readonly #options: DnsChallengesOptions;
  readonly #challenges = new Map<string, Challenge>();

  constructor(options: DnsChallengesOptions) {
    this.#options = options;
  }

  /** Sets a record; returns whether it is visible. If not, the program is still running: repeat the request. */
  async set(store: Store, credential: Credential, domain: string, value: string): Promise<boolean> {
    await this.#authorize(store, credential, domain);
    const key = `${domain} ${value}`;
    let challenge = this.#challenges.get(key);
    if (challenge === undefined) {
      challenge = this.#begin(credential.id, domain, value);
      this.#challenges.set(key, challenge);
    }
    try {
      return await this.#within(challenge.set);
    } catch (error) {
      this.#forget(key);
      this.#options.log.warn({ client: credential.id, domain }, errorMessage(error));
      throw new Problem(503, `${CANNOT_SET}: the session master's program failed; its log has the reason`);
    }
  }

  /** Removes a record. */
  async clear(store: Store, credential: Credential, domain: string, value: string): Promise<void> {
    await this.#authorize(store, credential, domain);
    await this.#remove(`${domain} ${value}`);
  }

  /** Removes all records. */
  async close(): Promise<void> {
    await Promise.all([...this.#challenges.keys()].map((key) => this.#remove(key)));
  }

  /** The record of a name proves control of its wildcard too, so the caller must own both. */
  async #authorize(store: Store, credential: Credential, domain: string): Promise<void> {
    const { agent, tenant } = credential;
    const inactive = agent && inactiveFault(agent, this.#options.clock.wallMs());
    if (inactive !== undefined) throw new Problem(403, `${CANNOT_SET}: agent ${agent?.name} ${inactive}`);
    const names = [domain, `*.${domain}`];
    const owners = await Promise.all(names.map((name) => store.hostnameOwner(name)));
    const isForeign = owners.some((held) =>
      held !== undefined &&
      (agent !== undefined ? held.owner !== ownerOf(agent) : tenant !== undefined && held.tenant !== tenant)
    );
    if (!isForeign && credential.mayServe(`*.${domain}`)) return;
    const detail = isForeign
      ? "belongs to another agent"
      : `is no name whose wildcard *.${domain} this key may serve`;
    throw new Problem(403, `${CANNOT_SET}: domain ${detail}`, { errors: [{ member: "domain", detail }] });
  }

  #begin(owner: string, domain: string, value: string): Challenge {
    const { hook, clock, log } = this.#options;
    const own = [...this.#challenges.values()].filter((challenge) => challenge.owner === owner).length;
    if (own >= DNS_CHALLENGES_PER_AGENT_MAX || this.#challenges.size >= DNS_CHALLENGES_MAX) {
      const headers = { "Retry-After": "60" };
      throw new Problem(429, `${CANNOT_SET}: there are too many at the same time`, { headers });
    }
    const record = { domain, name: `_acme-challenge.${domain}`, value };
    log.info({ client: owner, domain }, "setting a DNS record for an agent's certificate");
    const set = hook.present(record);
    // Observed by the next request; the agent may not come back.
    set.catch(() => {});
    const timer = clock.after(DNS_CHALLENGE_KEPT_MS, () => void this.#remove(`${domain} ${value}`));
    return { owner, record, set, timer };
  }

  /** Whether the promise is fulfilled within the time that a request may take. */
  async #within(set: Promise<void>): Promise<boolean> {
    const late = Promise.withResolvers<boolean>();
    const timer = this.#options.clock.after(DNS_CHALLENGE_WAIT_MS, () => late.resolve(false));
    try {
      return await Promise.race([set.then(() => true), late.promise]);
    } finally {
      timer.cancel();
    }
  }

  async #remove(key: string): Promise<void> {
    const challenge = this.#forget(key);
    if (challenge === undefined) return;
    const { hook, log } = this.#options;
    // The program may still be setting it.
    await challenge.set.catch(() => {});
    await hook.cleanUp(challenge.record).catch((error) =>
      log.warn({ domain: challenge.record.domain }, errorMessage(error))
    );
  }

  #forget(key: string): Challenge | undefined {
    const challenge = this.#challenges.get(key);
    challenge?.timer.cancel();
    this.#challenges.delete(key);
    return challenge;
  }
}
