/** How Bun's connections take turns. Their class needs nothing of Bun, so the tests run on Deno too. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { BulkPace, CROWD } from "../../src/runtime/bulk_pace.ts";
import { BunConn, type SocketOwner } from "../../src/runtime/bun/bun_conn.ts";
import type { BunSocket } from "../../src/runtime/bun/bun_types.ts";
import { IGNORE_STREAM } from "../../src/runtime/port.ts";
import { makeShared } from "../support/runtime_shared.ts";

const KiB = 1024;

/** Connections that read in bulk, each once, with the rests of their pace. */
function readInBulk(count: number, open: (conn: BunConn) => void): { rests: boolean[]; flowing(): number } {
  const rests: boolean[] = [];
  const ends: (() => void)[] = [];
  const pace = new BulkPace((done, long) => void (rests.push(long), ends.push(done)), 64 * KiB, 64 * KiB);
  let flowing = count;
  const shared = { ...makeShared(), pace };
  const conns = Array.from({ length: count }, () => {
    const socket = { pause: () => flowing--, resume: () => flowing++ } as unknown as BunSocket<SocketOwner>;
    const conn = new BunConn(socket, shared);
    open(conn);
    conn.attach(IGNORE_STREAM);
    return conn;
  });
  for (const conn of conns) conn.received(new Uint8Array(64 * KiB));
  // A rest may begin the next one.
  for (let end = ends.shift(); end !== undefined; end = ends.shift()) end();
  return { rests, flowing: () => flowing };
}

describe("BunConn", () => {
  it("counts as a session once it carries one: many of them rest longer than as many visitors", () => {
    const visitors = readInBulk(2 * CROWD, () => {});
    assert.deepEqual(new Set(visitors.rests), new Set([false]));
    assert.equal(visitors.flowing(), 2 * CROWD);
    const sessions = readInBulk(2 * CROWD, (conn) => conn.carrySession());
    assert.ok(sessions.rests.includes(true), "no long rest");
    assert.equal(sessions.flowing(), 2 * CROWD);
    const few = readInBulk(CROWD - 1, (conn) => conn.carrySession());
    assert.deepEqual(new Set(few.rests), new Set([false]));
  });
});
