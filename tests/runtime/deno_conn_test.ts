/** How much Deno's connections queue. Their class needs nothing of Deno, so the tests run on Bun too. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { DenoConn } from "../../src/runtime/deno/deno_conn.ts";
import { makeShared } from "../support/runtime_shared.ts";

const KiB = 1024;
const CHUNK = new Uint8Array(64 * KiB);
const ADDRESS = { transport: "tcp", hostname: "127.0.0.1", port: 1 } as const;

/** A socket whose peer reads nothing. */
const STALLED = {
  remoteAddr: ADDRESS,
  localAddr: ADDRESS,
  setNoDelay: () => {},
  write: () => new Promise<number>(() => {}),
} as unknown as Deno.TcpConn;

/** Bytes that a connection has queued when it asks its writer to wait. */
function queuedBytes(conn: DenoConn): number {
  while (conn.write(CHUNK));
  return conn.bufferedBytes;
}

test("a connection queues 512 KiB, a session's as much as it says", () => {
  const shared = makeShared();
  assert.equal(queuedBytes(new DenoConn(STALLED, shared)), 512 * KiB);
  const session = new DenoConn(STALLED, shared);
  session.carrySession(1024 * KiB);
  assert.equal(queuedBytes(session), 1024 * KiB);
});

test("two hundred visitors that read nothing hold 128 KiB each, once 16 MiB are held", () => {
  const shared = makeShared();
  const held = Array.from({ length: 200 }, () => queuedBytes(new DenoConn(STALLED, shared)));
  assert.equal(held[0], 512 * KiB);
  assert.equal(held.at(-1), 128 * KiB);
  assert.ok(held.reduce((sum, bytes) => sum + bytes) < 48 * 1024 * KiB);
});
