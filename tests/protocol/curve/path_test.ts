/** PathState: moving to another address, and challenges (RFC 9000, 8.2 and 9; docs/protocols/curve.md, Paths). */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { PathState, sameAddress } from "../../../src/protocol/curve/path.ts";
import { seededSource } from "../../support/seeded.ts";

const HOME = { host: "192.0.2.1", port: 1 };
const MOVED = { host: "192.0.2.1", port: 2 };
const OTHER = { host: "192.0.2.2", port: 1 };
const RETRY_MS = 300;

function path(): PathState {
  return new PathState(HOME, seededSource(1));
}

/** A path with a candidate that has been challenged. */
function challenged() {
  const state = path();
  state.received(MOVED, 5, true, 1000, 100);
  const challenge = state.challenge(100, 1000, RETRY_MS)!;
  return { state, challenge };
}

describe("sameAddress()", () => {
  it("compares host and port", () => {
    assert.ok(sameAddress(HOME, { ...HOME }));
    assert.ok(!sameAddress(HOME, MOVED));
    assert.ok(!sameAddress(HOME, OTHER));
  });
});

describe("PathState: candidates", () => {
  it("a newest packet from elsewhere makes a candidate that is challenged at once; the path stays", () => {
    const { state, challenge } = challenged();
    assert.deepEqual([state.current, state.moves], [HOME, 0]);
    assert.deepEqual([challenge.to, challenge.data.length], [MOVED, 8]);
  });

  it("an older packet from elsewhere, a copy maybe, makes none", () => {
    const state = path();
    state.received(MOVED, 5, false, 1000, 100);
    assert.deepEqual([state.challenge(100, 10, RETRY_MS), state.deadlineMs], [undefined, Infinity]);
  });

  it("packets from the current address make none", () => {
    const state = path();
    state.received(HOME, 5, true, 1000, 100);
    assert.equal(state.deadlineMs, Infinity);
  });

  it("a newest packet from the current address takes the candidate back, an older one doesn't", () => {
    const back = challenged();
    back.state.received(HOME, 4, false, 1000, 110);
    assert.notEqual(back.state.deadlineMs, Infinity);
    back.state.received(HOME, 6, true, 1000, 110);
    assert.equal(back.state.deadlineMs, Infinity);
    assert.equal(back.state.answered(MOVED, back.challenge.data), false);
  });

  it("a third address takes the candidate's place with a challenge of its own", () => {
    const { state, challenge } = challenged();
    state.received(OTHER, 6, true, 1000, 120);
    const second = state.challenge(120, 1000, RETRY_MS)!;
    assert.deepEqual(second.to, OTHER);
    assert.notDeepEqual(second.data, challenge.data);
    assert.equal(state.answered(MOVED, challenge.data), false);
    assert.equal(state.answered(OTHER, second.data), true);
  });
});

describe("PathState: answers to our challenges", () => {
  it("answered() moves the path, once", () => {
    const { state, challenge } = challenged();
    assert.equal(state.answered(MOVED, challenge.data), true);
    assert.deepEqual([state.current, state.moves, state.deadlineMs], [MOVED, 1, Infinity]);
    assert.equal(state.answered(MOVED, challenge.data), false);
  });

  it("answered() from another address, or with another answer, moves nothing", () => {
    const { state, challenge } = challenged();
    assert.equal(state.answered(OTHER, challenge.data), false);
    assert.equal(state.answered(HOME, challenge.data), false);
    for (let i = 0; i < 8; i++) {
      const wrong = challenge.data.slice();
      wrong[i]! ^= 1;
      assert.equal(state.answered(MOVED, wrong), false);
    }
    assert.deepEqual([state.current, state.moves], [HOME, 0]);
  });

  it("answered() before the challenge was sent moves nothing, though the answer is right", () => {
    const data = new Uint8Array(8);
    seededSource(1).fill(data);
    const state = path();
    state.received(MOVED, 5, true, 1000, 100);
    assert.equal(state.answered(MOVED, data), false);
    assert.deepEqual(state.challenge(100, 10, RETRY_MS)!.data, data);
    assert.equal(state.answered(MOVED, data), true);
  });

  it("a challenge is repeated after its time, three times in all, with the same bytes", () => {
    const { state, challenge } = challenged();
    assert.equal(state.deadlineMs, 400);
    assert.equal(state.challenge(399, 1000, RETRY_MS), undefined);
    assert.deepEqual(state.challenge(400, 1000, RETRY_MS), challenge);
    assert.deepEqual(state.challenge(700, 1000, RETRY_MS), challenge);
    assert.equal(state.challenge(1000, 1000, RETRY_MS), undefined);
    assert.equal(state.deadlineMs, Infinity);
  });

  it("no more than three times what came from there goes there (RFC 9000, 8.1)", () => {
    const state = path();
    state.received(MOVED, 5, true, 100, 100);
    assert.equal(state.challenge(100, 301, RETRY_MS), undefined);
    assert.equal(state.challenge(400, 150, RETRY_MS)?.to.port, 2);
    assert.equal(state.challenge(700, 151, RETRY_MS), undefined);
    state.received(MOVED, 6, true, 1, 701);
    assert.equal(state.challenge(1000, 151, RETRY_MS)?.to.port, 2);
  });
});

describe("PathState: the peer's challenges", () => {
  it("each is answered to where it came from, in order, its bytes kept", () => {
    const state = path();
    const data = new Uint8Array(8).fill(7);
    state.challenged(MOVED, data);
    data.fill(9);
    state.challenged(OTHER, data);
    assert.deepEqual(state.takeAnswer(), { to: MOVED, data: new Uint8Array(8).fill(7) });
    assert.deepEqual(state.takeAnswer(), { to: OTHER, data: new Uint8Array(8).fill(9) });
    assert.equal(state.takeAnswer(), undefined);
  });

  it("no more than four wait", () => {
    const state = path();
    for (let i = 0; i < 5; i++) state.challenged(MOVED, new Uint8Array(8).fill(i));
    const taken = Array.from({ length: 5 }, () => state.takeAnswer()?.data[0]);
    assert.deepEqual(taken, [0, 1, 2, 3, undefined]);
  });
});
