/** Many bulk streams in one session, of which half stall: the others get every byte, in turns, without a wake-up lost. */
import assert from "node:assert/strict";
import { it } from "node:test";
import { tcpConnector } from "../../src/agent/connector.ts";
import type { Bytes } from "../../src/runtime/port.ts";
import { Watched } from "../conformance/runtime_helpers.ts";
import { AGENT_HOST, TestEdge } from "../support/tunnel.ts";

const ENDPOINT_HOST = "10.0.9.9";
const CHUNK: Bytes = new Uint8Array(128 * 1024);
const CHUNKS = 16;
const VISITORS = 24;

for (const protocolVersion of [1, 2] as const) {
  it(`of many downloads and uploads, those that move all arrive: version ${protocolVersion}`, async () => {
    const test = await TestEdge.start({
      answerTimeoutMs: 0,
      streamsPerSource: 0,
      network: { link: { pieceMaxBytes: 256 * 1024, windowBytes: 512 * 1024 } },
    });
    const endpoints: Watched[] = [];
    const accept = (conn: Watched["conn"]) => {
      const endpoint = new Watched(conn);
      endpoints.push(endpoint);
      pump(endpoint);
    };
    await test.runtime(ENDPOINT_HOST).listen({ host: ENDPOINT_HOST, port: 80, accept });
    const connector = tcpConnector({ runtime: test.runtime(AGENT_HOST), host: ENDPOINT_HOST, port: 80 });
    await test.connect(test.token({ protocolVersion, ttlSeconds: 86_400 }), {
      admitted: () => ({
        stream: (stream) => void connector(stream),
        streamClosed() {},
        streamRefused() {},
        ended() {},
      }),
    });
    const visitors: Watched[] = [];
    let helloBytes = 0;
    for (let i = 0; i < VISITORS; i++) {
      const { conn, hello } = await test.visit();
      if (i % 2 === 0) conn.pause();
      helloBytes = hello.length;
      visitors.push(conn);
      pump(conn);
    }
    await test.advance(30_000);
    const whole = CHUNKS * CHUNK.length;
    for (const [i, visitor] of visitors.entries()) {
      if (i % 2 === 1) assert.equal(visitor.byteLength, whole, `visitor ${i}`);
    }
    // Endpoints read all, whether their visitors do or not.
    for (const endpoint of endpoints) assert.equal(endpoint.byteLength, helloBytes + whole);
    for (const visitor of visitors) visitor.conn.abort();
    await test.advance(60_000);
    await test.assertNothingLeft();
  });
}

/** Writes it all, as far as the other side takes it. */
function pump(from: Watched): void {
  let left = CHUNKS;
  const go = () => {
    while (left > 0) {
      left--;
      if (!from.write(CHUNK)) return;
    }
  };
  from.onDrain = go;
  go();
}
