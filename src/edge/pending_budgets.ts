/**
 * Connections that have not been routed, admitted or refused yet: separate budgets for strangers, visitors and agents,
 * a share for each source, and one timer for all deadlines. When a budget is used up, the oldest connection of its kind
 * is evicted, so that silent connections lock nobody out.
 *
 * @module
 */
import { SallyportError } from "../errors.ts";
import { PENDING_PER_SOURCE_MAX } from "../runtime/port.ts";
import type { Address, Clock, Timer } from "../runtime/port.ts";
import { isLocalSource, sourceNetworkOf, sourceOf } from "../wire/ip/networks.ts";
import { SourceCounts } from "../wire/ip/source_counts.ts";
import { HELLO_DEADLINE_MS } from "../wire/tls/client_hello.ts";

/** Unidentified connections: no TLS record, no valid token yet. */
export const PENDING_STRANGERS_MAX = 8_192;
/** Connections that have started a ClientHello. */
export const PENDING_VISITORS_MAX = 4_096;
/** Connections that have presented a genuine token. */
export const PENDING_AGENTS_MAX = 4_096;
/** Unfinished connections from one IPv6 /48, the usual allocation for one site. */
export const PENDING_PER_SITE_MAX = 512;

/** What an unfinished connection has shown so far. */
export type PendingKind = "stranger" | "visitor" | "agent";

const MAX: Readonly<Record<PendingKind, number>> = {
  stranger: PENDING_STRANGERS_MAX,
  visitor: PENDING_VISITORS_MAX,
  agent: PENDING_AGENTS_MAX,
};

/** A source address and its connections, oldest first. */
class Source {
  readonly key: string;
  /** Its IPv6 /48; undefined for IPv4. */
  readonly site: string | undefined;
  count = 0;
  first: PendingConnection | undefined;
  last: PendingConnection | undefined;

  constructor(key: string, site: string | undefined) {
    this.key = key;
    this.site = site;
  }
}

let kindOf: (conn: PendingConnection) => PendingKind | undefined;
let nextOf: (conn: PendingConnection) => PendingConnection | undefined;
let sourceOfPending: (conn: PendingConnection) => Source | undefined;
let link: (conn: PendingConnection, list: List, kind: PendingKind) => void;
let unlink: (conn: PendingConnection, list: List) => void;
let linkToSource: (conn: PendingConnection, source: Source) => void;
let unlinkFromSource: (conn: PendingConnection, source: Source) => void;
let oldestStrangerOf: (source: Source) => PendingConnection | undefined;

/**
 * A connection while it is unfinished. Only {@link PendingBudgets} accesses its list links, through the functions
 * below.
 */
export abstract class PendingConnection {
  /** The list it belongs to, and its neighbours there. */
  #kind: PendingKind | undefined;
  #before: PendingConnection | undefined;
  #behind: PendingConnection | undefined;
  /** Its source, and its neighbours among the connections of that source. */
  #source: Source | undefined;
  #beforeOfSource: PendingConnection | undefined;
  #behindOfSource: PendingConnection | undefined;

  /** What it has shown so far; undefined once it is finished. */
  protected get shown(): PendingKind | undefined {
    return this.#kind;
  }

  /** When it was accepted, on the monotonic clock. */
  abstract readonly acceptedAtMs: number;
  /** Called when it is still unfinished after {@link HELLO_DEADLINE_MS}. Does nothing if another deadline applies. */
  abstract late(): void;
  /** Called when it is evicted to make room, for this reason. */
  abstract evict(error: SallyportError): void;

  static {
    kindOf = (conn) => conn.#kind;
    nextOf = (conn) => conn.#behind;
    sourceOfPending = (conn) => conn.#source;
    link = (conn, list, kind) => {
      // Sorted by acceptance, so that the first is the first to expire. The position is nearly always the end.
      let before = list.last;
      while (before !== undefined && before.acceptedAtMs > conn.acceptedAtMs) before = before.#before;
      conn.#before = before;
      conn.#behind = before === undefined ? list.first : before.#behind;
      if (conn.#behind === undefined) list.last = conn;
      else conn.#behind.#before = conn;
      if (before === undefined) list.first = conn;
      else before.#behind = conn;
      list.size++;
      conn.#kind = kind;
    };
    unlink = (conn, list) => {
      if (conn.#before === undefined) list.first = conn.#behind;
      else conn.#before.#behind = conn.#behind;
      if (conn.#behind === undefined) list.last = conn.#before;
      else conn.#behind.#before = conn.#before;
      conn.#before = conn.#behind = undefined;
      conn.#kind = undefined;
      list.size--;
    };
    linkToSource = (conn, source) => {
      conn.#source = source;
      conn.#beforeOfSource = source.last;
      if (source.last === undefined) source.first = conn;
      else source.last.#behindOfSource = conn;
      source.last = conn;
      source.count++;
    };
    unlinkFromSource = (conn, source) => {
      if (conn.#beforeOfSource === undefined) source.first = conn.#behindOfSource;
      else conn.#beforeOfSource.#behindOfSource = conn.#behindOfSource;
      if (conn.#behindOfSource === undefined) source.last = conn.#beforeOfSource;
      else conn.#behindOfSource.#beforeOfSource = conn.#beforeOfSource;
      conn.#source = conn.#beforeOfSource = conn.#behindOfSource = undefined;
      source.count--;
    };
    oldestStrangerOf = (source) => {
      let conn = source.first;
      while (conn !== undefined && conn.#kind !== "stranger") conn = conn.#behindOfSource;
      return conn;
    };
  }
}

class List {
  first: PendingConnection | undefined;
  last: PendingConnection | undefined;
  size = 0;
}

/** The unfinished connections of one edge. */
export class PendingBudgets {
  readonly #clock: Clock;
  readonly #lists: Readonly<Record<PendingKind, List>> = {
    stranger: new List(),
    visitor: new List(),
    agent: new List(),
  };
  readonly #sources = new Map<string, Source>();
  /** The source that has last lost all its connections: it stays in the map, as in {@link SourceCounts}. */
  #idle: Source | undefined;
  readonly #sites = new SourceCounts();
  #timer: Timer | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Number of connections, in total or of one kind. */
  size(kind?: PendingKind): number {
    const { stranger, visitor, agent } = this.#lists;
    return kind === undefined ? stranger.size + visitor.size + agent.size : this.#lists[kind].size;
  }

  /**
   * Adds a new connection, evicting a stranger if there is no room. Returns false if its source has reached its share
   * and has no stranger to evict.
   *
   * @param remote the source it counts for; undefined if it becomes known later ({@link locate})
   */
  enter(conn: PendingConnection, remote: Address | undefined): boolean {
    if (remote !== undefined && !this.#count(conn, remote.host)) return false;
    this.#add(conn, "stranger");
    this.#arm();
    return true;
  }

  /** A trusted proxy has given the connection's source. Returns false as {@link enter} does. */
  locate(conn: PendingConnection, remote: Address): boolean {
    return kindOf(conn) === undefined || this.#count(conn, remote.host);
  }

  /** The connection has been identified, and counts as this kind from now on. */
  show(conn: PendingConnection, kind: PendingKind): void {
    const shown = kindOf(conn);
    if (shown === undefined || shown === kind) return;
    unlink(conn, this.#lists[shown]);
    this.#add(conn, kind);
  }

  /** The connection has been routed, admitted or refused. Later calls do nothing. */
  leave(conn: PendingConnection): void {
    const kind = kindOf(conn);
    if (kind !== undefined) unlink(conn, this.#lists[kind]);
    this.#uncount(conn);
  }

  /** No connections follow. */
  close(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  /** All connections. */
  *all(): Generator<PendingConnection> {
    for (const { first } of Object.values(this.#lists)) {
      for (let conn = first; conn !== undefined;) {
        const behind = nextOf(conn);
        yield conn;
        conn = behind;
      }
    }
  }

  #add(conn: PendingConnection, kind: PendingKind): void {
    const list = this.#lists[kind];
    if (list.size >= MAX[kind]) this.#evict(list.first!);
    link(conn, list, kind);
  }

  #evict(conn: PendingConnection): void {
    this.leave(conn);
    conn.evict(
      new SallyportError("limit_exceeded", "Cannot keep connection: it had to make room for newer ones", {
        side: "local",
        retryable: true,
      }),
    );
  }

  #count(conn: PendingConnection, host: string): boolean {
    const key = sourceOf(host);
    let source = this.#sources.get(key);
    if (source === undefined) this.#sources.set(key, source = new Source(key, sourceNetworkOf(host)));
    if (!isLocalSource(key)) {
      const crowded = source.count >= PENDING_PER_SOURCE_MAX ||
        (source.site !== undefined && this.#sites.of(source.site) >= PENDING_PER_SITE_MAX);
      const oldest = crowded ? oldestStrangerOf(source) : undefined;
      if (oldest !== undefined) {
        this.#evict(oldest);
        this.#sources.set(key, source);
      } else if (crowded) {
        this.#forgetIdle(source);
        return false;
      }
    }
    linkToSource(conn, source);
    if (source.site !== undefined) this.#sites.add(source.site);
    return true;
  }

  #uncount(conn: PendingConnection): void {
    const source = sourceOfPending(conn);
    if (source === undefined) return;
    unlinkFromSource(conn, source);
    if (source.site !== undefined) this.#sites.remove(source.site);
    this.#forgetIdle(source);
  }

  /** Forgets the source before `source` that lost all its connections, if `source` has none either. */
  #forgetIdle(source: Source): void {
    const idle = this.#idle;
    if (source.count > 0 || source === idle) return;
    if (idle?.count === 0) this.#sources.delete(idle.key);
    this.#idle = source;
  }

  /**
   * One timer for all connections: it is set for the oldest, and checks which others have expired. It stays set when the
   * last one has left: the next may be here before it fires.
   */
  #arm(): void {
    if (this.#timer !== undefined) return;
    const { stranger, visitor } = this.#lists;
    const oldestMs = Math.min(
      stranger.first?.acceptedAtMs ?? Infinity,
      visitor.first?.acceptedAtMs ?? Infinity,
    );
    if (oldestMs === Infinity) return;
    const leftMs = oldestMs + HELLO_DEADLINE_MS - this.#clock.nowMs();
    // Connections with a different deadline stay in the list: they are asked again every quarter of a second.
    this.#timer = this.#clock.after(leftMs > 0 ? leftMs : 250, this.#check);
  }

  readonly #check = (): void => {
    const { stranger, visitor } = this.#lists;
    this.#timer = undefined;
    const dueMs = this.#clock.nowMs() - HELLO_DEADLINE_MS;
    for (const list of [stranger, visitor]) {
      for (let conn = list.first; conn !== undefined && conn.acceptedAtMs <= dueMs;) {
        const behind = nextOf(conn);
        conn.late();
        conn = behind;
      }
    }
    this.#arm();
  };
}
