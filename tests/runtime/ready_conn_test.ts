/** Connections on Deno that send and receive by the system's own calls; the class needs nothing of Deno. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import type { Bytes } from "../../src/bytes/bytes.ts";
import { ReadyConn } from "../../src/runtime/deno/ready_conn.ts";
import { type SocketLibrary, SystemSockets } from "../../src/runtime/deno/system_sockets.ts";
import { IDLE_BUFFER_BYTES } from "../../src/runtime/out_queue.ts";
import { pattern } from "../conformance/runtime_helpers.ts";
import { makeShared } from "../support/runtime_shared.ts";

const ADDRESS = { transport: "tcp", hostname: "127.0.0.1", port: 1 } as const;
const DESCRIPTOR = 7;

/** Resolves once all that is settled by now has been passed on. */
const settled = () => new Promise((resolve) => setImmediate(resolve));

/** A socket with something to read, which takes as much as it is told. */
class Socket {
  readonly sent: number[] = [];
  takesBytes = 0;
  arrived: Bytes = new Uint8Array(0);
  closed = false;
  /** The descriptor was used after the connection was closed: it may belong to another one. */
  reused = false;
  /** What Deno was asked to write, in order. */
  readonly written: number[][] = [];
  #reader: { buffer: Bytes; settle(count: number): void } | undefined;

  /** Some bytes come in: Deno's read is settled. */
  arrive(bytes: Bytes): void {
    if (this.#reader === undefined) return;
    this.arrived = bytes;
    const { buffer, settle } = this.#reader;
    this.#reader = undefined;
    settle(this.#take(buffer, buffer.length));
  }

  #take(into: Bytes, most: number): number {
    const piece = this.arrived.subarray(0, most);
    into.set(piece);
    this.arrived = this.arrived.subarray(piece.length);
    return piece.length;
  }

  /** Deno's side of it. */
  readonly conn = {
    remoteAddr: ADDRESS,
    localAddr: ADDRESS,
    setNoDelay() {},
    read: (buffer: Bytes) => new Promise<number>((settle) => this.#reader = { buffer, settle }),
    close: () => void (this.closed = true),
    closeWrite: () => Promise.resolve(),
    write: (bytes: Bytes) => Promise.resolve(this.written.push([...bytes]) && bytes.length),
  } as unknown as Deno.TcpConn;

  /** The system's. */
  readonly library = {
    send: (_descriptor: number, bytes: Bytes) => {
      this.reused ||= this.closed;
      if (this.takesBytes === 0) return -1;
      const piece = bytes.subarray(0, this.takesBytes);
      this.takesBytes -= piece.length;
      this.sent.push(...piece);
      return piece.length;
    },
    ioctl: (_descriptor: number, _request: number, result: Uint32Array) => {
      this.reused ||= this.closed;
      result[0] = this.arrived.length;
      return 0;
    },
    recv: (_descriptor: number, into: Bytes, most: number) => {
      this.reused ||= this.closed;
      return this.arrived.length === 0 ? -1 : this.#take(into, most);
    },
  } as unknown as SocketLibrary;
}

function connect(socket: Socket): { conn: ReadyConn; chunks: Bytes[] } {
  const conn = new ReadyConn(socket.conn, makeShared(), new SystemSockets(socket.library), DESCRIPTOR);
  const chunks: Bytes[] = [];
  conn.attach({ data: (chunk) => void chunks.push(chunk.slice()), end() {}, drain() {}, close() {} });
  return { conn, chunks };
}

describe("ReadyConn", () => {
  it("sends what the socket takes at once, and leaves the rest to Deno, in order", async () => {
    const socket = new Socket();
    const { conn } = connect(socket);
    socket.takesBytes = 3;
    conn.write(Uint8Array.of(1, 2, 3, 4, 5));
    assert.deepEqual(socket.sent, [1, 2, 3]);
    // The socket has room again, but not before what waits.
    socket.takesBytes = 100;
    conn.write(Uint8Array.of(6));
    assert.deepEqual([socket.sent.length, conn.bufferedBytes], [3, 3]);
    await settled();
    assert.deepEqual([socket.written, conn.bufferedBytes], [[[4, 5, 6]], 0]);
    conn.write(Uint8Array.of(7));
    assert.deepEqual(socket.sent, [1, 2, 3, 7]);
  });

  it("waits with the smallest buffer and receives the rest in one piece with it", async () => {
    const socket = new Socket();
    const { conn, chunks } = connect(socket);
    const bytes = pattern(100_000);
    await settled();
    socket.arrive(bytes);
    await settled();
    assert.deepEqual(chunks, [bytes]);
    assert.equal(conn.heldBytes, 0);
    socket.arrive(bytes.subarray(0, 5));
    await settled();
    assert.deepEqual(chunks.slice(1), [bytes.slice(0, 5)]);
  });

  it("takes no more than the smallest buffer from a socket while it is paused", async () => {
    const socket = new Socket();
    const { conn, chunks } = connect(socket);
    const bytes = pattern(100_000);
    await settled();
    conn.pause();
    socket.arrive(bytes);
    await settled();
    assert.deepEqual([chunks.length, socket.arrived.length], [0, bytes.length - IDLE_BUFFER_BYTES]);
    conn.resume();
    await settled();
    assert.deepEqual(chunks, [bytes.slice(0, IDLE_BUFFER_BYTES)]);
  });

  it("never uses its descriptor once it was closed, whatever arrives and is written in which order", async () => {
    const steps = ["arrive", "write", "pause", "resume", "closeWrite", "release", "abort", "settle"] as const;
    let closed = 0;
    await fc.assert(fc.asyncProperty(fc.array(fc.constantFrom(...steps), { minLength: 3 }), async (taken) => {
      const socket = new Socket();
      const { conn } = connect(socket);
      await settled();
      for (const step of taken) {
        socket.takesBytes = 3;
        if (step === "settle") await settled();
        else if (step === "arrive") socket.arrive(pattern(1_000));
        else if (step === "write") conn.write(pattern(5));
        else conn[step]();
      }
      await settled();
      conn.write(pattern(5));
      socket.arrive(pattern(1_000));
      await settled();
      if (socket.closed) closed++;
      assert.equal(socket.reused, false);
    }));
    assert.ok(closed > 20, `${closed} were closed`);
  });
});
