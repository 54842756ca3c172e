/** HTTP/1.1 with visitors that take their time, over the virtual network. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { respondText } from "../../../src/agent/http/exchange.ts";
import {
  HTTP_HEAD_DEADLINE_MS,
  HTTP_HEAD_PIECES_MAX,
  HTTP_KEEP_ALIVE_MS,
  serveHttp1,
} from "../../../src/agent/http/http1_server.ts";
import { createMemoryNetwork } from "../../../src/runtime/memory/memory.ts";
import { Faults } from "../../../src/runtime/shared.ts";

/** Time enough for bytes to arrive; a head in too many pieces takes less than its deadline. */
const SENT_MS = 10;
const REQUEST = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/** A visitor's connection to a service that greets, with what has come back on it. */
async function visit() {
  const network = createMemoryNetwork();
  const runtime = network.runtime();
  await runtime.listen({
    host: "10.0.0.1",
    port: 80,
    accept: (stream) =>
      void serveHttp1({
        ...{ stream, visitor: { address: "192.0.2.1" }, clock: network.clock, faults: new Faults() },
        idleTimeoutMs: 60_000,
        handler: (exchange) => respondText(exchange, 200, "hello"),
      }),
  });
  const conn = await network.settle(runtime.dial({ host: "10.0.0.1", port: 80, timeoutMs: 1_000 }));
  const visitor = { text: "", ended: false };
  conn.attach({
    data: (chunk) => void (visitor.text += new TextDecoder().decode(chunk)),
    end: () => void (visitor.ended = true),
    drain() {},
    close: () => void (visitor.ended = true),
  });
  const send = async (text: string) => {
    conn.write(new TextEncoder().encode(text));
    await network.advance(SENT_MS);
  };
  return { network, visitor, send };
}

describe("serveHttp1", () => {
  it("waits a limited time for a head, however its bytes trickle in", async () => {
    const { network, visitor, send } = await visit();
    await send(REQUEST);
    await network.advance(1_000);
    assert.match(visitor.text, /^HTTP\/1\.1 200 .*hello/s);
    visitor.text = "";
    for (let waitedMs = 0; waitedMs < HTTP_HEAD_DEADLINE_MS; waitedMs += 1_000) {
      await send("G");
      await network.advance(1_000 - SENT_MS);
    }
    await network.advance(HTTP_HEAD_DEADLINE_MS);
    assert.match(visitor.text, /^HTTP\/1\.1 408 /);
    assert.ok(visitor.ended);
  });

  it("takes a head in a limited number of pieces: each is read from its start", async () => {
    const { network, visitor, send } = await visit();
    await send("GET / HTTP/1.1\r\nHost: a\r\nX-Long: ");
    for (let sent = 0; sent < HTTP_HEAD_PIECES_MAX && !visitor.ended; sent++) await send("x");
    await network.advance(1_000);
    assert.match(visitor.text, /^HTTP\/1\.1 431 /);
    assert.ok(visitor.ended);
  });

  it("closes a connection without a request", async () => {
    const { network, visitor } = await visit();
    await network.advance(HTTP_KEEP_ALIVE_MS + HTTP_HEAD_DEADLINE_MS);
    assert.deepEqual(visitor, { text: "", ended: true });
  });
});
