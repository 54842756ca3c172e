import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { PendingConnections } from "../../../src/wire/ip/pending_connections.ts";

describe("PendingConnections", () => {
  it("counts at most so many in all and from one source, and each leaves once", () => {
    const pending = new PendingConnections(3, 2);
    assert.equal(pending.size, 0);
    const first = pending.enter("192.0.2.1");
    assert.ok(first && pending.enter("192.0.2.1"));
    assert.equal(pending.enter("192.0.2.1"), undefined, "its source has too many");
    assert.ok(pending.enter("192.0.2.2"));
    assert.equal(pending.enter("192.0.2.3"), undefined, "there are too many");
    assert.equal(pending.size, 3);
    first();
    first();
    assert.equal(pending.size, 2);
    assert.ok(pending.enter("192.0.2.1"));
    assert.equal(pending.enter("192.0.2.1"), undefined);
    assert.equal(pending.size, 3);
  });
});
