/** What edges and their session master tell one another: what is taken and what isn't. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { dayOf } from "../../../src/calendar.ts";
import {
  CONTROL_HEARTBEAT_MS,
  EdgeMessageSchema,
  EdgeReportSchema,
  ReportReceiptSchema,
} from "../../../src/wire/control/control_messages.ts";

const session = {
  ...{ id: "s", agent: "a", tenant: "t", hostname: "a.test", remote: "192.0.2.1", transport: "quic" },
  ...{ cipher: "tls", sinceMs: 0, streams: 0, bytesToAgent: 0, bytesToVisitor: 0 },
};
const usage = {
  ...{ agent: "a", tenant: "t", day: "2026-11-27", bytesToAgent: 0, bytesToVisitor: 0 },
  ...{ streams: 0, connectedMs: 0 },
};
const report = {
  ...{ edge: "e", epoch: "p", seq: 1, fresh: true, sessions: [session], closed: ["s"], usage: [usage] },
  watched: ["a"],
};
const takes = (value: unknown) => EdgeReportSchema.safeParse(value).success;

describe("EdgeMessageSchema and EdgeReportSchema", () => {
  it("an edge's report is taken whole, and refused where a figure is none", () => {
    assert.deepEqual(EdgeReportSchema.parse(report), report);
    const parted = { ...report, following: ["s2"] };
    assert.deepEqual(EdgeReportSchema.parse(parted), parted);
    const versioned = { ...session, protocolVersion: 0 };
    assert.deepEqual(EdgeReportSchema.parse({ ...report, sessions: [versioned] }).sessions, [versioned]);
    for (const seq of [-1, 0.5, "1", NaN]) assert.equal(takes({ ...report, seq }), false, `${seq}`);
    for (const day of ["2026-1-27", "2026-11-271", "x"]) {
      assert.equal(takes({ ...report, usage: [{ ...usage, day }] }), false, day);
    }
    assert.equal(takes({ ...report, sessions: [{ ...session, streams: -1 }] }), false);
  });

  it("ids have 1 to 300 characters", () => {
    for (const [length, taken] of [[0, false], [1, true], [300, true], [301, false]] as const) {
      assert.equal(takes({ ...report, closed: ["x".repeat(length)] }), taken, `${length}`);
    }
  });

  it("the master's messages are told apart by their kind", () => {
    const ruling = { agent: "a", blocked: false, generation: 3 };
    const messages = [
      { kind: "all", seq: 0, rulings: [ruling], keys: ["k"] },
      { kind: "agent", seq: 1, ruling },
      { kind: "close_session", seq: 2, session: "s" },
      { kind: "keys", seq: 3, keys: [] },
    ];
    for (const message of messages) assert.deepEqual(EdgeMessageSchema.parse(message), message);
    assert.equal(EdgeMessageSchema.safeParse({ kind: "other", seq: 1 }).success, false);
    assert.equal(EdgeMessageSchema.safeParse({ kind: "agent", seq: 1 }).success, false);
  });

  it("a receipt has the month's bytes of agents", () => {
    const receipt = { epoch: "p", seq: 1, month: "2026-11", used: [{ agent: "a", bytes: 5 }] };
    assert.deepEqual(ReportReceiptSchema.parse(receipt), receipt);
    const wrong = { ...receipt, used: [{ agent: "a", bytes: -5 }] };
    assert.equal(ReportReceiptSchema.safeParse(wrong).success, false);
  });

  it("dayOf() is the day in UTC; a heartbeat comes every 5 s", () => {
    assert.equal(dayOf(Date.UTC(2026, 10, 27, 23, 59, 59, 999)), "2026-11-27");
    assert.equal(dayOf(Date.UTC(2026, 10, 28)), "2026-11-28");
    assert.equal(CONTROL_HEARTBEAT_MS, 5_000);
  });
});
