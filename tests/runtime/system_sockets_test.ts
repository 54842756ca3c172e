/** Descriptors of Deno's connections, and the system's calls on them. */
import assert from "node:assert/strict";
import { createServer, type Socket } from "node:net";
import process from "node:process";
import { describe, it } from "node:test";
import { openSystemSockets, type SystemSockets } from "../../src/runtime/deno/system_sockets.ts";
import { IDLE_BUFFER_BYTES } from "../../src/runtime/out_queue.ts";
import { portOf } from "../support/plain_peer.ts";

const skip = process.versions.deno === undefined ? "the runtime is another" : Deno.build.os !== "linux";

/** A dialled connection, with the descriptor that it was expected to have, and the accepted one. */
async function connected(
  sockets: SystemSockets,
  hostname: string,
): Promise<{ dialled: Deno.TcpConn; expected: number; accepted: Deno.TcpConn }> {
  using listener = Deno.listen({ hostname, port: 0 });
  const expected = sockets.next();
  const dialling = Deno.connect({ hostname, port: listener.addr.port });
  const [dialled, accepted] = await Promise.all([dialling, listener.accept()]);
  return { dialled, expected, accepted };
}

describe("SystemSockets", { skip }, () => {
  it("finds the sockets of accepted and dialled connections", async () => {
    const sockets = openSystemSockets()!;
    for (const hostname of ["127.0.0.1", "::1"]) {
      const { dialled, expected, accepted } = await connected(sockets, hostname);
      using _dialled = dialled;
      using _accepted = accepted;
      const [near, far] = [sockets.find(dialled, expected), sockets.find(accepted, undefined)];
      assert.equal(near, expected, "Deno no longer opens the socket within the call");
      assert.ok(far !== undefined, "Deno no longer says the descriptor of what it accepts");
      assert.equal(sockets.send(near!, Uint8Array.of(1, 2, 3)), 3);
      const buffer = new Uint8Array(9);
      assert.equal(await accepted.read(buffer), 3);
      assert.deepEqual([...buffer.subarray(0, 3)], [1, 2, 3]);
    }
  });

  it("finds none where another connection has the expected descriptor", async () => {
    const sockets = openSystemSockets()!;
    const one = await connected(sockets, "127.0.0.1");
    const other = await connected(sockets, "127.0.0.1");
    const conns = [one.dialled, one.accepted, other.dialled, other.accepted];
    assert.equal(sockets.find(one.dialled, other.expected), undefined);
    assert.equal(sockets.find(one.dialled, sockets.find(one.accepted, undefined)), undefined);
    assert.equal(sockets.find(one.dialled, 0), undefined);
    assert.equal(sockets.find(one.dialled, undefined), undefined);
    for (const conn of conns) conn.close();
  });

  it("leaves a reset to Deno's next read", async () => {
    const sockets = openSystemSockets()!;
    let peer!: Socket;
    const server = createServer((socket) => {
      peer = socket.on("error", () => {});
      socket.write(new Uint8Array(IDLE_BUFFER_BYTES));
    });
    await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
    const expected = sockets.next();
    using conn = await Deno.connect({ hostname: "127.0.0.1", port: portOf(server) });
    const descriptor = sockets.find(conn, expected)!;
    const first = new Uint8Array(IDLE_BUFFER_BYTES);
    assert.equal(await conn.read(first), first.length);
    peer.resetAndDestroy();
    await new Promise<void>((done) => server.close(() => done()));
    assert.equal(sockets.receive(descriptor, first).length, first.length);
    await assert.rejects(conn.read(first), Deno.errors.ConnectionReset);
  });
});
