import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { SallyportError } from "../../../src/errors.ts";
import { PORT_HELD_MS, PortLeases } from "../../../src/tunnel/ports/port_leases.ts";

const opens = (port: number) => Promise.resolve(port);
const fails = (code: "address_in_use" | "connection_refused") => () =>
  Promise.reject(new SallyportError(code, "no", { side: "peer" }));

describe("PortLeases", () => {
  it("gives the lowest free port, and takes it back", async () => {
    const leases = new PortLeases({ first: 5000, last: 5002 });
    const [a, b, c] = [await leases.lease(opens), await leases.lease(opens), await leases.lease(opens)];
    assert.deepEqual([a.port, b.port, c.port], [5000, 5001, 5002]);
    await assert.rejects(leases.lease(opens), { code: "limit_exceeded" });
    b.free();
    assert.equal((await leases.lease(opens)).port, 5001);
    // The old holder's second word doesn't free what another has now.
    b.free();
    assert.equal(leases.leased, 3);
    c.free();
    a.free();
    assert.equal((await leases.lease(opens)).port, 5000);
  });

  it("keeps a port for the name of who had it, as long as there is another", async () => {
    const leases = new PortLeases({ first: 5000, last: 5002 });
    const lease = async (holder?: string) => await leases.lease(opens, undefined, holder);
    const [a, b] = [await lease("a"), await lease("b")];
    assert.deepEqual([a.port, b.port], [5000, 5001]);
    a.free();
    b.free();
    assert.equal((await lease("c")).port, 5002);
    assert.equal((await lease("b")).port, 5001);
    const last = await lease("c");
    assert.equal(last.port, 5000, "it is all that is left");
    last.free();
    // Who has no name gets the lowest one.
    assert.equal((await lease()).port, 5000);
    await assert.rejects(lease("a"), { code: "limit_exceeded" });
  });

  it("never gives one port to two who ask at the same time", async () => {
    const leases = new PortLeases({ first: 5000, last: 5001 });
    const results = await Promise.allSettled([1, 2, 3].map(() => leases.lease(opens)));
    assert.deepEqual(
      results.map((result) => result.status === "fulfilled" ? result.value.port : result.reason.code),
      [5000, 5001, "limit_exceeded"],
    );
  });

  it("gives a wished port where it is free and of the range", async () => {
    const leases = new PortLeases({ first: 5000, last: 5009 });
    const wished = await leases.lease(opens, 5004);
    assert.equal(wished.port, 5004);
    await assert.rejects(leases.lease(opens, 5004), { code: "address_in_use" });
    for (const port of [4999, 5010, 0]) {
      await assert.rejects(leases.lease(opens, port), { code: "access_denied" });
    }
    assert.equal((await leases.lease(opens)).port, 5000);
  });

  it("passes over ports that others have open, and keeps none that couldn't be opened", async () => {
    const leases = new PortLeases({ first: 5000, last: 5002 });
    const tried: number[] = [];
    const lease = await leases.lease((port) => {
      tried.push(port);
      return port < 5002 ? fails("address_in_use")() : opens(port);
    });
    assert.deepEqual(tried, [5000, 5001, 5002]);
    assert.equal(leases.leased, 1);
    await assert.rejects(leases.lease(fails("address_in_use")), { code: "limit_exceeded" });
    await assert.rejects(leases.lease(fails("connection_refused")), { code: "connection_refused" });
    await assert.rejects(leases.lease(fails("address_in_use"), 5001), { code: "address_in_use" });
    assert.equal(leases.leased, 1);
    lease.free();
    assert.equal((await leases.lease(opens)).port, 5000);
  });

  it("keeps a lost port for its holder for PORT_HELD_MS, and one that was given back for nobody", async () => {
    let nowMs = 0;
    const leases = new PortLeases({ first: 5000, last: 5000 }, () => nowMs);
    const open = (port: number) => Promise.resolve(port);
    (await leases.lease(open, undefined, "a")).free(true);
    await assert.rejects(leases.lease(open, undefined, "b"), { code: "limit_exceeded" });
    await assert.rejects(leases.lease(open, 5000, "b"), { code: "address_in_use" });
    await assert.rejects(leases.lease(open), { code: "limit_exceeded" });
    const again = await leases.lease(open, 5000, "a");
    again.free(true);
    nowMs += PORT_HELD_MS;
    const next = await leases.lease(open, undefined, "b");
    assert.equal(next.port, 5000);
    next.free();
    assert.equal((await leases.lease(open, undefined, "c")).port, 5000);
  });

  it("keeps a claimed port for its claimants, regardless of its last holder", async () => {
    const leases = new PortLeases({ first: 5000, last: 5001 }, () => 0);
    const open = (port: number) => Promise.resolve(port);
    leases.reserve(5000, "a");
    leases.reserve(5000, "b");
    assert.equal((await leases.lease(open, undefined, "c")).port, 5001);
    await assert.rejects(leases.lease(open, 5000, "c"), { code: "address_in_use" });
    const first = await leases.lease(open, 5000, "a");
    assert.equal(leases.lastHolder(5000), "a");
    first.free(true);
    assert.equal((await leases.lease(open, 5000, "b")).port, 5000);
  });

  it("refuses ranges that are none", () => {
    for (const [first, last] of [[0, 5], [5, 4], [1, 65536], [1.5, 3], [NaN, 4]] as const) {
      assert.throws(() => new PortLeases({ first, last }), { code: "config_invalid" });
    }
  });
});
