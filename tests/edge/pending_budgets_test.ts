/** PendingBudgets: unfinished connections, their bounds by kind and source, and their one timer. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import {
  PENDING_AGENTS_MAX,
  PENDING_PER_SITE_MAX,
  PENDING_STRANGERS_MAX,
  PENDING_VISITORS_MAX,
  PendingBudgets,
  PendingConnection,
  type PendingKind,
} from "../../src/edge/pending_budgets.ts";
import type { SallyportError } from "../../src/errors.ts";
import { PENDING_PER_SOURCE_MAX } from "../../src/runtime/port.ts";
import { HELLO_DEADLINE_MS } from "../../src/wire/tls/client_hello.ts";
import { VirtualClock } from "../support/virtual_clock.ts";

class Fake extends PendingConnection {
  readonly name: string;
  readonly acceptedAtMs: number;
  readonly #events: string[];
  readonly #late: () => void;

  constructor(name: string, acceptedAtMs: number, events: string[], late: () => void = () => {}) {
    super();
    this.name = name;
    this.acceptedAtMs = acceptedAtMs;
    this.#events = events;
    this.#late = late;
  }
  late(): void {
    this.#events.push(`late ${this.name}`);
    this.#late();
  }
  evict({ code }: SallyportError): void {
    this.#events.push(`evict ${this.name}: ${code}`);
  }
}

function bench() {
  const clock = new VirtualClock();
  const budgets = new PendingBudgets(clock);
  const events: string[] = [];
  const make = (name: string, acceptedAtMs = clock.nowMs()) => new Fake(name, acceptedAtMs, events);
  return {
    clock,
    budgets,
    make,
    /** One that is done with when its deadline has passed, as connections are. */
    leaving: (name: string) => {
      const conn: Fake = new Fake(name, clock.nowMs(), events, () => budgets.leave(conn));
      return conn;
    },
    events: () => events.splice(0),
    names: () => [...budgets.all()].map((conn) => (conn as Fake).name),
    enter: (name: string, host = "192.0.2.1") => {
      const conn = make(name);
      return { conn, isIn: budgets.enter(conn, { host, port: 1 }) };
    },
  };
}

describe("PendingBudgets: what is in it", () => {
  it("size() counts each kind; show() moves a connection, leave() takes it out once", () => {
    const { budgets, enter, names } = bench();
    const [a, b, c] = ["a", "b", "c"].map((name) => enter(name).conn);
    const sizes = () =>
      [undefined, "stranger", "visitor", "agent"].map((kind) =>
        budgets.size(kind as PendingKind | undefined)
      );
    assert.deepEqual(sizes(), [3, 3, 0, 0]);
    budgets.show(a!, "visitor");
    budgets.show(a!, "visitor");
    budgets.show(b!, "agent");
    assert.deepEqual(sizes(), [3, 1, 1, 1]);
    assert.deepEqual(names(), ["c", "a", "b"]);
    budgets.leave(a!);
    budgets.leave(a!);
    budgets.show(a!, "agent");
    assert.deepEqual(sizes(), [2, 1, 0, 1]);
    budgets.leave(c!);
    budgets.leave(b!);
    assert.deepEqual([sizes(), names()], [[0, 0, 0, 0], []]);
  });

  it("keeps each kind in the order of acceptance, whenever a connection shows what it is", () => {
    const { budgets, make, names } = bench();
    const conns = [10, 20, 30, 40].map((atMs) => make(`${atMs}`, atMs));
    for (const conn of conns) budgets.enter(conn, undefined);
    for (const i of [2, 0, 3, 1]) budgets.show(conns[i]!, "visitor");
    assert.deepEqual(names(), ["10", "20", "30", "40"]);
    budgets.leave(conns[1]!);
    budgets.leave(conns[3]!);
    assert.deepEqual(names(), ["10", "30"]);
    budgets.leave(conns[0]!);
    assert.deepEqual(names(), ["30"]);
  });

  it("all() goes on where a connection leaves meanwhile", () => {
    const { budgets, enter } = bench();
    for (const name of ["a", "b", "c"]) enter(name);
    const seen: string[] = [];
    for (const conn of budgets.all()) {
      seen.push((conn as Fake).name);
      budgets.leave(conn);
    }
    assert.deepEqual([seen, budgets.size()], [["a", "b", "c"], 0]);
  });
});

describe("PendingBudgets: room", () => {
  const bounds = [["stranger", PENDING_STRANGERS_MAX], ["visitor", PENDING_VISITORS_MAX], [
    "agent",
    PENDING_AGENTS_MAX,
  ]] as const;
  for (const [kind, most] of bounds) {
    it(`the oldest ${kind} makes room beyond ${most} of them`, () => {
      const { budgets, make, events } = bench();
      const add = (name: string) => {
        const conn = make(name);
        budgets.enter(conn, undefined);
        budgets.show(conn, kind);
      };
      for (let i = 0; i < most; i++) add(`${i}`);
      assert.deepEqual(events(), []);
      add("next");
      assert.deepEqual(events(), ["evict 0: limit_exceeded"]);
      assert.equal(budgets.size(kind), most);
    });
  }

  it("a source beyond its share gives up its oldest stranger, and is refused where it has none", () => {
    const { budgets, enter, events } = bench();
    const conns = Array.from({ length: PENDING_PER_SOURCE_MAX }, (_, i) => enter(`${i}`).conn);
    enter("elsewhere", "192.0.2.2");
    assert.deepEqual(events(), []);
    budgets.show(conns[0]!, "visitor");
    assert.equal(enter("more").isIn, true);
    assert.deepEqual(events(), ["evict 1: limit_exceeded"]);
    for (const conn of budgets.all()) budgets.show(conn, "agent");
    assert.equal(enter("too many").isIn, false);
    assert.equal(enter("still too many").isIn, false);
    assert.deepEqual(events(), []);
    assert.equal(enter("another", "192.0.2.2").isIn, true);
    budgets.leave(conns[2]!);
    assert.equal(enter("again").isIn, true);
    assert.deepEqual(events(), []);
    assert.equal(enter("once more").isIn, true);
    assert.deepEqual(events(), ["evict again: limit_exceeded"]);
  });

  it("an IPv6 /64 is one source, and a /48 has PENDING_PER_SITE_MAX", () => {
    const { budgets, enter, events } = bench();
    const host = (i: number) => `2001:db8:0:${(i % 100).toString(16)}::${i.toString(16)}`;
    const conns = Array.from({ length: PENDING_PER_SITE_MAX }, (_, i) => enter(`${i}`, host(i)).conn);
    assert.deepEqual(events(), []);
    assert.equal(enter("elsewhere", "2001:db8:1::1").isIn, true);
    // Of the same /64 as 0, 100, …: the oldest of them goes.
    assert.equal(enter("same /64", host(0)).isIn, true);
    assert.deepEqual(events(), ["evict 0: limit_exceeded"]);
    assert.equal(enter("new /64", "2001:db8:0:ffff::1").isIn, false);
    assert.deepEqual(events(), []);
    budgets.leave(conns[1]!);
    assert.equal(enter("new /64", "2001:db8:0:ffff::1").isIn, true);
    // What was refused has left nothing behind.
    for (const conn of budgets.all()) budgets.leave(conn);
    for (let i = 0; i < PENDING_PER_SITE_MAX; i++) assert.equal(enter(`${i}`, host(i)).isIn, true);
    assert.deepEqual(events(), []);
  });

  it("this machine has no share", () => {
    for (const host of ["127.0.0.1", "127.9.9.9", "::1"]) {
      const { enter, events } = bench();
      for (let i = 0; i < PENDING_PER_SOURCE_MAX + 10; i++) assert.equal(enter(`${i}`, host).isIn, true);
      assert.deepEqual(events(), [], host);
    }
    const { enter, events } = bench();
    for (let i = 0; i < PENDING_PER_SOURCE_MAX + 1; i++) enter(`${i}`, "128.0.0.1");
    assert.equal(events().length, 1);
  });

  it("locate() counts a connection for the source that a proxy names", () => {
    const { budgets, make, enter, events } = bench();
    for (let i = 0; i < PENDING_PER_SOURCE_MAX; i++) budgets.show(enter(`${i}`).conn, "agent");
    const conn = make("proxied");
    assert.equal(budgets.enter(conn, undefined), true);
    assert.equal(budgets.locate(conn, { host: "192.0.2.1", port: 1 }), false);
    assert.equal(budgets.locate(conn, { host: "192.0.2.2", port: 1 }), true);
    budgets.leave(conn);
    assert.equal(budgets.locate(conn, { host: "192.0.2.1", port: 1 }), true, "it has left");
    assert.deepEqual(events(), []);
  });
});

describe("PendingBudgets: deadlines", () => {
  it("strangers and visitors are late after HELLO_DEADLINE_MS, agents aren't", () => {
    const { clock, budgets, leaving, events } = bench();
    const conns = ["stranger", "visitor", "agent"].map((name) => leaving(name));
    for (const conn of conns) budgets.enter(conn, undefined);
    budgets.show(conns[1]!, "visitor");
    budgets.show(conns[2]!, "agent");
    clock.run(HELLO_DEADLINE_MS - 1);
    assert.deepEqual(events(), []);
    clock.run(1);
    assert.deepEqual(events(), ["late stranger", "late visitor"]);
    clock.run(10 * HELLO_DEADLINE_MS);
    assert.deepEqual(events(), []);
  });

  it("each has its own deadline, and one timer is enough", () => {
    const { clock, budgets, leaving, events } = bench();
    budgets.enter(leaving("a"), undefined);
    clock.run(1_000);
    budgets.enter(leaving("b"), undefined);
    clock.run(HELLO_DEADLINE_MS - 1_000);
    assert.deepEqual(events(), ["late a"]);
    clock.run(999);
    assert.deepEqual(events(), []);
    clock.run(1);
    assert.deepEqual(events(), ["late b"]);
  });

  it("asks one that stays no more than four times a second", () => {
    const { clock, budgets, enter, events } = bench();
    const { conn } = enter("a");
    clock.run(HELLO_DEADLINE_MS);
    assert.equal(events().length, 1);
    clock.run(249);
    assert.equal(events().length, 0);
    clock.run(1);
    assert.equal(events().length, 1);
    clock.run(1_000);
    assert.equal(events().length, 4);
    budgets.leave(conn);
    clock.run(1_000);
    assert.equal(events().length, 0);
  });

  it("asks none after close", () => {
    const { clock, budgets, enter, events } = bench();
    enter("a");
    budgets.close();
    clock.run(2 * HELLO_DEADLINE_MS);
    assert.deepEqual(events(), []);
  });

  it("goes on when it was empty, and when only agents were left", () => {
    const { clock, budgets, leaving, events } = bench();
    const first = leaving("first");
    budgets.enter(first, undefined);
    budgets.leave(first);
    clock.run(3_000);
    const agent = leaving("agent");
    budgets.enter(agent, undefined);
    budgets.show(agent, "agent");
    clock.run(HELLO_DEADLINE_MS);
    budgets.enter(leaving("next"), undefined);
    clock.run(HELLO_DEADLINE_MS);
    assert.deepEqual(events(), ["late next"]);
  });
});
