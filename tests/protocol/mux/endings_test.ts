/** Endings and StallWatch: streams whose bytes don't move. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { NO_PLACE } from "../../../src/bytes/roster.ts";
import { Endings, type EndingStream, HALF_CLOSE_GRACE_MS } from "../../../src/protocol/mux/endings.ts";
import { type StallPatience, StallWatch } from "../../../src/protocol/mux/stall_watch.ts";

type Fake = { -readonly [K in keyof EndingStream]: EndingStream[K] } & { name: string; movedAtMs: number };

function fake(name: string, over: Partial<Fake> = {}): Fake {
  return {
    name,
    incoming: { byteLength: 0 },
    outgoing: { byteLength: 0 },
    deliveredBytes: 0,
    movedAtMs: 0,
    closePending: false,
    endingPlace: NO_PLACE,
    graceEndsMs: 0,
    graceMovedBytes: 0,
    ...over,
  };
}

function endings() {
  const events: string[] = [];
  const watch = new Endings<Fake>({
    closeBehindData: ({ name }) => void events.push(`close ${name}`),
    reset: (stream, error) => {
      events.push(`reset ${stream.name}`);
      assert.equal(error, undefined);
      watch.forget(stream);
    },
  });
  return { watch, events };
}

describe("Endings", () => {
  it("watch() says when tick() is due, and tick() does nothing before", () => {
    const { watch, events } = endings();
    assert.equal(watch.tick(0), Infinity);
    assert.equal(watch.watch(fake("a"), 1000), 1000 + HALF_CLOSE_GRACE_MS);
    assert.equal(watch.tick(1000 + HALF_CLOSE_GRACE_MS - 1), 1000 + HALF_CLOSE_GRACE_MS);
    assert.deepEqual(events, []);
    assert.equal(watch.watch(fake("b"), 1000, 50), 1050);
    assert.equal(watch.tick(1001), 1050);
  });

  it("tick() never asks for a call at once, even where a stream that was reset isn't forgotten", () => {
    const watch = new Endings<Fake>({ closeBehindData() {}, reset() {} });
    watch.watch(fake("a", { closePending: true }), 0, 50);
    assert.equal(watch.tick(50), 51);
    assert.equal(watch.tick(60), 61);
  });

  // What the stream holds when it is looked at, and what becomes of it.
  const table: [string, Partial<Fake>, (stream: Fake) => void, string[]][] = [
    ["an empty stream that stood still is closed", {}, () => {}, ["close a"]],
    ["one whose bytes were delivered goes on", {}, (stream) => stream.deliveredBytes++, []],
    ["one whose bytes were sent goes on", { outgoing: { byteLength: 9 } }, (stream) => {
      stream.outgoing = { byteLength: 8 };
    }, []],
    ["one that stood still with bytes to send isn't closed", { outgoing: { byteLength: 9 } }, () => {}, []],
    [
      "one that stood still with bytes to deliver isn't closed",
      { incoming: { byteLength: 9 } },
      () => {},
      [],
    ],
    [
      "one whose end is queued behind its bytes is reset when they stand still",
      {
        outgoing: { byteLength: 9 },
        closePending: true,
      },
      () => {},
      ["reset a"],
    ],
    [
      "one whose end is queued behind its bytes goes on while they move",
      {
        outgoing: { byteLength: 9 },
        closePending: true,
      },
      (stream) => stream.outgoing = { byteLength: 8 },
      [],
    ],
  ];
  for (const [name, over, meanwhile, expected] of table) {
    it(`tick(): ${name}`, () => {
      const { watch, events } = endings();
      const stream = fake("a", over);
      watch.watch(stream, 0);
      meanwhile(stream);
      const next = watch.tick(HALF_CLOSE_GRACE_MS);
      assert.deepEqual(events, expected);
      assert.equal(next, expected[0] === "reset a" ? Infinity : 2 * HALF_CLOSE_GRACE_MS);
    });
  }

  it("tick() looks again after each grace, at what moved since", () => {
    const { watch, events } = endings();
    const stream = fake("a");
    watch.watch(stream, 0);
    for (let i = 1; i < 4; i++) {
      stream.deliveredBytes += 10;
      watch.tick(i * HALF_CLOSE_GRACE_MS);
    }
    assert.deepEqual(events, []);
    watch.tick(4 * HALF_CLOSE_GRACE_MS);
    assert.deepEqual(events, ["close a"]);
  });

  it("forget() ends the watch", () => {
    const { watch, events } = endings();
    const stream = fake("a");
    watch.watch(stream, 0);
    watch.forget(stream);
    assert.equal(watch.tick(1e9), Infinity);
    assert.deepEqual(events, []);
  });

  it("watch() of a watched stream begins its grace anew", () => {
    const { watch, events } = endings();
    const stream = fake("a");
    watch.watch(stream, 0);
    watch.watch(stream, 5000);
    watch.tick(HALF_CLOSE_GRACE_MS);
    assert.deepEqual(events, []);
  });

  it("tick() is never due in the past, where a stream has less grace than that", () => {
    const { watch } = endings();
    const stream = fake("a", { closePending: false });
    watch.watch(stream, 0, 10);
    stream.deliveredBytes = 1;
    assert.equal(watch.tick(20), 20 + HALF_CLOSE_GRACE_MS);
  });
});

describe("StallWatch", () => {
  const FULL_AT_MS = 1_000_000;
  const STALL_MS = 10_000;
  const SLOW_MS = 30_000;
  const PATIENT: StallPatience = { stallMs: STALL_MS, countsBefore: false, slowMs: Infinity };
  const IMPATIENT: StallPatience = { stallMs: STALL_MS, countsBefore: true, slowMs: SLOW_MS };

  function stall(patience: StallPatience, ...streams: Fake[]) {
    const armed: number[] = [];
    const dropped: string[] = [];
    let onDrop = () => {};
    const watch = new StallWatch<Fake>(
      { nowMs: () => FULL_AT_MS, arm: (atMs) => void armed.push(atMs) },
      streams,
      (stream) => {
        dropped.push(stream.name);
        stream.incoming = { byteLength: 0 };
        onDrop();
      },
      patience,
    );
    return {
      watch,
      armed,
      dropped,
      endsAfter: (count: number) => onDrop = () => dropped.length >= count && watch.end(),
    };
  }
  const holding = (name: string, byteLength: number, movedAtMs = 0) =>
    fake(name, { incoming: { byteLength }, movedAtMs });

  it("asks to be called after its time and drops nothing before", () => {
    const { watch, armed, dropped } = stall(PATIENT, holding("a", 10));
    assert.deepEqual(armed, [FULL_AT_MS + STALL_MS]);
    assert.equal(watch.tick(FULL_AT_MS + STALL_MS - 1), FULL_AT_MS + STALL_MS);
    assert.deepEqual(dropped, []);
  });

  it("drops the streams that took nothing, the fullest first, until there is room", () => {
    const { watch, dropped, endsAfter } = stall(
      PATIENT,
      holding("a", 10),
      holding("b", 30),
      holding("moving", 500, FULL_AT_MS + 1),
      holding("emptied", 0),
      holding("c", 20),
      holding("late", 900, FULL_AT_MS + 2),
    );
    endsAfter(2);
    assert.equal(watch.tick(FULL_AT_MS + STALL_MS), Infinity);
    assert.deepEqual(dropped, ["b", "c"]);
  });

  it("drops a stream that holds a single byte, too", () => {
    const { watch, dropped } = stall(PATIENT, holding("a", 1), holding("b", 0));
    watch.tick(FULL_AT_MS + STALL_MS);
    assert.deepEqual(dropped, ["a"]);
  });

  it("looks again, a tenth of its time later, where dropping them all made no room", () => {
    const { watch, dropped } = stall(PATIENT, holding("a", 10), holding("late", 5, FULL_AT_MS + 1));
    const first = FULL_AT_MS + STALL_MS;
    assert.equal(watch.tick(first), first + STALL_MS / 10);
    assert.deepEqual(dropped, ["a"]);
    watch.tick(first + STALL_MS / 10);
    assert.deepEqual(dropped, ["a", "late"]);
  });

  it("where the time before counts, drops at once what stalled before", () => {
    const { watch, armed, dropped } = stall(
      IMPATIENT,
      holding("a", 10, FULL_AT_MS - STALL_MS),
      holding("b", 20, FULL_AT_MS - STALL_MS + 1),
    );
    assert.deepEqual(armed, [FULL_AT_MS]);
    watch.tick(FULL_AT_MS);
    assert.deepEqual(dropped, ["a"]);
  });

  it("drops slow streams when the session has been full for too long, the fullest first", () => {
    const slow = [holding("a", 10), holding("b", 20)];
    const { watch, dropped, endsAfter } = stall(IMPATIENT, ...slow);
    endsAfter(1);
    const lastMs = FULL_AT_MS + SLOW_MS;
    for (let nowMs = FULL_AT_MS; nowMs < lastMs; nowMs += STALL_MS / 10) {
      for (const one of slow) one.movedAtMs = nowMs;
      watch.tick(nowMs);
    }
    assert.deepEqual(dropped, []);
    watch.tick(lastMs);
    assert.deepEqual(dropped, ["b"]);
  });

  it("end() ends it", () => {
    const { watch, dropped } = stall(PATIENT, holding("a", 10));
    watch.end();
    assert.equal(watch.tick(1e9), Infinity);
    assert.deepEqual(dropped, []);
  });
});
