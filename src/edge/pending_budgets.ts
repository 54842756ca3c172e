/**
 * Connections that haven't been routed, admitted or refused yet: budgets apart for strangers, visitors and agents, a share
 * for each source, and one timer for all their deadlines. Where a budget is used up, the oldest of its kind makes room, so
 * that whoever holds connections without a word keeps nobody out.
 *
 * @module
 */
import { SallyportError } from "../errors.ts";
import { PENDING_PER_SOURCE_MAX } from "../runtime/port.ts";
import type { Address, Clock, Timer } from "../runtime/port.ts";
import { sourceNetworkOf, sourceOf } from "../wire/ip/networks.ts";
import { HELLO_DEADLINE_MS } from "../wire/tls/client_hello.ts";

/** Connections that have shown nothing: no TLS record, no token that opens. */
export const PENDING_STRANGERS_MAX = 8_192;
/** Connections that have begun a ClientHello. */
export const PENDING_VISITORS_MAX = 4_096;
/** Connections that have shown a genuine token. */
export const PENDING_AGENTS_MAX = 4_096;
/** Unfinished connections from one IPv6 /48, which is what one site gets. */
export const PENDING_PER_SITE_MAX = 512;

/** What an unfinished connection has shown so far. */
type PendingKind = "stranger" | "visitor" | "agent";

const MAX: Readonly<Record<PendingKind, number>> = {
  stranger: PENDING_STRANGERS_MAX,
  visitor: PENDING_VISITORS_MAX,
  agent: PENDING_AGENTS_MAX,
};

/** A source of connections and those that it has here, the oldest first. */
class Source {
  readonly key: string;
  /** The IPv6 /48 that it lies in; undefined for IPv4. */
  readonly site: string | undefined;
  count = 0;
  first: PendingConnection | undefined;
  last: PendingConnection | undefined;

  constructor(key: string, site: string | undefined) {
    this.key = key;
    this.site = site;
  }
}

/** A connection while it is unfinished. Its links belong to {@link PendingBudgets}. */
export abstract class PendingConnection {
  /** Internal. */
  pending: PendingKind | undefined;
  /** Internal: in the list of its kind. */
  before: PendingConnection | undefined;
  /** Internal. */
  behind: PendingConnection | undefined;
  /** Internal: in the list of its source. */
  source: Source | undefined;
  /** Internal. */
  beforeOfSource: PendingConnection | undefined;
  /** Internal. */
  behindOfSource: PendingConnection | undefined;

  /** When it came, on the monotonic clock. */
  abstract readonly acceptedAtMs: number;
  /** {@link HELLO_DEADLINE_MS} have passed without it being finished. Does nothing where another deadline holds. */
  abstract late(): void;
  /** It makes room for others, for this reason. */
  abstract evict(error: SallyportError): void;
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
  readonly #sites = new Map<string, number>();
  #timer: Timer | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** How many there are, or how many of one kind. */
  size(kind?: PendingKind): number {
    const { stranger, visitor, agent } = this.#lists;
    return kind === undefined ? stranger.size + visitor.size + agent.size : this.#lists[kind].size;
  }

  /**
   * Takes a new connection in; a stranger makes room for it where there is none. False where its source has its share
   * and no stranger to give for it.
   *
   * @param remote whom it counts for; undefined where that shows later ({@link locate})
   */
  enter(conn: PendingConnection, remote: Address | undefined): boolean {
    if (remote !== undefined && !this.#count(conn, remote.host)) return false;
    this.#add(conn, "stranger");
    this.#arm();
    return true;
  }

  /** A trusted proxy has named the connection's source; false as for {@link enter}. */
  locate(conn: PendingConnection, remote: Address): boolean {
    return conn.pending === undefined || this.#count(conn, remote.host);
  }

  /** It has shown what it is: it counts as that from now on. */
  show(conn: PendingConnection, kind: PendingKind): void {
    if (conn.pending === undefined || conn.pending === kind) return;
    this.#unlink(conn);
    this.#add(conn, kind);
  }

  /** It isn't unfinished any more. Later calls do nothing. */
  leave(conn: PendingConnection): void {
    if (conn.pending !== undefined) this.#unlink(conn);
    this.#uncount(conn);
    if (this.size() > 0) return;
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  /** All of them. */
  *all(): Generator<PendingConnection> {
    for (const { first } of Object.values(this.#lists)) {
      for (let conn = first; conn !== undefined;) {
        const { behind } = conn;
        yield conn;
        conn = behind;
      }
    }
  }

  #add(conn: PendingConnection, kind: PendingKind): void {
    const list = this.#lists[kind];
    if (list.size >= MAX[kind]) this.#evict(list.first!);
    // In the order of acceptance, so that the first is the first to be late. Nearly always that is the end.
    let before = list.last;
    while (before !== undefined && before.acceptedAtMs > conn.acceptedAtMs) before = before.before;
    conn.before = before;
    conn.behind = before === undefined ? list.first : before.behind;
    if (conn.behind === undefined) list.last = conn;
    else conn.behind.before = conn;
    if (before === undefined) list.first = conn;
    else before.behind = conn;
    list.size++;
    conn.pending = kind;
  }

  #unlink(conn: PendingConnection): void {
    const list = this.#lists[conn.pending!];
    if (conn.before === undefined) list.first = conn.behind;
    else conn.before.behind = conn.behind;
    if (conn.behind === undefined) list.last = conn.before;
    else conn.behind.before = conn.before;
    conn.before = conn.behind = undefined;
    conn.pending = undefined;
    list.size--;
  }

  #evict(conn: PendingConnection): void {
    this.leave(conn);
    conn.evict(
      new SallyportError("limit_exceeded", "Cannot accept connection: newer ones need the room", {
        side: "local",
        retryable: true,
      }),
    );
  }

  #count(conn: PendingConnection, host: string): boolean {
    const key = sourceOf(host);
    let source = this.#sources.get(key);
    if (source === undefined) this.#sources.set(key, source = new Source(key, sourceNetworkOf(host)));
    if (!isLocal(key)) {
      const crowded = source.count >= PENDING_PER_SOURCE_MAX ||
        (source.site !== undefined && (this.#sites.get(source.site) ?? 0) >= PENDING_PER_SITE_MAX);
      const oldest = crowded ? strangerOf(source) : undefined;
      if (oldest !== undefined) {
        this.#evict(oldest);
        this.#sources.set(key, source);
      } else if (crowded) {
        if (source.count === 0) this.#sources.delete(key);
        return false;
      }
    }
    source.count++;
    if (source.site !== undefined) this.#sites.set(source.site, (this.#sites.get(source.site) ?? 0) + 1);
    conn.source = source;
    conn.beforeOfSource = source.last;
    if (source.last === undefined) source.first = conn;
    else source.last.behindOfSource = conn;
    source.last = conn;
    return true;
  }

  #uncount(conn: PendingConnection): void {
    const { source } = conn;
    if (source === undefined) return;
    if (conn.beforeOfSource === undefined) source.first = conn.behindOfSource;
    else conn.beforeOfSource.behindOfSource = conn.behindOfSource;
    if (conn.behindOfSource === undefined) source.last = conn.beforeOfSource;
    else conn.behindOfSource.beforeOfSource = conn.beforeOfSource;
    conn.source = conn.beforeOfSource = conn.behindOfSource = undefined;
    if (--source.count === 0) this.#sources.delete(source.key);
    if (source.site === undefined) return;
    const left = this.#sites.get(source.site)! - 1;
    if (left === 0) this.#sites.delete(source.site);
    else this.#sites.set(source.site, left);
  }

  /** One timer for all: it rings for the oldest, and looks whom else it concerns. */
  #arm(): void {
    if (this.#timer !== undefined) return;
    const { stranger, visitor } = this.#lists;
    const oldestMs = Math.min(
      stranger.first?.acceptedAtMs ?? Infinity,
      visitor.first?.acceptedAtMs ?? Infinity,
    );
    if (oldestMs === Infinity) return;
    // Those whose deadline is another's stay in the list: no more than once in a quarter of a second.
    const inMs = Math.max(250, oldestMs + HELLO_DEADLINE_MS - this.#clock.nowMs());
    this.#timer = this.#clock.after(inMs, () => {
      this.#timer = undefined;
      const dueMs = this.#clock.nowMs() - HELLO_DEADLINE_MS;
      for (const list of [stranger, visitor]) {
        for (let conn = list.first; conn !== undefined && conn.acceptedAtMs <= dueMs;) {
          const { behind } = conn;
          conn.late();
          conn = behind;
        }
      }
      this.#arm();
    });
  }
}

/** This machine's own proxies and tests come from one address, and are nobody's attack. */
function isLocal(key: string): boolean {
  return key.startsWith("127.") || key === "0.0.0.0.0.0.0.0";
}

function strangerOf(source: Source): PendingConnection | undefined {
  let conn = source.first;
  while (conn !== undefined && conn.pending !== "stranger") conn = conn.behindOfSource;
  return conn;
}
