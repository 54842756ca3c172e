import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Offenders, OFFENDERS_MAX, PENALTY_FIRST_MS } from "../../src/edge/offenders.ts";
import { SallyportError } from "../../src/errors.ts";
import { codeOf } from "../support/code_of.ts";

const offence = new SallyportError("cipher_failed", "Cannot read session", { side: "peer" });

describe("Offenders", () => {
  it("beyond OFFENDERS_MAX the one that did it first is forgotten", () => {
    const offenders = new Offenders();
    for (let n = 0; n < OFFENDERS_MAX; n++) offenders.ended(`${n}.test`, offence, 0);
    assert.equal(codeOf(() => offenders.check("0.test", 0)), "limit_exceeded");
    // The first has done it again, so the second is the oldest.
    offenders.ended("0.test", offence, 0);
    offenders.ended("new.test", offence, 0);
    assert.equal(codeOf(() => offenders.check("0.test", 0)), "limit_exceeded");
    assert.equal(codeOf(() => offenders.check("1.test", 0)), "none");
    assert.equal(codeOf(() => offenders.check("2.test", 0)), "limit_exceeded");
  });

  it("check() says how long it takes, and lets the agent in at the very end of its penalty", () => {
    const offenders = new Offenders();
    offenders.ended("a.test", offence, 100);
    assert.throws(() => offenders.check("a.test", 100), /may return in 1 s/);
    assert.equal(codeOf(() => offenders.check("a.test", 99 + PENALTY_FIRST_MS)), "limit_exceeded");
    assert.equal(codeOf(() => offenders.check("a.test", 100 + PENALTY_FIRST_MS)), "none");
  });
});
