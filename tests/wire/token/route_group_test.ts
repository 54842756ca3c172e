import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { routeGroup } from "../../../src/wire/token/route_group.ts";
import { sharedInstance } from "../../../src/wire/token/claims.ts";

describe("routeGroup()", () => {
  const run = "run-12345";
  // A token's members; the group, and the session's place in it.
  const table: [string, Record<string, unknown>, string, string | undefined][] = [
    ["a token alone", {}, "token:id", undefined],
    ["a session of a run", { instance: `${run}.0` }, `instance:${run}`, `${run}.0`],
    ["another one", { instance: `${run}.3` }, `instance:${run}`, `${run}.3`],
    ["a fifth session", { instance: `${run}.4` }, "token:id", undefined],
    ["a run of 8 characters", { instance: "12345678.1" }, "instance:12345678", "12345678.1"],
    ["one of 7", { instance: "1234567.1" }, "token:id", undefined],
    ["one of 60", { instance: `${"r".repeat(60)}.1` }, `instance:${"r".repeat(60)}`, `${"r".repeat(60)}.1`],
    ["one of 61", { instance: `${"r".repeat(61)}.1` }, "token:id", undefined],
    ["one that is no text", { instance: 5 }, "token:id", undefined],
    ["agents that share the name", { shared: "instance-1" }, "shared:a.test", "instance-1"],
    ["both", { shared: "instance-1", instance: `${run}.2` }, "shared:a.test", `${run}.2`],
    [
      "a shared member that says nothing",
      { shared: true, instance: `${run}.2` },
      `instance:${run}`,
      `${run}.2`,
    ],
  ];
  for (const [name, extra, group, member] of table) {
    it(`${name}: ${group.slice(0, 20)}`, () => {
      assert.deepEqual(routeGroup("a.test", extra, "id"), { group, member });
    });
  }
});

describe("sharedInstance()", () => {
  it("is a text of 8 to 64 letters, digits, _ and -", () => {
    for (const text of ["12345678", "a_b-c_d-", "x".repeat(64)]) {
      assert.equal(sharedInstance({ shared: text }), text);
    }
    for (
      const value of ["1234567", "x".repeat(65), "1234 5678", "", true, 12_345_678, ["12345678"], undefined]
    ) {
      assert.equal(sharedInstance({ shared: value }), undefined, String(value));
    }
    assert.equal(sharedInstance({}), undefined);
  });
});
