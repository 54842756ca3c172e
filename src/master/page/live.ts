/**
 * Live updates of the page: traffic rates and change notifications, as server-sent events. All browsers of a tenant
 * share one database query.
 *
 * @module
 */
import { dayOf } from "../../calendar.ts";
import type { Clock } from "../../runtime/port.ts";
import { Problem } from "../problem.ts";
import type { Store, Totals } from "../store/store.ts";
import { TextStream } from "../text_stream.ts";

/** Interval at which the management page's figures are queried while someone watches. */
export const LIVE_INTERVAL_MS = 2_500;
/** Edges report every few seconds: rates are averaged over this time. */
export const RATE_WINDOW_MS = 10_000;
/** Points of the traffic chart. */
export const LIVE_POINTS_MAX = 240;
/** The traffic chart is kept for this time after the last browser has left, for the next viewer. */
export const LIVE_LINGER_MS = 60_000;
/** Maximum number of browsers receiving live updates at the same time. */
export const WATCHERS_MAX = 200;
/** A browser's stream ends after this time; it reconnects automatically, and its login is checked again. */
export const WATCH_MS = 2 * 60_000;
/** Delay before a browser reconnects to the live updates. */
const RETRY_MS = 2_000;
const HEARTBEAT_MS = 15_000;
const WAITING_MAX = 32;

/** A point of the chart: seconds since 1970, and bytes a second each way. */
type Point = readonly [atS: number, toVisitor: number, toAgent: number];

interface Sample {
  readonly atMs: number;
  readonly toAgent: number;
  readonly toVisitor: number;
}

/** Dependencies of {@link LiveFeeds}. */
interface LiveFeedsOptions {
  readonly store: Pick<Store, "totals">;
  readonly clock: Clock;
  readonly closing: AbortSignal;
}

/** The live feeds of all tenants; each exists while a browser watches it. */
export class LiveFeeds {
  readonly #options: LiveFeedsOptions;
  /** By tenant; "" for all. */
  readonly #feeds = new Map<string, Feed>();
  #watchers = 0;

  constructor(options: LiveFeedsOptions) {
    this.#options = options;
  }

  /** The events for one browser. Throws 503 if too many are watching. */
  open(tenant: string | undefined): ReadableStream<Uint8Array> {
    if (this.#watchers >= WATCHERS_MAX) {
      throw new Problem(503, `Cannot show live figures: ${WATCHERS_MAX} browsers are already watching`, {
        headers: { "Retry-After": String(WATCH_MS / 1000) },
      });
    }
    const { clock, closing } = this.#options;
    if (closing.aborted) throw new Problem(503, "Cannot show live figures: the session master is stopping");
    const key = tenant ?? "";
    const feed = this.#feeds.get(key) ?? new Feed(this.#options, tenant, () => this.#feeds.delete(key));
    this.#feeds.set(key, feed);
    this.#watchers++;
    const limit = clock.after(WATCH_MS, () => stream.end("its time is over"));
    const stream = new TextStream({
      clock,
      heartbeat: ":\n\n",
      heartbeatMs: HEARTBEAT_MS,
      chunksMax: WAITING_MAX,
      closing,
      over: () => {
        this.#watchers--;
        limit.cancel();
        feed.leave(stream);
      },
    });
    stream.send(`retry: ${RETRY_MS}\n\n`);
    feed.join(stream);
    return stream.body;
  }
}

/** The feed shared by one tenant's browsers. */
class Feed {
  readonly #options: LiveFeedsOptions;
  readonly #tenant: string | undefined;
  readonly #over: () => void;
  readonly #from: string;
  readonly #streams = new Set<TextStream>();
  readonly #points: Point[] = [];
  /** The samples of the window, oldest first. */
  #samples: Sample[] = [];
  /** Increases when something shown by views has changed. */
  #version = 0;
  #shown = "";
  #idleSinceMs: number | undefined;

  constructor(options: LiveFeedsOptions, tenant: string | undefined, over: () => void) {
    this.#options = options;
    this.#tenant = tenant;
    this.#over = over;
    // Usage before this day doesn't matter: only differences are used, and later days are included.
    this.#from = dayOf(options.clock.wallMs());
    void this.#look();
  }

  join(stream: TextStream): void {
    this.#idleSinceMs = undefined;
    this.#streams.add(stream);
    stream.send(event("history", this.#points));
    if (this.#shown !== "") stream.send(event("now", this.#now()));
  }

  leave(stream: TextStream): void {
    this.#streams.delete(stream);
    if (this.#streams.size === 0) this.#idleSinceMs = this.#options.clock.nowMs();
  }

  async #look(): Promise<void> {
    const { store, clock, closing } = this.#options;
    try {
      const tenant = this.#tenant === undefined ? {} : { tenant: this.#tenant };
      this.#take(await store.totals({ from: this.#from, ...tenant }));
    } catch {
      // The database is unavailable; browsers receive nothing, and the next query may succeed.
    }
    const isLeft = this.#idleSinceMs !== undefined && clock.nowMs() - this.#idleSinceMs >= LIVE_LINGER_MS;
    if (isLeft || closing.aborted) this.#over();
    else clock.after(LIVE_INTERVAL_MS, () => void this.#look());
  }

  #take(totals: Totals): void {
    const { clock } = this.#options;
    const nowMs = clock.nowMs();
    this.#samples = this.#samples.filter(({ atMs }) => atMs >= nowMs - RATE_WINDOW_MS);
    const first = this.#samples[0];
    this.#samples.push({ atMs: nowMs, toAgent: totals.bytesToAgent, toVisitor: totals.bytesToVisitor });
    if (first !== undefined && nowMs > first.atMs) {
      const rate = (now: number, before: number) =>
        Math.max(0, Math.round((now - before) * 1000 / (nowMs - first.atMs)));
      this.#points.push([
        Math.round(clock.wallMs() / 1000),
        rate(totals.bytesToVisitor, first.toVisitor),
        rate(totals.bytesToAgent, first.toAgent),
      ]);
      if (this.#points.length > LIVE_POINTS_MAX) this.#points.shift();
    }
    const shown = JSON.stringify(totals);
    if (shown !== this.#shown) this.#version++;
    this.#shown = shown;
    const text = event("now", this.#now());
    for (const stream of [...this.#streams]) stream.send(text);
  }

  #now() {
    return { version: this.#version, point: this.#points.at(-1) ?? null };
  }
}

function event(name: string, data: unknown): string {
  return `event: ${name}\ndata: ${JSON.stringify(data)}\n\n`;
}
