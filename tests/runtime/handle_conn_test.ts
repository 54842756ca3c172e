/** Deno's connections on TCP handles. Their classes need nothing of Deno, so the tests run on Bun too, on a handle of their own. */
import assert from "node:assert/strict";
import process from "node:process";
import { describe, it } from "node:test";
import fc from "fast-check";
import type { Bytes } from "../../src/bytes/bytes.ts";
import { ACCEPT_BURST } from "../../src/runtime/deno/accept_pace.ts";
import { HandleConn, type HandleShared } from "../../src/runtime/deno/handle_conn.ts";
import { listenOnHandle, LOOK_MS } from "../../src/runtime/deno/handle_listener.ts";
import { SystemSockets } from "../../src/runtime/deno/system_sockets.ts";
import {
  END,
  openTcpHandles,
  type TcpHandle,
  TcpHandles,
  type TcpRequest,
} from "../../src/runtime/deno/tcp_handles.ts";
import { DescriptorGuard } from "../../src/runtime/descriptors.ts";
import type { Conn } from "../../src/runtime/port.ts";
import { makeShared } from "../support/runtime_shared.ts";
import { until } from "../support/until.ts";

const KiB = 1024;
const REMOTE = { host: "192.0.2.1", port: 1 };
const EPIPE = -32;
const DESCRIPTOR = 9;

/** What a handle's calls leave behind, for all of them. */
const state = new Int32Array(2);

/** A handle whose socket takes `room` bytes; it notes what is called. */
class FakeHandle {
  owner: unknown;
  onread = () => {};
  onconnection = () => {};
  room = Infinity;
  writing: { readonly request: TcpRequest; readonly bytes: Bytes } | undefined;
  readonly calls: string[] = [];
  /** Connections that wait: in the system, and taken from it but not accepted. */
  waiting = 0;
  taken = 0;
  /** Whether new connections reach the handle. */
  looking = false;

  getpeername = (name: Record<string, unknown>) =>
    Object.assign(name, { address: REMOTE.host, port: REMOTE.port }) && 0;
  getsockname = this.getpeername;
  fdForIpc = (): number => DESCRIPTOR;
  useUserBuffer = () => {};
  setNoDelay = () => 0;
  bindWithFlags = () => 0;
  readStart = () => this.#note("readStart");
  readStop = () => this.#note("readStop");
  shutdown = () => this.#note("shutdown");
  reset = () => this.#note("reset");
  close = () => void this.#note("close");
  #note(call: string): number {
    this.calls.push(call);
    return 0;
  }

  writeBuffer(request: TcpRequest, bytes: Bytes): number {
    const fits = bytes.length <= this.room;
    this.room -= Math.min(bytes.length, this.room);
    if (!fits) this.writing = { request, bytes };
    state[1] = fits ? 0 : 1;
    return 0;
  }

  /** As Deno's: it takes all from the system if it has none left, and only then hears of others. */
  listen = () => {
    queueMicrotask(() => this.poll());
    return 0;
  };
  poll(): void {
    if (this.taken === 0) {
      [this.taken, this.waiting] = [this.waiting, 0];
      this.looking = true;
    } else this.looking = false;
    for (let before = -1; this.taken > 0 && before !== this.taken;) {
      before = this.taken;
      this.onconnection();
    }
  }
  accept = () => {
    this.taken--;
    return 0;
  };

  /** Bytes, the end or an error arrive. */
  arrive(result: number): void {
    state[0] = result;
    this.onread.call(this as unknown as TcpHandle);
  }
}

function handlesOf(make: () => FakeHandle): TcpHandles {
  const TCP = make as unknown as new () => TcpHandle;
  const constants = { SOCKET: 0, SERVER: 1, UV_TCP_REUSEPORT: 4 };
  return new TcpHandles(
    {
      TCP: function () {
        return make();
      } as unknown as typeof TCP,
      constants,
    },
    { streamBaseState: state, kReadBytesOrError: 0, kLastWriteWasAsync: 1 },
  );
}

function connected(sockets?: SystemSockets, more: Partial<HandleShared> = {}) {
  const handle = new FakeHandle();
  const shared = { ...makeShared(), handles: handlesOf(() => handle), sockets, ...more };
  const conn = new HandleConn(handle as unknown as TcpHandle, REMOTE, shared);
  const events: unknown[] = [];
  conn.attach({
    data: (chunk) => void events.push(chunk.length),
    end: () => void events.push("end"),
    drain: () => void events.push("drain"),
    close: (error) => void events.push(error === undefined ? "close" : (error as { code?: unknown }).code),
  });
  return { handle, conn, events, shared };
}

describe("HandleConn", () => {
  it("has all it needs on this Deno", { skip: process.versions.deno === undefined }, () => {
    assert.notEqual(openTcpHandles(), undefined);
  });

  it("keeps what the handle is writing until it is written, also when it is aborted meanwhile", () => {
    const { handle, conn, events, shared } = connected();
    handle.room = 10;
    const source = new Uint8Array(512 * KiB).fill(7);
    assert.equal(conn.write(source), false);
    source.fill(8);
    const { bytes, request } = handle.writing!;
    assert.ok(bytes.every((byte) => byte === 7));
    handle.room = Infinity;
    request.oncomplete(0);
    assert.deepEqual([conn.bufferedBytes, events], [0, ["drain"]]);
    handle.room = 0;
    conn.write(source);
    const inFlight = handle.writing!.bytes;
    conn.abort();
    assert.equal(handle.writing!.request.buffer, inFlight);
    for (let i = 0; i < 64; i++) assert.notEqual(shared.pool.take(3).buffer, inFlight.buffer);
  });

  it("ends with an error when the peer no longer reads", () => {
    const { handle, conn, events } = connected();
    handle.room = 0;
    conn.write(new Uint8Array(1));
    handle.writing!.request.oncomplete(EPIPE);
    assert.deepEqual(events, ["connection_lost"]);
    assert.ok(handle.calls.includes("close"));
  });

  it("lets others have their turn after a read in bulk, and reads on after it", async () => {
    const { handle, events } = connected();
    handle.arrive(10);
    assert.deepEqual(handle.calls, ["readStart"]);
    handle.arrive(64 * KiB);
    assert.deepEqual(handle.calls, ["readStart", "readStop"]);
    await Promise.resolve();
    assert.deepEqual(handle.calls, ["readStart", "readStop", "readStart"]);
    handle.arrive(END);
    assert.deepEqual(events, [10, 64 * KiB, "end"]);
  });

  it("sends bulk directly, by a descriptor of its own that is closed before the handle", () => {
    const calls: (string | number)[] = [];
    const library = {
      send: (descriptor: number, _: Bytes, length: number) =>
        calls.push("send", descriptor, length) && length - 1,
      close: (descriptor: number) => calls.push("close", descriptor),
    };
    const { handle, conn } = connected(new SystemSockets(library));
    handle.close = () => void calls.push("handle");
    handle.room = 0;
    conn.write(new Uint8Array(64 * KiB));
    assert.deepEqual([handle.writing!.bytes.length, conn.bufferedBytes], [1, 1]);
    // What is queued goes first.
    conn.write(new Uint8Array(64 * KiB));
    assert.equal(conn.bufferedBytes, 64 * KiB + 1);
    conn.abort();
    assert.deepEqual(calls, ["send", DESCRIPTOR, 64 * KiB, "close", DESCRIPTOR, "handle"]);
  });
});

describe("DirectWriter", () => {
  it("takes no descriptor where accepted connections need those that are left, and counts the one that it takes", () => {
    let open = 80;
    let nowMs = 0;
    const descriptors = new DescriptorGuard({
      limit: () => 100,
      open: () => open,
      nowMs: () => nowMs += 100,
    });
    const library = { send: (_: number, bytes: Bytes) => bytes.length, close: () => 0 };
    const sends = () => {
      const { handle, conn } = connected(new SystemSockets(library), { descriptors });
      handle.room = 0;
      conn.write(new Uint8Array(64 * KiB));
      return handle.writing === undefined;
    };
    // The last sixteen stay free.
    assert.deepEqual([sends(), sends(), sends(), sends()], [true, true, true, true]);
    open = 84;
    assert.equal(sends(), false);
    open = 83;
    assert.equal(sends(), true);
  });

  it("isn't used once it was closed, whatever arrives and is written in which order", () => {
    const steps = [
      "arrive",
      "write",
      "written",
      "pause",
      "resume",
      "closeWrite",
      "release",
      "abort",
    ] as const;
    let closes = 0;
    fc.assert(fc.property(fc.array(fc.constantFrom(...steps), { minLength: 3 }), (taken) => {
      let open = 0;
      const library = {
        send: (_: number, bytes: Bytes) => {
          assert.equal(open, 1);
          return bytes.length >> 1;
        },
        close: () => open--,
      };
      const { handle, conn } = connected(new SystemSockets(library));
      handle.fdForIpc = () => ++open;
      for (const step of [...taken, "write"] as const) {
        handle.room = 20 * KiB;
        if (step === "arrive") handle.arrive(100);
        else if (step === "write") conn.write(new Uint8Array(64 * KiB));
        else if (step === "written") {
          const { writing } = handle;
          handle.writing = undefined;
          writing?.request.oncomplete(0);
        } else conn[step]();
      }
      if (handle.calls.includes("close")) {
        closes++;
        assert.equal(open, 0);
      }
    }));
    assert.ok(closes > 20, `${closes} were closed`);
  });
});

describe("listenOnHandle", () => {
  it("accepts a few at a time, and hears of those that come after a pause", async () => {
    const server = new FakeHandle();
    let isFirst = true;
    const handles = handlesOf(() => {
      const handle = isFirst ? server : new FakeHandle();
      isFirst = false;
      return handle;
    });
    let accepted = 0;
    const accept = (conn: Conn) => {
      accepted++;
      conn.attach({ data() {}, end() {}, drain() {}, close() {} });
    };
    const options = { host: "127.0.0.1", port: 0, accept };
    const listener = listenOnHandle(options, { ...makeShared(), handles, sockets: undefined }, 128);
    await Promise.resolve();
    server.waiting = 5 * ACCEPT_BURST - 1;
    server.poll();
    assert.equal(accepted, 2 * ACCEPT_BURST);
    // Sooner than it looks by itself.
    await until(() => accepted === 5 * ACCEPT_BURST - 1 && server.looking, LOOK_MS / 2);
    listener.close();
  });
});
