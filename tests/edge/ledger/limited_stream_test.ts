/** limitStream: both directions held back by the agent's buckets. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { limitStream } from "../../../src/edge/ledger/limited_stream.ts";
import { TokenBucket } from "../../../src/edge/ledger/token_bucket.ts";
import { SallyportError } from "../../../src/errors.ts";
import type { Bytes, ByteStreamHandler } from "../../../src/runtime/port.ts";
import type { SessionStream } from "../../../src/transport/port.ts";
import { VirtualClock } from "../../support/virtual_clock.ts";

const over = new SallyportError("limit_exceeded", "Cannot serve visitor: used up", { side: "local" });

/** A stream with 1,000 bytes a second each way where asked for (50 at once), and all that either side heard. */
function bench(rates: { toAgent?: boolean; toVisitor?: boolean } = {}) {
  const clock = new VirtualClock();
  const below: string[] = [];
  const heard: string[] = [];
  let takes = true;
  let from: ByteStreamHandler | undefined;
  let spent = 0;
  let quota = Infinity;
  const inner = {
    caller: { address: "198.51.100.7" },
    peerPaused: false,
    bufferedBytes: 77,
    attach: (handler: ByteStreamHandler) => {
      below.push("attach");
      from = handler;
    },
    write: (chunk: Bytes) => {
      below.push(`write ${chunk.length}`);
      return takes;
    },
    closeWrite: () => void below.push("closeWrite"),
    abort: (error?: Error) => void below.push(error === over ? "abort over" : "abort"),
    release: () => void below.push("release"),
    pause: () => void below.push("pause"),
    resume: () => void below.push("resume"),
  };
  const limits = {
    clock,
    toAgent: rates.toAgent === true ? new TokenBucket(clock, 1_000) : undefined,
    toVisitor: rates.toVisitor === true ? new TokenBucket(clock, 1_000) : undefined,
    count: (byteLength: number) => (spent += byteLength) > quota ? over : undefined,
  };
  const stream = limitStream(inner as SessionStream, limits);
  const handler: ByteStreamHandler = {
    data: (chunk) => void heard.push(`data ${chunk.length}`),
    end: () => void heard.push("end"),
    drain: () => void heard.push("drain"),
    close: (error) => void heard.push(`close ${error?.message ?? "-"}`),
  };
  /** For the stream below: its attached handler. */
  const events = (): ByteStreamHandler => {
    assert.ok(from);
    return from;
  };
  return {
    clock,
    stream,
    inner,
    limits,
    events,
    attach: () => stream.attach(handler),
    write: (byteLength: number) => stream.write(new Uint8Array(byteLength)),
    data: (byteLength: number) => events().data(new Uint8Array(byteLength)),
    takes: (value: boolean) => void (takes = value),
    quota: (value: number) => void (quota = value),
    /** What the stream below was asked since the last call. */
    below: () => below.splice(0),
    heard: () => heard.splice(0),
  };
}

describe("limitStream: towards the agent", () => {
  it("write() says false from the bucket's debt on, and drain comes when it is paid", () => {
    const { clock, stream, attach, write, below, heard } = bench({ toAgent: true });
    attach();
    below();
    assert.equal(write(50), true);
    assert.equal(stream.peerPaused, false);
    assert.equal(write(10), false);
    assert.equal(stream.peerPaused, true);
    assert.deepEqual(below(), ["write 50", "write 10"]);
    clock.run(9);
    assert.deepEqual(heard(), []);
    clock.run(1);
    assert.deepEqual(heard(), ["drain"]);
    assert.equal(stream.peerPaused, false);
    clock.run(1_000);
    assert.deepEqual(heard(), []);
  });

  it("waits again where another stream of the agent has taken what it waited for", () => {
    const { clock, limits, attach, write, heard } = bench({ toAgent: true });
    attach();
    write(60);
    clock.run(5);
    limits.toAgent!.take(20);
    clock.run(24);
    assert.deepEqual(heard(), []);
    clock.run(1);
    assert.deepEqual(heard(), ["drain"]);
  });

  it("two writes into debt make one drain", () => {
    const { clock, attach, write, heard } = bench({ toAgent: true });
    attach();
    write(60);
    assert.equal(write(10), false);
    clock.run(20);
    assert.deepEqual(heard(), ["drain"]);
  });

  it("drain waits for the stream below as well as for the bucket", () => {
    for (const first of ["below", "bucket"] as const) {
      const { clock, events, attach, write, takes, heard } = bench({ toAgent: true });
      attach();
      takes(false);
      write(60);
      if (first === "below") events().drain();
      else clock.run(10);
      assert.deepEqual(heard(), [], first);
      if (first === "below") clock.run(10);
      else events().drain();
      assert.deepEqual(heard(), ["drain"], first);
    }
  });

  it("without a rate it says what the stream below says", () => {
    const { events, attach, write, takes, heard } = bench({ toVisitor: true });
    attach();
    assert.equal(write(1_000_000), true);
    takes(false);
    assert.equal(write(1), false);
    events().drain();
    assert.deepEqual(heard(), ["drain"]);
  });
});

describe("limitStream: towards the visitor", () => {
  it("pauses the stream below while the bucket is in debt, and passes every byte on", () => {
    const { clock, stream, attach, data, below, heard } = bench({ toVisitor: true });
    attach();
    below();
    data(50);
    assert.deepEqual([below(), heard()], [[], ["data 50"]]);
    data(10);
    assert.deepEqual([below(), heard()], [["pause"], ["data 10"]]);
    assert.equal(stream.peerPaused, true);
    data(5);
    assert.deepEqual([below(), heard()], [[], ["data 5"]], "one timer is enough");
    clock.run(14);
    assert.deepEqual(below(), []);
    clock.run(1);
    assert.deepEqual(below(), ["resume"]);
    assert.equal(stream.peerPaused, false);
  });

  it("waits again where another stream of the agent has taken what it waited for", () => {
    const { clock, limits, attach, data, below } = bench({ toVisitor: true });
    attach();
    data(60);
    limits.toVisitor!.take(20);
    below();
    clock.run(29);
    assert.deepEqual(below(), []);
    clock.run(1);
    assert.deepEqual(below(), ["resume"]);
  });

  it("resumes when neither the visitor nor the bucket holds it", () => {
    const { clock, stream, attach, data, below } = bench({ toVisitor: true });
    attach();
    data(60);
    stream.pause();
    below();
    clock.run(10);
    assert.deepEqual(below(), [], "the visitor still pauses");
    stream.resume();
    assert.deepEqual(below(), ["resume"]);
    data(10);
    below();
    stream.pause();
    stream.resume();
    assert.deepEqual(below(), ["pause"], "the bucket still holds it");
    clock.run(10);
    assert.deepEqual(below(), ["resume"]);
  });

  it("release() lets what still comes go, whatever the bucket says", () => {
    const { clock, stream, attach, data, below } = bench({ toVisitor: true });
    attach();
    data(60);
    below();
    stream.release();
    assert.deepEqual(below(), ["resume", "release"]);
    assert.equal(stream.peerPaused, false);
    clock.run(1_000);
    assert.deepEqual(below(), []);
  });
});

describe("limitStream: without a rate", () => {
  it("what comes is passed on, and nothing is held back", () => {
    const { stream, attach, data, below, heard } = bench({ toAgent: true });
    attach();
    below();
    data(1_000_000);
    assert.deepEqual([below(), heard(), stream.peerPaused], [[], ["data 1000000"], false]);
  });

  it("a rate that is taken away holds until its timer, and no longer", () => {
    const { clock, limits, stream, attach, write, data, below, heard } = bench({
      toAgent: true,
      toVisitor: true,
    });
    attach();
    write(60);
    data(60);
    below();
    heard();
    limits.toAgent = limits.toVisitor = undefined;
    clock.run(10);
    assert.deepEqual([below(), heard(), stream.peerPaused], [["resume"], ["drain"], false]);
  });
});

describe("limitStream: the month's bytes", () => {
  it("a byte beyond them ends the stream, and isn't passed on in either direction", () => {
    for (const way of ["write", "data"] as const) {
      const { attach, write, data, quota, below, heard } = bench({ toAgent: true, toVisitor: true });
      attach();
      below();
      quota(10);
      const move = way === "write" ? write : data;
      move(10);
      below();
      heard();
      // A writer isn't told to wait: there is nothing to wait for.
      assert.notEqual(move(1), false);
      assert.deepEqual([below(), heard()], [["abort over"], []], way);
    }
  });
});

describe("limitStream: the rest", () => {
  it("hands on what it doesn't judge", () => {
    const { stream, events, inner, attach, below, heard } = bench();
    attach();
    stream.closeWrite();
    stream.abort();
    events().end();
    assert.deepEqual(below(), ["attach", "closeWrite", "abort"]);
    assert.deepEqual(heard(), ["end"]);
    assert.deepEqual([stream.caller, stream.bufferedBytes], [inner.caller, 77]);
    inner.peerPaused = true;
    assert.equal(stream.peerPaused, true);
  });

  it("close() ends its timers and tells the handler", () => {
    const { clock, events, attach, write, data, below, heard } = bench({ toAgent: true, toVisitor: true });
    attach();
    write(60);
    data(60);
    below();
    heard();
    events().close(over);
    assert.deepEqual(heard(), [`close ${over.message}`]);
    clock.run(1_000);
    assert.deepEqual([below(), heard()], [[], []]);
  });
});
