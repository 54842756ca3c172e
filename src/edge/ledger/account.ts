/**
 * The account of one agent at an edge, across its sessions: limits and usage.
 *
 * @module
 */
import { DAY_MS, dayOf, monthOf } from "../../calendar.ts";
import { SallyportError } from "../../errors.ts";
import type { Clock } from "../../runtime/port.ts";
import type { Session } from "../../transport/port.ts";
import type { ReportedUsage } from "../../wire/control/control_messages.ts";
import { NetworkSet } from "../../wire/ip/networks.ts";
import type { AgentClaim } from "../../wire/token/agent_claim.ts";
import type { StreamLimits } from "./limited_stream.ts";
import { TokenBucket } from "./token_bucket.ts";

type Used = Omit<ReportedUsage, "agent" | "tenant" | "day">;
type Counted = { -readonly [Name in keyof Used]: Used[Name] };

/** Limits and usage of one agent, shared by its sessions. */
export class Account implements StreamLimits {
  readonly agent: string;
  readonly tenant: string;
  readonly clock: Clock;
  toAgent: TokenBucket | undefined;
  toVisitor: TokenBucket | undefined;
  /** Sessions at this edge, with their hostnames. */
  readonly #sessions = new Map<Session, string>();
  #claim: AgentClaim;
  #visitors: TokenBucket | undefined;
  #visitorNetworks: NetworkSet | undefined;
  #month: string;
  /** Bytes of the month: known to the session master, in flight to it, and new. */
  #known = 0;
  #sent = 0;
  #fresh = 0;
  /** Start of the connected time not yet counted; undefined without a session. */
  #connectedFromMs: number | undefined;
  /** Unreported usage, by day. */
  #used = new Map<string, Counted>();
  /** Today's usage, and when the day ends. */
  #counted: Counted | undefined;
  #countedUntilMs = 0;

  constructor(agent: string, claim: AgentClaim, clock: Clock) {
    this.agent = agent;
    this.tenant = claim.tenant ?? "default";
    this.clock = clock;
    this.#claim = claim;
    this.#month = monthOf(clock.wallMs());
    this.update(claim);
  }

  /** Takes the limits of a newer token. */
  update(claim: AgentClaim): void {
    this.#claim = claim;
    const { limits, visitorNetworks, month } = claim;
    this.toAgent = bucket(this.toAgent, this.clock, limits.bytes_per_second_to_agent);
    this.toVisitor = bucket(this.toVisitor, this.clock, limits.bytes_per_second_to_visitor);
    const visitors = limits.visitors_per_second;
    this.#visitors = bucket(this.#visitors, this.clock, visitors, visitors);
    this.#visitorNetworks = visitorNetworks.length === 0 ? undefined : new NetworkSet(visitorNetworks);
    if (month?.month === this.#thisMonth()) this.#known = Math.max(this.#known, month.bytes);
  }

  /** Generation of the token with the newest limits. */
  get generation(): number {
    return this.#claim.generation;
  }

  /** Whether the bytes of its streams must be metered. */
  get holds(): boolean {
    return this.toAgent !== undefined || this.toVisitor !== undefined || this.watched;
  }

  /** Whether it has a monthly limit. */
  get watched(): boolean {
    return this.#claim.limits.monthly_bytes !== undefined;
  }

  /** Number of streams at this edge. */
  get streams(): number {
    let streams = 0;
    for (const session of this.#sessions.keys()) streams += session.streams;
    return streams;
  }

  /** Number of hostnames besides this one that have a session at this edge. */
  namesBeside(hostname: string): number {
    return new Set([...this.#sessions.values()].filter((name) => name !== hostname)).size;
  }

  /** Whether nothing is left to keep or to report. */
  get idle(): boolean {
    return this.#sessions.size === 0 && this.#used.size === 0 && this.#sent === 0;
  }

  /** Counts another visitor from `address`, or throws if it may not be admitted. */
  admit(address: string): void {
    const { streams } = this.#claim.limits;
    if (this.#visitorNetworks !== undefined && !this.#visitorNetworks.contains(address)) {
      throw refusal("access_denied", "the agent doesn't admit visitors from this network");
    }
    const spent = this.#overMonth();
    if (spent !== undefined) throw spent;
    if (streams !== undefined && this.streams >= streams) {
      throw refusal(
        "limit_exceeded",
        `the agent has reached its limit of ${streams} streams at this edge`,
      );
    }
    if (this.#visitors !== undefined && !this.#visitors.tryTake(1)) {
      const perSecond = this.#claim.limits.visitors_per_second;
      throw refusal("limit_exceeded", `the agent has reached its limit of ${perSecond} visitors a second`);
    }
    this.#today().streams++;
  }

  count(byteLength: number): SallyportError | undefined {
    if (!this.watched) return undefined;
    this.#thisMonth();
    this.#fresh += byteLength;
    return this.#overMonth();
  }

  /** Adds the bytes that its sessions have carried since the last call. */
  carried(toAgent: number, toVisitor: number): void {
    if (toAgent === 0 && toVisitor === 0) return;
    const today = this.#today();
    today.bytesToAgent += toAgent;
    today.bytesToVisitor += toVisitor;
  }

  sessionOpened(session: Session, hostname: string): void {
    if (this.#sessions.size === 0) this.#connectedFromMs = this.clock.nowMs();
    this.#sessions.set(session, hostname);
  }

  sessionEnded(session: Session): void {
    this.#countConnected();
    this.#sessions.delete(session);
    if (this.#sessions.size === 0) this.#connectedFromMs = undefined;
  }

  /** Takes the unreported usage, which from now on counts as in flight. */
  take(): ReportedUsage[] {
    this.#countConnected();
    const { agent, tenant } = this;
    const taken = [...this.#used].map(([day, used]) => ({ agent, tenant, day, ...used }));
    this.#used.clear();
    this.#counted = undefined;
    this.#sent += this.#fresh;
    this.#fresh = 0;
    return taken;
  }

  /** The session master has received everything in flight, and knows this many bytes for the month. */
  reported(month: string, bytes: number | undefined): void {
    if (month === this.#thisMonth() && bytes !== undefined) this.#known = bytes;
    this.#sent = 0;
  }

  #overMonth(): SallyportError | undefined {
    const { monthly_bytes } = this.#claim.limits;
    if (monthly_bytes === undefined) return undefined;
    this.#thisMonth();
    if (this.#known + this.#sent + this.#fresh < monthly_bytes) return undefined;
    return refusal("limit_exceeded", `the agent has used up its ${monthly_bytes} bytes for ${this.#month}`);
  }

  #thisMonth(): string {
    const month = monthOf(this.clock.wallMs());
    if (month !== this.#month) {
      this.#month = month;
      this.#known = 0;
      this.#sent = 0;
      this.#fresh = 0;
    }
    return month;
  }

  #countConnected(): void {
    if (this.#connectedFromMs === undefined) return;
    const nowMs = this.clock.nowMs();
    const whole = Math.round(nowMs - this.#connectedFromMs);
    if (whole <= 0) return;
    this.#today().connectedMs += whole;
    this.#connectedFromMs = nowMs;
  }

  #today(): Counted {
    const wallMs = this.clock.wallMs();
    // Formatting a date costs more than everything else done here for a visitor.
    if (this.#counted !== undefined && wallMs < this.#countedUntilMs) return this.#counted;
    const day = dayOf(wallMs);
    let used = this.#used.get(day);
    if (used === undefined) {
      used = { bytesToAgent: 0, bytesToVisitor: 0, streams: 0, connectedMs: 0 };
      this.#used.set(day, used);
    }
    this.#counted = used;
    this.#countedUntilMs = (Math.floor(wallMs / DAY_MS) + 1) * DAY_MS;
    return used;
  }
}

function bucket(
  before: TokenBucket | undefined,
  clock: Clock,
  perSecond: number | undefined,
  burst?: number,
): TokenBucket | undefined {
  if (perSecond === undefined) return undefined;
  if (before === undefined) return new TokenBucket(clock, perSecond, burst);
  before.setRate(perSecond, burst);
  return before;
}

function refusal(code: "access_denied" | "limit_exceeded", why: string): SallyportError {
  return new SallyportError(code, `Cannot serve visitor: ${why}`, {
    side: "local",
    retryable: code === "limit_exceeded",
  });
}
