import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { setImmediate } from "node:timers/promises";
import type { ByteStream } from "../../src/runtime/port.ts";
import { TLS_INTAKE_MAX_BYTES, TlsIntake } from "../../src/runtime/tls_intake.ts";

/** An intake that has started, and how often it has resumed its stream since. */
function startedIntake() {
  let resumed = 0;
  const intake = new TlsIntake({ resume: () => resumed++ } as unknown as ByteStream);
  intake.start();
  assert.equal(resumed, 1);
  return { intake, resumed: () => resumed - 1 };
}

describe("TlsIntake", () => {
  it("is full until it starts", () => {
    const intake = new TlsIntake({ resume() {} } as unknown as ByteStream);
    assert.ok(intake.isFull);
    intake.start();
    assert.ok(!intake.isFull);
  });

  it("takes in a bounded number of bytes while the reader is paused, and any number while it reads", async () => {
    const { intake, resumed } = startedIntake();
    intake.resume();
    await setImmediate();
    assert.equal(resumed(), 1);
    intake.took(10 * TLS_INTAKE_MAX_BYTES);
    assert.ok(!intake.isFull);
    intake.pause();
    intake.took(TLS_INTAKE_MAX_BYTES);
    assert.ok(!intake.isFull);
    intake.took(1);
    assert.ok(intake.isFull);
    intake.resume();
    assert.ok(intake.isFull, "before TLS has passed on what it holds");
    await setImmediate();
    assert.ok(!intake.isFull);
    assert.equal(resumed(), 2);
  });

  it("takes in no more for a reader that pauses again and again within a turn", async () => {
    const { intake, resumed } = startedIntake();
    intake.took(TLS_INTAKE_MAX_BYTES + 1);
    for (let round = 0; round < 10; round++) {
      intake.resume();
      intake.resume();
      intake.pause();
      await setImmediate();
      assert.ok(intake.isFull);
    }
    assert.equal(resumed(), 0);
  });
});
