/** Streams that are read, paused, written and ended at random, through a whole tunnel in virtual time. */
import assert from "node:assert/strict";
import { it } from "node:test";
import { tcpConnector } from "../../src/agent/connector.ts";
import { concat } from "../../src/bytes/bytes.ts";
import type { Bytes, Clock, Conn } from "../../src/runtime/port.ts";
import { hashOf, Watched } from "../conformance/runtime_helpers.ts";
import { clientHello } from "../support/client_hello.ts";
import { pattern, seeded, seedOf } from "../support/seeded.ts";
import { AGENT_HOST, TestEdge } from "../support/tunnel.ts";

const RUNS = 10;
const VISITORS = 8;
const ENDPOINT_HOST = "10.0.9.9";
const MOST_BYTES = 500_000;
const MOST_PAUSE_MS = 300;

/** Numbers from 0 up to `most`, small ones more often. */
type UpTo = (most: number) => number;

/** A visitor or an endpoint: reads with pauses, writes pieces of any size with breaks, and ends when it is told. */
class Side extends Watched {
  readonly #upTo: UpTo;
  readonly #clock: Clock;
  /** Called when something may have changed about the end. */
  mayEnd: () => void = () => {};
  written = false;

  constructor(conn: Conn, upTo: UpTo, clock: Clock) {
    super(conn);
    this.#upTo = upTo;
    this.#clock = clock;
    this.onData = () => {
      if (upTo(10) > 5) {
        this.pause();
        clock.after(upTo(MOST_PAUSE_MS), () => this.resume());
      }
      this.mayEnd();
    };
    this.onEnd = () => this.mayEnd();
  }

  /** Writes all of it, as far as the other side takes it. */
  writeAll(bytes: Bytes): void {
    let at = 0;
    const go = () => {
      while (at < bytes.length) {
        const piece = bytes.slice(at, at + 1 + this.#upTo(150_000));
        at += piece.length;
        if (!this.write(piece)) return;
        if (this.#upTo(10) > 7) return void this.#clock.after(this.#upTo(MOST_PAUSE_MS), go);
      }
      if (this.written) return;
      this.written = true;
      this.mayEnd();
    };
    this.onDrain = go;
    go();
  }
}

for (let run = 1; run <= RUNS; run++) {
  const seed = seedOf(run);
  it(`every byte arrives and nobody hangs, whatever is read, paused and ended when: seed ${seed}`, async () => {
    const random = seeded(seed);
    const upTo: UpTo = (most) => Math.floor(random() ** 2 * most);
    const link = { latencyMs: upTo(20), jitterMs: upTo(5), pieceMaxBytes: 8_000 + upTo(200_000) };
    const test = await TestEdge.start({
      ...{ answerTimeoutMs: 0, streamsPerSource: 0 },
      network: { seed, link: { ...link, windowBytes: 16_384 + upTo(500_000) } },
    });
    const request = concat([clientHello("a.test"), pattern(1 + upTo(MOST_BYTES), seed)]);
    const answer = pattern(1 + upTo(MOST_BYTES), seed + 1);
    const endpoints: Side[] = [];
    await test.runtime(ENDPOINT_HOST).listen({
      host: ENDPOINT_HOST,
      port: 80,
      accept: (conn) => {
        const endpoint = new Side(conn, upTo, test.network.clock);
        endpoints.push(endpoint);
        // SniTun has no half-close: an endpoint that ends ends both directions.
        endpoint.mayEnd = () => {
          if (endpoint.written && endpoint.byteLength === request.length) endpoint.closeWrite();
        };
        endpoint.writeAll(answer);
      },
    });
    const connector = tcpConnector({ runtime: test.runtime(AGENT_HOST), host: ENDPOINT_HOST, port: 80 });
    await test.connect({ protocolVersion: upTo(2) === 0 ? 1 : 2, ttlSeconds: 86_400 }, {
      admitted: () => ({
        stream: (stream) => void connector(stream),
        streamClosed() {},
        streamRefused() {},
        ended() {},
      }),
    });
    const visitors: Side[] = [];
    for (let i = 0; i < VISITORS; i++) {
      const { conn } = await test.dial();
      const visitor = new Side(conn, upTo, test.network.clock);
      visitors.push(visitor);
      const endsFirst = i % 2 === 0;
      visitor.mayEnd = () => {
        if (visitor.written && (endsFirst || visitor.ended)) visitor.closeWrite();
      };
      visitor.writeAll(request);
    }
    await test.advance(300_000);
    assert.equal(endpoints.length, VISITORS);
    for (const [i, side] of [...visitors, ...endpoints].entries()) {
      const [who, expected] = i < VISITORS ? ["visitor", answer] as const : ["endpoint", request] as const;
      assert.equal(side.byteLength, expected.length, `${who} ${i % VISITORS}`);
      assert.equal(hashOf(concat(side.chunks)), hashOf(expected));
      assert.deepEqual([side.ended, side.closes, side.closeError, side.wrong], [true, 1, undefined, []]);
    }
    await test.assertNothingLeft();
  });
}
