/** Streams that the other side doesn't allow: nobody waits for them for ever. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { SallyportError } from "../../src/errors.ts";
import { createMemoryNetwork } from "../../src/runtime/memory/memory.ts";
import type { ByteStream } from "../../src/runtime/port.ts";
import { greetBySimpleAck } from "../../src/snocat/handshake.ts";
import type { Carrier } from "../../src/tunnel/carriers/carrier.ts";
import { joinTunnel } from "../../src/tunnel/daemon/join.ts";
import type { QuicCarrier } from "../../src/tunnel/carriers/quic_carrier.ts";
import { createRouter } from "../../src/tunnel/requests/router.ts";
import { simpleAckCredential } from "../../src/tunnel/auth/simple_ack.ts";
import { Tunnel } from "../../src/tunnel/tunnel.ts";
import { assertRejects } from "../conformance/runtime_helpers.ts";
import { TUNNEL_AUTH_STEP_MS } from "../../src/tunnel/auth/port.ts";
import { TUNNEL_ANSWER_DEADLINE_MS } from "../../src/tunnel/requests/request.ts";
import { HELLO_DEADLINE_MS } from "../../src/wire/tls/client_hello.ts";

const router = createRouter({});

/** A carrier whose other side allows a stream when the test says so. */
class ShutCarrier implements Carrier {
  readonly transport = "test";
  readonly remote = { host: "192.0.2.1", port: 1 };
  readonly opening = Promise.withResolvers<ByteStream>();
  closedWith: SallyportError | undefined;
  attach(): void {}
  open(): Promise<ByteStream> {
    return this.opening.promise;
  }
  goAway(): void {}
  close(reason: SallyportError): void {
    this.closedWith = reason;
  }
}

const { clock, settle } = createMemoryNetwork();

describe("openWithin: a stream that the other side doesn't allow", () => {
  it("is waited for as long as for an answer, and is nobody's when it comes late", async () => {
    const carrier = new ShutCarrier();
    const tunnel = new Tunnel({ carrier, clock, name: "far", router });
    const beganMs = clock.nowMs();
    await settle(assertRejects(tunnel.open("/a"), "deadline_exceeded"));
    assert.equal(clock.nowMs() - beganMs, TUNNEL_ANSWER_DEADLINE_MS);
    let aborts = 0;
    carrier.opening.resolve({ abort: () => void aborts++ } as unknown as ByteStream);
    await carrier.opening.promise;
    assert.equal(aborts, 1);
  });

  it("can be given up", async () => {
    const tunnel = new Tunnel({ carrier: new ShutCarrier(), clock, name: "far", router });
    const leaving = new AbortController();
    const asked = tunnel.open("/a", { signal: leaving.signal });
    leaving.abort(new SallyportError("aborted", "The test has had enough", { side: "local" }));
    await assertRejects(asked, "aborted");
  });

  it("holds up no authentication", async () => {
    const carrier = new ShutCarrier();
    const beganMs = clock.nowMs();
    const joining = joinTunnel({ carrier, clock, name: "far", router, credentials: [simpleAckCredential()] });
    await settle(assertRejects(joining, "deadline_exceeded"));
    assert.equal(clock.nowMs() - beganMs, TUNNEL_AUTH_STEP_MS);
    assert.equal(carrier.closedWith?.code, "deadline_exceeded");
  });

  it("holds up no greeting of snocat's", async () => {
    const beganMs = clock.nowMs();
    const greeting = greetBySimpleAck(new ShutCarrier() as unknown as QuicCarrier, clock);
    await settle(assertRejects(greeting, "deadline_exceeded"));
    assert.equal(clock.nowMs() - beganMs, HELLO_DEADLINE_MS);
  });
});
