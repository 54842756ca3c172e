import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Ring, type Ringed } from "../../../src/protocol/mux/ring.ts";

interface Link extends Ringed<Link> {
  readonly name: string;
}
const link = (name: string): Link => ({ name, nextReady: undefined });

describe("Ring", () => {
  it("shift() gives the streams in the order of push()", () => {
    const ring = new Ring<Link>();
    const [a, b, c] = [link("a"), link("b"), link("c")];
    for (const stream of [a, b, c]) ring.push(stream);
    assert.equal(ring.head, a);
    assert.deepEqual([ring.shift(), ring.shift(), ring.shift(), ring.shift()], [a, b, c, undefined]);
    assert.equal(ring.head, undefined);
  });

  it("shift() unlinks the stream, so that it may be pushed again", () => {
    const ring = new Ring<Link>();
    const [a, b] = [link("a"), link("b")];
    ring.push(a);
    ring.push(b);
    assert.equal(ring.shift(), a);
    assert.equal(a.nextReady, undefined);
    ring.push(a);
    assert.deepEqual([ring.shift(), ring.shift(), ring.shift()], [b, a, undefined]);
  });

  it("goes on after it was empty", () => {
    const ring = new Ring<Link>();
    assert.equal(ring.shift(), undefined);
    const [a, b] = [link("a"), link("b")];
    ring.push(a);
    assert.equal(ring.shift(), a);
    ring.push(b);
    assert.deepEqual([ring.head, ring.shift(), ring.shift()], [b, b, undefined]);
  });
});
