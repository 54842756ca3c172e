/** The page's live figures: rates, word of changes, and how many may watch. */
import assert from "node:assert/strict";
import { it } from "node:test";
import {
  LIVE_INTERVAL_MS,
  LIVE_LINGER_MS,
  LiveFeeds,
  RATE_WINDOW_MS,
  WATCH_MS,
  WATCHERS_MAX,
} from "../../src/master/page/live.ts";
import type { TotalsQuery } from "../../src/master/store/store.ts";
import { VirtualClock } from "../support/virtual_clock.ts";
import { WALL_MS } from "./helpers.ts";

const NOTHING = { agents: 0, online: 0, sessions: 0, streams: 0, bytesToAgent: 0, bytesToVisitor: 0 };

/** Feeds over a database that the test plays, in time that it moves. */
function feeds() {
  const clock = new VirtualClock({ wallMs: WALL_MS });
  const asked: TotalsQuery[] = [];
  const totals = { ...NOTHING };
  const closing = new AbortController();
  const store = {
    totals(query: TotalsQuery) {
      asked.push(query);
      return Promise.resolve({ ...totals });
    },
  };
  return {
    live: new LiveFeeds({ store, clock, closing: closing.signal }),
    totals,
    asked,
    closing,
    pass: (ms: number) => clock.advance(ms),
  };
}

/** Reads a stream's events as they come. */
function reading(body: ReadableStream<Uint8Array>) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let text = "";
  const over = (async () => {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      text += decoder.decode(value);
    }
  })();
  return {
    over,
    async events(name: string) {
      await new Promise((resolve) => setTimeout(resolve));
      return [...text.matchAll(new RegExp(`event: ${name}\ndata: (.*)\n\n`, "g"))]
        .map(([, data]) => JSON.parse(data as string));
    },
    leave: () => reader.cancel(),
  };
}

it("gives the rates of the last seconds, and a new version when something has changed", async () => {
  const { live, totals, pass } = feeds();
  const seen = reading(live.open(undefined));
  await pass(0);
  for (let bytes = 1; bytes <= 4; bytes++) {
    totals.bytesToVisitor = bytes * 25_000;
    totals.bytesToAgent = bytes * 5_000;
    await pass(LIVE_INTERVAL_MS);
  }
  const [first, ...more] = await seen.events("now");
  assert.deepEqual(first, { version: 1, point: null });
  // 25,000 bytes in each 2.5 seconds.
  assert.deepEqual(more.map(({ point }) => point.slice(1)), Array(4).fill([10_000, 2_000]));
  assert.deepEqual(more.map(({ version }) => version), [2, 3, 4, 5]);
  await pass(RATE_WINDOW_MS);
  const last = (await seen.events("now")).at(-1);
  assert.deepEqual([last.point.slice(1), last.version], [[0, 0], 5]);
  // Who comes later gets the chart that there is.
  const late = reading(live.open(undefined));
  assert.equal((await late.events("history"))[0].length, 8);
  await seen.leave();
  await late.leave();
});

it("looks once for all browsers of a tenant, and no more when they have gone for a while", async () => {
  const { live, asked, pass } = feeds();
  const all = [live.open("a"), live.open("a"), live.open("b")].map(reading);
  await pass(4 * LIVE_INTERVAL_MS);
  assert.deepEqual(
    [5, 5],
    ["a", "b"].map((tenant) => asked.filter((query) => query.tenant === tenant).length),
  );
  for (const one of all) await one.leave();
  await pass(LIVE_LINGER_MS + LIVE_INTERVAL_MS);
  const count = asked.length;
  await pass(10 * LIVE_LINGER_MS);
  assert.equal(asked.length, count);
});

it("ends a browser's stream after its time, and all with the master; too many are refused", async () => {
  const { live, closing, pass } = feeds();
  const first = reading(live.open(undefined));
  await pass(WATCH_MS);
  await first.over;
  const all = Array.from({ length: WATCHERS_MAX }, () => reading(live.open(undefined)));
  assert.throws(() => live.open(undefined), { status: 503 });
  await all[0]!.leave();
  all.push(reading(live.open(undefined)));
  closing.abort();
  await Promise.all(all.map(({ over }) => over));
  assert.throws(() => live.open(undefined), { status: 503 });
});
