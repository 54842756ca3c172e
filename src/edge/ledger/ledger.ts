/**
 * The ledger of an edge: agents' open sessions, their usage and limits, and the session master's rulings on them. It
 * does no IO; a `LedgerReporter` carries it to the session master and back.
 *
 * @module
 */
import { UNKNOWN_ADDRESS } from "../../protocol/mux/host.ts";
import { randomBytes } from "node:crypto";
import type { FernetRing } from "../../crypto/fernet.ts";
import { SallyportError } from "../../errors.ts";
import type { Address, Clock } from "../../runtime/port.ts";
import type { Caller, Session, SessionStream } from "../../transport/port.ts";
import type {
  EdgeMessage,
  EdgeReport,
  ReportedSession,
  ReportReceipt,
  Ruling,
} from "../../wire/control/control_messages.ts";
import { NetworkSet } from "../../wire/ip/networks.ts";
import { type AgentClaim, readAgentClaim } from "../../wire/token/agent_claim.ts";
import type { AgentRequest } from "../agent_request.ts";
import { Account } from "./account.ts";
import { limitStream } from "./limited_stream.ts";

/** Options of {@link EdgeLedger}. */
interface LedgerOptions {
  readonly clock: Clock;
  /** Receives the Fernet keys that the session master sends. */
  readonly ring: FernetRing;
  /** Called with these keys, to store them. */
  keysChanged?(keys: readonly string[]): void;
}

/** The content of a report, apart from the edge's name and count. */
export type ReportBody = Pick<EdgeReport, "fresh" | "sessions" | "closed" | "usage" | "watched">;

/** The sessions and accounts of all agents at one edge. */
export class EdgeLedger {
  readonly #options: LedgerOptions;
  readonly #boot = randomBytes(6).toString("hex");
  readonly #rulings = new Map<string, Ruling>();
  readonly #accounts = new Map<string, Account>();
  readonly #entries = new Map<Session, Entry>();
  #closed: string[] = [];
  #count = 0;
  /** Number of the session master's last known change; undefined before the first. */
  #seq: number | undefined;
  #changed: (() => void) | undefined;

  constructor(options: LedgerOptions) {
    this.#options = options;
  }

  /** Number of the last change received. */
  get seq(): number | undefined {
    return this.#seq;
  }

  /**
   * Calls `changed` when a session begins or ends, so that it is reported soon. Until this is called, nothing is
   * recorded for reports.
   */
  reportTo(changed: () => void): void {
    this.#changed = changed;
  }

  /**
   * Checks an agent whose token is genuine.
   *
   * @throws SallyportError `access_denied` if the session master has barred it or its source address isn't allowed;
   * `limit_exceeded` if it has reached its limit of sessions.
   */
  authorize({ extra, hostname, remote }: Pick<AgentRequest, "extra" | "hostname" | "remote">): void {
    const claim = readAgentClaim(extra);
    this.#checkRuling(claim);
    const { agentNetworks } = claim;
    if (agentNetworks.length > 0 && !new NetworkSet(agentNetworks).contains(remote.host)) {
      throw refusal("access_denied", "the agent may not connect from this network");
    }
    this.#checkSessions(claim, hostname);
  }

  /**
   * Records a new session; returns the session in which to open visitors' streams.
   *
   * @throws SallyportError `limit_exceeded` if another login of the agent, authorized at the same time, was faster
   */
  opened(
    session: Session,
    { extra, hostname, remote }: Pick<AgentRequest, "extra" | "hostname" | "remote">,
  ): Session {
    const claim = readAgentClaim(extra);
    this.#checkSessions(claim, hostname);
    const key = accountKey(claim, hostname);
    let account = this.#accounts.get(key);
    if (account === undefined) {
      account = new Account(key, claim, this.#options.clock);
      this.#accounts.set(key, account);
    } else if (claim.generation >= account.generation) account.update(claim);
    const id = `${this.#boot}-${++this.#count}`;
    const entry = new Entry(id, session, account, claim, hostname, remote.host, this.#options.clock.wallMs());
    this.#entries.set(session, entry);
    account.sessionOpened(session, hostname);
    this.#changed?.();
    return new WatchedSession(session, account);
  }

  /** Records the end of a session; ignores an unknown one. */
  ended(session: Session): void {
    const entry = this.#entries.get(session);
    if (entry === undefined) return;
    this.#entries.delete(session);
    entry.sample();
    const { account } = entry;
    account.sessionEnded(session);
    if (this.#changed === undefined) {
      account.take();
      account.reported("", undefined);
      this.#forget(account);
      return;
    }
    if (entry.reported) this.#closed.push(entry.id);
    this.#changed();
  }

  /** Applies a message from the session master. */
  hear(message: EdgeMessage): void {
    this.#seq = Math.max(this.#seq ?? 0, message.seq);
    if (message.kind === "all" || message.kind === "keys") this.#takeKeys(message.keys);
    if (message.kind === "all") {
      // A master with a different database restarts its numbering.
      this.#seq = message.seq;
      this.#rulings.clear();
      for (const ruling of message.rulings) this.#rulings.set(ruling.agent, ruling);
      this.#enforce();
    } else if (message.kind === "agent") {
      this.#rulings.set(message.ruling.agent, message.ruling);
      this.#enforce();
    } else if (message.kind === "close_session") {
      const entry = [...this.#entries.values()].find(({ id }) => id === message.session);
      entry?.session.close(refusal("aborted", "the session master has ended it", "Session ended"));
    }
  }

  /**
   * Takes the content of the next report, which from now on counts as in flight; undefined if there is none. `all`:
   * every session.
   */
  cut(all: boolean): ReportBody | undefined {
    for (const entry of this.#entries.values()) entry.sample();
    const sessions = [...this.#entries.values()].filter((entry) => all || entry.changed).map((entry) =>
      entry.report()
    );
    const closed = this.#closed;
    this.#closed = [];
    const accounts = [...this.#accounts.values()];
    const usage = accounts.flatMap((account) => account.take());
    const watched = accounts.filter((account) => account.watched).map(({ agent }) => agent);
    if (!all && sessions.length === 0 && closed.length === 0 && usage.length === 0) return undefined;
    return { fresh: all, sessions, closed: all ? [] : closed, usage, watched };
  }

  /** The session master has accepted everything taken by {@link cut}. */
  reported(receipt: Pick<ReportReceipt, "month" | "used">): void {
    const used = new Map(receipt.used.map(({ agent, bytes }) => [agent, bytes]));
    for (const account of this.#accounts.values()) {
      account.reported(receipt.month, used.get(account.agent));
      this.#forget(account);
    }
  }

  #forget(account: Account): void {
    if (account.idle) this.#accounts.delete(account.agent);
  }

  #takeKeys(keys: readonly string[]): void {
    if (keys.length === 0) return;
    this.#options.ring.replace(keys);
    this.#options.keysChanged?.(keys);
  }

  #checkRuling({ id, generation }: AgentClaim): void {
    const ruling = id === undefined ? undefined : this.#rulings.get(id);
    if (ruling === undefined) return;
    if (ruling.blocked) throw refusal("access_denied", "the agent is suspended or removed");
    if (generation < ruling.generation) throw refusal("access_denied", "the agent's key has been replaced");
  }

  #checkSessions(claim: AgentClaim, hostname: string): void {
    const { sessions } = claim.limits;
    if (sessions === undefined) return;
    // A newer session of the same name replaces the older one.
    const others = this.#accounts.get(accountKey(claim, hostname))?.namesBeside(hostname) ?? 0;
    if (others >= sessions) {
      throw refusal("limit_exceeded", `the agent has reached its limit of ${sessions} sessions at this edge`);
    }
  }

  /** Closes every session that has been barred. */
  #enforce(): void {
    for (const { session, claim } of [...this.#entries.values()]) {
      try {
        this.#checkRuling(claim);
      } catch (error) {
        session.close(error as SallyportError);
      }
    }
  }
}

/** One session in the ledger. */
class Entry {
  readonly id: string;
  readonly session: Session;
  readonly account: Account;
  readonly claim: AgentClaim;
  readonly hostname: string;
  readonly #remote: string;
  readonly #sinceMs: number;
  #toAgent = 0;
  #toVisitor = 0;
  /** The last report as text; empty before the first. */
  #last = "";

  constructor(
    id: string,
    session: Session,
    account: Account,
    claim: AgentClaim,
    hostname: string,
    remote: string,
    sinceMs: number,
  ) {
    this.id = id;
    this.session = session;
    this.account = account;
    this.claim = claim;
    this.hostname = hostname;
    this.#remote = remote;
    this.#sinceMs = Math.round(sinceMs);
  }

  get reported(): boolean {
    return this.#last !== "";
  }

  get changed(): boolean {
    return this.#last !== this.#state;
  }

  /** Adds the bytes carried since the last call to the session's account. */
  sample(): void {
    const { bytesSent, bytesReceived } = this.session;
    this.account.carried(bytesSent - this.#toAgent, bytesReceived - this.#toVisitor);
    this.#toAgent = bytesSent;
    this.#toVisitor = bytesReceived;
  }

  report(): ReportedSession {
    this.#last = this.#state;
    const { transport, protocolVersion, cipher, streams } = this.session;
    return {
      id: this.id,
      agent: this.account.agent,
      tenant: this.account.tenant,
      hostname: this.hostname,
      remote: this.#remote,
      ...{ transport, cipher, streams },
      ...protocolVersion === undefined ? {} : { protocolVersion },
      sinceMs: this.#sinceMs,
      bytesToAgent: this.#toAgent,
      bytesToVisitor: this.#toVisitor,
    };
  }

  get #state(): string {
    return `${this.session.streams}/${this.#toAgent}/${this.#toVisitor}`;
  }
}

/** A session whose streams are metered, and throttled if its agent has limits. */
class WatchedSession implements Session {
  readonly #session: Session;
  readonly #account: Account;

  constructor(session: Session, account: Account) {
    this.#session = session;
    this.#account = account;
  }

  open(caller: Caller): SessionStream {
    // A request from the edge itself doesn't count as a visitor.
    if (caller.address !== UNKNOWN_ADDRESS) this.#account.admit(caller.address);
    const stream = this.#session.open(caller);
    return this.#account.holds ? limitStream(stream, this.#account) : stream;
  }

  get transport(): string {
    return this.#session.transport;
  }
  get remote(): Address {
    return this.#session.remote;
  }
  get protocolVersion(): number | undefined {
    return this.#session.protocolVersion;
  }
  get cipher(): string {
    return this.#session.cipher;
  }
  get halfClose(): boolean {
    return this.#session.halfClose;
  }
  get streams(): number {
    return this.#session.streams;
  }
  get bytesSent(): number {
    return this.#session.bytesSent;
  }
  get bytesReceived(): number {
    return this.#session.bytesReceived;
  }
  get rttMs(): number | undefined {
    return this.#session.rttMs;
  }
  summary(): Readonly<Record<string, number>> {
    return this.#session.summary?.() ?? {};
  }
  askToMove(): void {
    this.#session.askToMove();
  }

  goAway(reason: SallyportError): void {
    this.#session.goAway(reason);
  }
  close(reason: SallyportError): void {
    this.#session.close(reason);
  }
}

/** The key of an account: the agent, or the hostname if the token names no agent. */
function accountKey({ id }: AgentClaim, hostname: string): string {
  return id ?? `hostname:${hostname}`;
}

function refusal(
  code: "access_denied" | "limit_exceeded" | "aborted",
  why: string,
  what = "Cannot open session",
): SallyportError {
  return new SallyportError(code, `${what}: ${why}`, { side: "local" });
}
