/** LedgerReporter: when an edge reports, what it keeps, and how it comes back to a master that was away. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { EdgeLedger, ReportBody } from "../../../src/edge/ledger/ledger.ts";
import {
  CONTROL_RETRY_FIRST_MS,
  CONTROL_RETRY_MAX_MS,
  LedgerReporter,
  REPORT_ENTRIES_MAX,
  REPORT_IDLE_MS,
  REPORT_INTERVAL_MS,
  REPORT_SOON_MS,
} from "../../../src/edge/ledger/reporter.ts";
import type { EdgeMessage, EdgeReport, ReportReceipt } from "../../../src/wire/control/control_messages.ts";
import { type LogLine, recordingLogger } from "../../support/tunnel.ts";
import { VirtualClock } from "../../support/virtual_clock.ts";

const EMPTY: ReportBody = { fresh: false, sessions: [], closed: [], usage: [], watched: [] };
const used = (agent: string, bytes: number, day = "2026-01-01") => ({
  ...{ agent, tenant: "t", day },
  bytesToAgent: bytes,
  bytesToVisitor: 2 * bytes,
  streams: 1,
  connectedMs: 10,
});
const sessionOf = (id: string, streams = 0) => ({ id, streams }) as EdgeReport["sessions"][number];

/** A reporter whose ledger and master are the test. */
function bench(options: { kept?: string; keeps?: boolean } = {}) {
  const clock = new VirtualClock();
  const lines: LogLine[] = [];
  const reports: EdgeReport[] = [];
  const receipts: Pick<ReportReceipt, "month" | "used">[] = [];
  const cuts: boolean[] = [];
  const listens: (number | undefined)[] = [];
  const written: string[] = [];
  let body: ReportBody | undefined;
  let changed = () => {};
  let isAway = false;
  let say: ((message: EdgeMessage) => void) | undefined;
  let hangUp = () => {};
  const ledger = {
    seq: 7,
    reportTo: (call: () => void) => void (changed = call),
    hear: () => {},
    cut: (all: boolean) => {
      cuts.push(all);
      const cut = body;
      body = undefined;
      return cut;
    },
    reported: (receipt: ReportReceipt) => void receipts.push(receipt),
  };
  const reporter = new LedgerReporter({
    edge: "e",
    ledger: ledger as unknown as EdgeLedger,
    clock,
    log: recordingLogger(lines),
    random: () => 1,
    link: {
      listen: (since, hear, signal) => {
        listens.push(since);
        say = hear;
        return new Promise((_, reject) => {
          hangUp = () => reject(new Error("cut"));
          signal.addEventListener("abort", () => reject(signal.reason as Error));
        });
      },
      report: (report) => {
        reports.push(report);
        if (isAway) return Promise.reject(new Error("down"));
        const used = report.watched.map((agent) => ({ agent, bytes: report.seq }));
        return Promise.resolve({ epoch: report.epoch, seq: report.seq, month: "2026-01", used });
      },
    },
    ...options.keeps === false ? {} : {
      journal: {
        read: () => Promise.resolve(options.kept),
        write: (text) => Promise.resolve(void written.push(text)),
      },
    },
  });
  const pass = (ms: number) => clock.advance(ms);
  return {
    ...{ clock, lines, reporter, receipts, listens, pass },
    /** What was reported since the last call. */
    reports: () => reports.splice(0),
    cuts: () => cuts.splice(0),
    next: (more: Partial<ReportBody> = {}) => void (body = { ...EMPTY, ...more }),
    change: () => changed(),
    away: (away: boolean) => void (isAway = away),
    say: (message: EdgeMessage) => say!(message),
    hangUp: async () => {
      hangUp();
      await pass(0);
    },
    start: async () => {
      await reporter.start();
      await pass(1);
    },
    kept: () => JSON.parse(written.at(-1)!) as { epoch: string; seq: number; waiting: EdgeReport[] },
  };
}

describe("LedgerReporter: when it reports", () => {
  it("names every session first, and is there again every REPORT_IDLE_MS with nothing to say", async () => {
    const { start, reports, cuts, pass } = bench();
    await start();
    assert.deepEqual(cuts(), [true]);
    const [first] = reports();
    assert.deepEqual([first!.seq, first!.edge, first!.usage], [1, "e", []]);
    await pass(REPORT_IDLE_MS - REPORT_INTERVAL_MS);
    assert.deepEqual(reports(), []);
    assert.deepEqual(new Set(cuts()), new Set([false]));
    await pass(REPORT_INTERVAL_MS + 10);
    assert.deepEqual(reports().map(({ seq }) => seq), [2]);
  });

  it("reports what there is every REPORT_INTERVAL_MS, and a change within REPORT_SOON_MS", async () => {
    const { start, reports, next, change, pass } = bench();
    await start();
    reports();
    next({ usage: [used("a", 1)] });
    await pass(REPORT_INTERVAL_MS - 50);
    assert.equal(reports().length, 0);
    await pass(100);
    assert.deepEqual(reports().map(({ usage }) => usage), [[used("a", 1)]]);
    next({ closed: ["s"] });
    change();
    change();
    await pass(REPORT_SOON_MS - 50);
    assert.equal(reports().length, 0);
    await pass(100);
    assert.deepEqual(reports().map(({ closed }) => closed), [["s"]]);
  });

  it("flush() reports at once", async () => {
    const { start, reporter, reports, next, receipts } = bench();
    await start();
    reports();
    next({ closed: ["s"] });
    await reporter.flush();
    assert.deepEqual(reports().map(({ closed }) => closed), [["s"]]);
    assert.equal(receipts.length, 2);
  });
});

describe("LedgerReporter: while the master is away", () => {
  it("repeats the oldest report unchanged, adds up what comes meanwhile, and says so once", async () => {
    const { start, reports, receipts, next, away, pass, lines } = bench();
    await start();
    reports();
    receipts.length = 0;
    away(true);
    next({ sessions: [sessionOf("s1", 1)], usage: [used("a", 1)], watched: ["w"] });
    await pass(REPORT_INTERVAL_MS + 50);
    next({ sessions: [sessionOf("s2", 1), sessionOf("s3")], usage: [used("a", 2)], closed: ["s1"] });
    await pass(REPORT_INTERVAL_MS);
    next({
      sessions: [sessionOf("s2", 2)],
      usage: [used("a", 3), used("a", 4, "2026-01-02"), used("b", 5)],
      closed: ["s3"],
      watched: ["x"],
    });
    await pass(REPORT_INTERVAL_MS);
    assert.deepEqual(reports().map(({ seq }) => seq), [2, 2, 2]);
    assert.deepEqual(lines.map(({ level }) => level), ["warn"]);
    away(false);
    next({ watched: ["y"] });
    await pass(REPORT_INTERVAL_MS);
    const [oldest, rest, ...more] = reports();
    assert.deepEqual([oldest!.seq, oldest!.usage, rest!.seq], [2, [used("a", 1)], 3]);
    assert.deepEqual(rest!.sessions, [sessionOf("s2", 2)]);
    assert.deepEqual([rest!.closed, rest!.watched], [["s1", "s3"], ["y"]]);
    assert.deepEqual(rest!.usage, [
      { ...used("a", 5), streams: 2, connectedMs: 20 },
      used("a", 4, "2026-01-02"),
      used("b", 5),
    ]);
    assert.deepEqual([more, receipts.length], [[], 1], "the ledger hears when all has arrived");
    assert.deepEqual(lines.map(({ level }) => level), ["warn", "info"]);
  });

  it("names every session again when the master is back", async () => {
    const { start, reports, cuts, next, away, pass } = bench();
    await start();
    away(true);
    next({ closed: ["s"] });
    await pass(REPORT_INTERVAL_MS + 50);
    away(false);
    cuts();
    reports();
    next({ fresh: true, sessions: [sessionOf("s2")] });
    await pass(REPORT_INTERVAL_MS);
    assert.deepEqual(cuts(), [true]);
    assert.deepEqual(reports().map(({ fresh }) => fresh), [false, true]);
    next();
    await pass(REPORT_INTERVAL_MS);
    assert.deepEqual(cuts(), [false]);
  });

  it("a report that names every session takes the place of those that waited behind the oldest", async () => {
    const { start, reports, next, away, pass } = bench();
    await start();
    away(true);
    for (
      const body of [{ closed: ["s0"] }, { sessions: [sessionOf("s1")], closed: ["s9"] }, {
        fresh: true,
        sessions: [sessionOf("s2")],
      }]
    ) {
      next(body);
      await pass(REPORT_INTERVAL_MS + 20);
    }
    away(false);
    reports();
    await pass(REPORT_INTERVAL_MS);
    const [, rest] = reports();
    assert.deepEqual([rest!.fresh, rest!.sessions, rest!.closed], [true, [sessionOf("s2")], []]);
  });
});

describe("LedgerReporter: more than one report holds", () => {
  const many = (count: number, name: string) => Array.from({ length: count }, (_, i) => `${name}${i}`);
  const everything = (count: number): Partial<ReportBody> => ({
    fresh: true,
    sessions: many(count, "s").map((id) => sessionOf(id)),
    usage: many(count, "a").map((agent) => used(agent, 1)),
    watched: many(count, "a"),
  });

  it("is sent in parts in order: each entry once, an agent's usage before the question for its total", async () => {
    const { start, reports, receipts, next } = bench();
    const count = REPORT_ENTRIES_MAX + 10;
    next(everything(count));
    await start();
    const parts = reports();
    assert.deepEqual(parts.map(({ seq }) => seq), [1, 2, 3, 4]);
    for (const { sessions, usage, watched, closed } of parts) {
      assert.ok(sessions.length + usage.length + watched.length + closed.length <= REPORT_ENTRIES_MAX);
    }
    const { sessions, usage, watched } = everything(count);
    assert.deepEqual(parts.flatMap((part) => part.sessions), sessions);
    assert.deepEqual(parts.flatMap((part) => part.usage), usage);
    assert.deepEqual(parts.flatMap((part) => part.watched), watched);
    const lastUsage = parts.findLastIndex((part) => part.usage.length > 0);
    assert.ok(parts.slice(0, lastUsage).every((part) => part.watched.length === 0));
    assert.equal(receipts.length, 1, "the ledger hears when all has arrived");
    assert.deepEqual(receipts[0]!.used.map(({ agent }) => agent), watched);
  });

  it("only the first part is fresh, and it names the sessions of the others", async () => {
    const { start, reports, next } = bench();
    next(everything(2 * REPORT_ENTRIES_MAX));
    await start();
    const [first, ...rest] = reports();
    assert.equal(first!.fresh, true);
    assert.ok(rest.every(({ fresh, following }) => !fresh && following === undefined));
    assert.deepEqual(first!.following, rest.flatMap(({ sessions }) => sessions.map(({ id }) => id)));
    assert.equal(first!.following?.length, REPORT_ENTRIES_MAX);
  });

  it("the part in flight stays unchanged when the master goes away, and the unsent ones take in what comes", async () => {
    const { start, reports, next, away, pass, kept } = bench();
    away(true);
    next(everything(REPORT_ENTRIES_MAX + 5));
    await start();
    next({ usage: [used("a0", 5)], closed: ["s1"] });
    await pass(REPORT_INTERVAL_MS + 50);
    const isLight = ({ sessions, following }: EdgeReport) => sessions.length === 0 && following === undefined;
    assert.ok(kept().waiting.every(isLight), "the journal holds no sessions, which end with the process");
    away(false);
    reports();
    await pass(REPORT_INTERVAL_MS);
    const [first, ...rest] = reports();
    assert.deepEqual([first!.seq, first!.sessions.length], [1, REPORT_ENTRIES_MAX]);
    assert.deepEqual(rest.map(({ seq }) => seq), rest.map((_, index) => index + 2));
    const usage = rest.flatMap((part) => part.usage).filter(({ agent }) => agent === "a0");
    assert.deepEqual(usage.map(({ bytesToAgent }) => bytesToAgent), [6], "once, with what came later");
  });

  it("parts of an earlier process stay as they were numbered, since the master may have applied each", async () => {
    const part = (seq: number) => ({ ...EMPTY, edge: "e", epoch: "old", seq, usage: [used(`a${seq}`, 1)] });
    const kept = JSON.stringify({ epoch: "old", seq: 43, waiting: [part(41), part(42), part(43)] });
    const { start, reports, next } = bench({ kept });
    next({ usage: [used("new", 1)] });
    await start();
    assert.deepEqual(reports().map(({ seq, usage }) => [seq, usage[0]!.agent]), [
      [41, "a41"],
      [42, "a42"],
      [43, "a43"],
      [44, "new"],
    ]);
  });

  it("totals of another month don't reach the ledger", async () => {
    const clock = new VirtualClock();
    const receipts: Pick<ReportReceipt, "month" | "used">[] = [];
    const months = ["2026-01", "2026-02"];
    const reporter = new LedgerReporter({
      ...{ edge: "e", clock, log: recordingLogger([]) },
      ledger: {
        seq: 0,
        reportTo() {},
        cut: (all: boolean) => all ? { ...EMPTY, watched: many(REPORT_ENTRIES_MAX + 1, "a") } : undefined,
        reported: (receipt: ReportReceipt) => void receipts.push(receipt),
      } as unknown as EdgeLedger,
      link: {
        listen: () => new Promise(() => {}),
        report: ({ epoch, seq, watched }) =>
          Promise.resolve({
            ...{ epoch, seq, month: months[seq - 1]! },
            used: watched.map((agent) => ({ agent, bytes: seq })),
          }),
      },
    });
    await reporter.start();
    await clock.advance(1);
    assert.deepEqual(receipts, [{ month: "2026-02", used: [{ agent: `a${REPORT_ENTRIES_MAX}`, bytes: 2 }] }]);
  });
});

describe("LedgerReporter: what it keeps", () => {
  it("writes what waits before it goes out, and again when it has arrived", async () => {
    const { start, next, away, pass, kept } = bench();
    await start();
    assert.deepEqual([kept().seq, kept().waiting], [1, []]);
    away(true);
    next({ usage: [used("a", 1)] });
    await pass(REPORT_INTERVAL_MS + 50);
    assert.deepEqual(kept().waiting.map(({ usage }) => usage), [[used("a", 1)]]);
    away(false);
    await pass(REPORT_INTERVAL_MS);
    assert.deepEqual(kept().waiting, []);
  });

  it("goes on with the count, and with what an earlier process hasn't brought", async () => {
    const waiting = [{ ...EMPTY, edge: "e", epoch: "old", seq: 41, usage: [used("a", 1)] }];
    const { start, reports } = bench({ kept: JSON.stringify({ epoch: "old", seq: 41, waiting }) });
    await start();
    assert.deepEqual(reports().map(({ epoch, seq }) => [epoch, seq]), [["old", 41], ["old", 42]]);
  });

  for (
    const kept of [
      "",
      "{",
      "{}",
      '{"epoch":1,"seq":1,"waiting":[]}',
      '{"epoch":"old","seq":0.5,"waiting":[]}',
      '{"epoch":"old","seq":1,"waiting":{}}',
    ]
  ) {
    it(`begins a new count where what was kept is ${kept || "empty"}`, async () => {
      const { start, reports } = bench({ kept });
      await start();
      const [first, ...more] = reports();
      assert.deepEqual([first!.seq, more], [1, []]);
      assert.match(first!.epoch, /^[0-9a-f]{16}$/);
    });
  }

  it("works without a journal", async () => {
    const { start, reports } = bench({ keeps: false });
    await start();
    assert.equal(reports().length, 1);
  });
});

describe("LedgerReporter: close()", () => {
  it("brings what there is, where the master is there, and says nothing more", async () => {
    const { start, reporter, reports, next, change, pass, kept } = bench();
    await start();
    reports();
    next({ closed: ["s"] });
    await reporter.close();
    assert.deepEqual(reports().map(({ closed }) => closed), [["s"]]);
    assert.deepEqual(kept().waiting, []);
    next({ closed: ["t"] });
    change();
    await pass(10 * REPORT_INTERVAL_MS);
    assert.deepEqual(reports(), []);
  });

  it("keeps what there is where the master is away", async () => {
    const { start, reporter, reports, next, away, pass, kept } = bench();
    await start();
    away(true);
    next({ closed: ["s"] });
    await pass(REPORT_INTERVAL_MS + 50);
    reports();
    next({ closed: ["t"] });
    await reporter.close();
    assert.deepEqual(reports(), []);
    assert.deepEqual(kept().waiting.map(({ closed }) => closed), [["s"], ["t"]]);
  });
});

describe("LedgerReporter: hearing the master", () => {
  it("asks from the last change on, and again after pauses that double up to a bound", async () => {
    const { start, listens, hangUp, pass } = bench();
    await start();
    assert.deepEqual(listens, [7]);
    for (const pauseMs of [250, 500, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000]) {
      assert.ok(pauseMs >= CONTROL_RETRY_FIRST_MS && pauseMs <= CONTROL_RETRY_MAX_MS);
      const before: number = listens.length;
      await hangUp();
      await pass(pauseMs - 10);
      assert.equal(listens.length, before, `before ${pauseMs} ms`);
      await pass(20);
      assert.equal(listens.length, before + 1, `after ${pauseMs} ms`);
    }
  });

  it("begins with the shortest pause again when the master has said something", async () => {
    const { start, listens, hangUp, say, pass } = bench();
    await start();
    for (const pauseMs of [250, 500, 1_000]) {
      await hangUp();
      await pass(pauseMs + 10);
    }
    assert.equal(listens.length, 4);
    say({ kind: "keys", seq: 8, keys: [] });
    await hangUp();
    await pass(260);
    assert.equal(listens.length, 5);
  });

  it("ends with close(), in a pause too", async () => {
    const { start, reporter, listens, hangUp, pass, lines } = bench();
    await start();
    await hangUp();
    await reporter.close();
    await pass(CONTROL_RETRY_MAX_MS);
    assert.equal(listens.length, 1);
    assert.equal(lines.filter(({ message }) => /Cannot receive changes/.test(message)).length, 1);
    const other = bench();
    await other.start();
    await other.reporter.close();
    await other.pass(CONTROL_RETRY_MAX_MS);
    assert.deepEqual([other.listens.length, other.lines], [1, []]);
  });
});
