import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { routeGroup } from "../../../src/wire/token/route_group.ts";
import { sharedInstance } from "../../../src/wire/token/claims.ts";

describe("routeGroup()", () => {
  const table: [string, Record<string, unknown>, string][] = [
    ["a token alone", {}, "token:id"],
    ["an instance", { instance: "i" }, "instance:i"],
    ["an instance of 64 characters", { instance: "i".repeat(64) }, `instance:${"i".repeat(64)}`],
    ["one of 65", { instance: "i".repeat(65) }, "token:id"],
    ["an empty one", { instance: "" }, "token:id"],
    ["one that is no text", { instance: 5 }, "token:id"],
    ["agents that share the name", { shared: "instance-1" }, "shared:a.test"],
    ["both", { shared: "instance-1", instance: "i" }, "shared:a.test"],
    ["a shared member that says nothing", { shared: true, instance: "i" }, "instance:i"],
  ];
  for (const [name, extra, group] of table) {
    it(`${name}: ${group.slice(0, 20)}`, () => assert.equal(routeGroup("a.test", extra, "id"), group));
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
