/** Routes: which session serves which name. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { type Claim, Routes, TAKEOVERS_PER_MINUTE_MAX } from "../../src/edge/routes.ts";
import { codeOf } from "../support/code_of.ts";

function claim(owner: string, madeAtS = 100, more: Partial<Claim> = {}): Claim {
  return { owner, aliases: [], age: { madeAtS, validUntilS: 1_000 }, ...more };
}

describe("Routes: find()", () => {
  it("prefers the name itself to the wildcard that covers it", () => {
    const routes = new Routes<string>();
    routes.claim(claim("*.a.test"), "wild", 0);
    routes.claim(claim("x.a.test"), "exact", 0);
    assert.equal(routes.find("x.a.test"), "exact");
    assert.equal(routes.find("y.a.test"), "wild");
    assert.equal(routes.find("a.test"), undefined);
    assert.equal(routes.find("test"), undefined);
    assert.equal(routes.size, 2);
  });

  it("takes the sessions of a shared name in turn", () => {
    const routes = new Routes<string>();
    for (const instance of ["1", "2", "3"]) routes.claim(claim("a.test", 100, { instance }), instance, 0);
    const found = Array.from({ length: 6 }, () => routes.find("a.test"));
    assert.deepEqual([...found.slice(0, 3)].sort(), ["1", "2", "3"]);
    assert.deepEqual(found.slice(3), found.slice(0, 3));
    routes.release("2");
    const rest = Array.from({ length: 4 }, () => routes.find("a.test"));
    assert.deepEqual([...rest.slice(0, 2)].sort(), ["1", "3"]);
    assert.deepEqual(rest.slice(2), rest.slice(0, 2));
  });
});

describe("Routes: claim()", () => {
  it("replaces the owner's older session, aliases too", () => {
    const routes = new Routes<string>();
    routes.claim(claim("a.test", 100, { aliases: ["b.test", "c.test"] }), "old", 0);
    const { replaced, denied } = routes.claim(claim("a.test", 101, { aliases: ["b.test"] }), "new", 0);
    assert.deepEqual([replaced, denied], [["old"], []]);
    assert.deepEqual(["a.test", "b.test", "c.test"].map((name) => routes.find(name)), [
      "new",
      "new",
      undefined,
    ]);
  });

  it("leaves aliases with the owner that holds them, and refuses a name that is another's alias", () => {
    const routes = new Routes<string>();
    routes.claim(claim("a.test", 100, { aliases: ["b.test"] }), "a", 0);
    const { denied } = routes.claim(claim("c.test", 100, { aliases: ["b.test", "d.test"] }), "c", 0);
    assert.deepEqual(denied, ["b.test"]);
    assert.deepEqual(["b.test", "d.test"].map((name) => routes.find(name)), ["a", "c"]);
    assert.equal(codeOf(() => routes.check(claim("b.test", 999), 0)), "name_taken");
    assert.equal(codeOf(() => routes.claim(claim("b.test", 999), "b", 0)), "name_taken");
    routes.release("c");
    assert.deepEqual(["b.test", "d.test"].map((name) => routes.find(name)), ["a", undefined]);
  });

  it("an agent that shares its names replaces its own session and an unshared one, no other's", () => {
    const routes = new Routes<string>();
    routes.claim(claim("a.test"), "alone", 0);
    assert.deepEqual(routes.claim(claim("a.test", 100, { instance: "1" }), "first", 0).replaced, ["alone"]);
    assert.deepEqual(routes.claim(claim("a.test", 100, { instance: "2" }), "second", 0).replaced, []);
    assert.deepEqual(routes.claim(claim("a.test", 100, { instance: "1" }), "again", 0).replaced, ["first"]);
    assert.deepEqual([routes.find("a.test"), routes.find("a.test")].sort(), ["again", "second"]);
    const { replaced } = routes.claim(claim("a.test"), "alone again", 0);
    assert.deepEqual([...replaced].sort(), ["again", "second"]);
  });
});

describe("Routes: check() of a name that changes hands often", () => {
  /** A name that was taken over so many times, at these milliseconds. */
  function taken(...times: number[]): Routes<number> {
    const routes = new Routes<number>();
    routes.claim(claim("a.test"), -1, 0);
    times.forEach((atMs, i) => routes.claim(claim("a.test"), i, atMs));
    return routes;
  }
  const codeAt = (routes: Routes<number>, nowMs: number, madeAtS = 100, validUntilS = 1_000) =>
    codeOf(() => routes.check(claim("a.test", 100, { age: { madeAtS, validUntilS } }), nowMs));

  it("the sixth take-over within a minute is refused, until the first is a minute old", () => {
    assert.equal(TAKEOVERS_PER_MINUTE_MAX, 5);
    const routes = taken(1_000, 2_000, 3_000, 4_000, 5_000);
    assert.equal(codeAt(taken(1_000, 2_000, 3_000, 4_000), 5_000), "none");
    assert.equal(codeAt(routes, 60_999), "name_flapping");
    assert.equal(codeAt(routes, 61_000), "none");
  });

  it("a newer token always takes the name over: made later, or valid for longer", () => {
    const routes = taken(1, 2, 3, 4, 5);
    const table = [[101, 1_000, "none"], [100, 1_001, "none"], [100, 1_000, "name_flapping"], [
      99,
      2_000,
      "name_flapping",
    ], [101, 999, "none"]] as const;
    for (const [madeAtS, validUntilS, code] of table) {
      assert.equal(codeAt(routes, 10, madeAtS, validUntilS), code, `${madeAtS} to ${validUntilS}`);
    }
  });

  it("sweep() forgets take-overs that are a minute old, and no others", () => {
    const routes = taken(1_000, 2_000, 3_000, 4_000, 5_000);
    routes.sweep(60_999);
    assert.equal(codeAt(routes, 60_999), "name_flapping");
    routes.sweep(65_000);
    // As if time had gone back: nothing is remembered.
    assert.equal(codeAt(routes, 5_000), "none");
  });
});

describe("Routes: giving names up", () => {
  it("release() of a session that was replaced takes nothing from the newer one", () => {
    const routes = new Routes<string>();
    routes.claim(claim("a.test"), "old", 0);
    routes.claim(claim("a.test"), "new", 0);
    routes.release("old");
    assert.equal(routes.find("a.test"), "new");
    routes.release("new");
    routes.release("new");
    assert.deepEqual([routes.find("a.test"), routes.size], [undefined, 0]);
  });

  it("releaseNames() leaves a shared name to the other sessions that hold it", () => {
    const routes = new Routes<string>();
    for (const instance of ["1", "2"]) {
      routes.claim(claim("a.test", 100, { instance, aliases: ["b.test"] }), instance, 0);
    }
    routes.releaseNames("1", ["b.test"]);
    assert.deepEqual([1, 2, 3].map(() => routes.find("b.test")), ["2", "2", "2"]);
    routes.releaseNames("2", ["b.test"]);
    assert.equal(routes.find("b.test"), undefined);
  });

  it("releaseNames() gives up those that the session holds", () => {
    const routes = new Routes<string>();
    routes.claim(claim("a.test", 100, { aliases: ["b.test", "c.test"] }), "a", 0);
    routes.claim(claim("d.test"), "d", 0);
    routes.releaseNames("a", ["b.test", "d.test", "e.test"]);
    const names = ["a.test", "b.test", "c.test", "d.test"];
    assert.deepEqual(names.map((name) => routes.find(name)), ["a", undefined, "a", "d"]);
    routes.releaseNames("nobody", ["a.test"]);
    assert.equal(routes.find("a.test"), "a");
    // A name that was given up may be claimed by others, and isn't taken from them by the first one's end.
    routes.claim(claim("b.test"), "b", 0);
    routes.releaseNames("a", ["b.test"]);
    assert.equal(routes.find("b.test"), "b");
    routes.release("a");
    assert.deepEqual(names.map((name) => routes.find(name)), [undefined, "b", undefined, "d"]);
  });
});
