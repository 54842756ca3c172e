import assert from "node:assert/strict";
import { Faults } from "../../src/runtime/shared.ts";
import { it } from "node:test";
import { SallyportError } from "../../src/errors.ts";
import type { ByteStream } from "../../src/runtime/port.ts";
import { QuicConnBase } from "../../src/runtime/quic_shared.ts";
import { assertRejects } from "../conformance/runtime_helpers.ts";
import { QUIC_STREAMS_MAX } from "../../src/runtime/quic_port.ts";

/** A connection whose peer allows no streams until the test says so. */
class ShutConn extends QuicConnBase {
  readonly remote = { host: "192.0.2.1", port: 1 };
  readonly alpn = "test";
  readonly peerFingerprint = undefined;
  readonly allow: (() => void)[] = [];

  protected openBelow(): Promise<ByteStream> {
    return new Promise((resolve) => this.allow.push(() => resolve({} as ByteStream)));
  }
  protected closeBelow(): void {}
}

it("streams that a peer doesn't allow are waited for in bounded number", async () => {
  const conn = new ShutConn(new Faults());
  const waiting = Array.from({ length: QUIC_STREAMS_MAX }, () => conn.open());
  await assertRejects(conn.open(), "limit_exceeded");
  assert.equal(conn.allow.length, QUIC_STREAMS_MAX);
  conn.allow.shift()!();
  await waiting.shift();
  waiting.push(conn.open());
  await assertRejects(conn.open(), "limit_exceeded");
  const reason = new SallyportError("shutdown", "The test is over", { side: "local" });
  conn.close(reason);
  for (const allow of conn.allow) allow();
  for (const open of waiting) await assertRejects(open, "shutdown");
});
