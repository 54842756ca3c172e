import assert from "node:assert/strict";
import { Duplex, PassThrough } from "node:stream";
import { it } from "node:test";
import { BulkPace } from "../../src/runtime/bulk_pace.ts";
import { createMemoryNetwork } from "../../src/runtime/memory/memory.ts";
import { CARRIED_LINGER_MS, NodeStream } from "../../src/runtime/node_stream.ts";
import { LINGER_MS } from "../../src/runtime/port.ts";
import { Faults } from "../../src/runtime/shared.ts";
import { makeShared } from "../support/runtime_shared.ts";
import { until } from "../support/until.ts";

const KiB = 1024;
const CHUNKS = 8;

it("a stream with a pace reads on after each rest, and loses nothing", async () => {
  const { clock, faults } = makeShared();
  const rests: (() => void)[] = [];
  const pace = new BulkPace((done) => void rests.push(done), 16 * KiB, 16 * KiB);
  const source = new PassThrough();
  const stream = new NodeStream(source, { clock, faults, pace });
  let [received, rested, ended] = [0, 0, false];
  stream.attach({
    data: (chunk) => void (received += chunk.length),
    end: () => void (ended = true),
    drain: () => {},
    close: () => {},
  });
  for (let count = 0; count < CHUNKS; count++) source.write(new Uint8Array(16 * KiB));
  source.end();
  while (!ended) {
    await until(() => rests.length > 0 || ended);
    if (rests.length === 0) break;
    assert.ok(source.isPaused(), "it reads while it rests");
    rested++;
    rests.shift()!();
  }
  assert.equal(received, CHUNKS * 16 * KiB);
  assert.ok(rested > 1, `${rested} rests`);
  stream.abort();
});

it("a finished stream waits for its peer's end, and not for long where a carrier delivers the rest", async () => {
  for (const carrier of [undefined, new PassThrough()]) {
    const network = createMemoryNetwork();
    const silent = new Duplex({ read() {}, write: (_chunk, _encoding, done) => done() });
    const stream = new NodeStream(silent, {
      ...{ clock: network.clock, faults: new Faults() },
      ...carrier === undefined ? {} : { carrier },
    });
    let closed = false;
    stream.attach({ data() {}, end() {}, drain() {}, close: () => void (closed = true) });
    stream.write(new Uint8Array(10));
    stream.release();
    await until(() => silent.writableFinished);
    await network.advance(CARRIED_LINGER_MS - 1);
    assert.equal(closed, false);
    await network.advance(1);
    assert.equal(closed, carrier !== undefined);
    await network.advance(LINGER_MS);
    assert.equal(closed, true);
  }
});
