/** The directory behind a control connection, in the virtual network. */
import assert from "node:assert/strict";
import { it } from "node:test";
import { CONTROL_DEADLINE_MS, ControlConnection } from "../../src/cluster/control.ts";
import type { Directory } from "../../src/cluster/directory.ts";
import { createMemoryDirectory, DirectoryStore } from "../../src/cluster/memory_directory.ts";
import { directoryMethods, RemoteDirectory, tellChanges } from "../../src/cluster/remote_directory.ts";
import type { Conn } from "../../src/runtime/port.ts";
import { createMemoryNetwork } from "../../src/runtime/memory/memory.ts";
import { directorySuite } from "../conformance/directory_suite.ts";

const PORT = 7001;

directorySuite(async () => {
  const network = createMemoryNetwork();
  const { clock } = network;
  const store = new DirectoryStore();
  const runtime = network.runtime();
  let leaseMs: number | undefined;
  await runtime.listen({
    host: "10.0.0.1",
    port: PORT,
    accept: (conn) => {
      const own = createMemoryDirectory({ clock, store, ...leaseMs === undefined ? {} : { leaseMs } });
      tellChanges(own, new ControlConnection(conn, clock, directoryMethods(own)));
    },
  });
  // Virtual time stands still unless somebody lets it pass.
  const inTime = (directory: Directory): Directory =>
    new Proxy(directory, {
      get(target, key: keyof Directory) {
        const method: unknown = target[key];
        if (typeof method !== "function") return undefined;
        if (key === "watch") return method.bind(target);
        return (...args: unknown[]) => network.settle(method.apply(target, args) as Promise<unknown>);
      },
    });
  return {
    async open(lease?: number) {
      leaseMs = lease;
      const dialled = runtime.dial({ host: "10.0.0.1", port: PORT, timeoutMs: 1_000 });
      return inTime(new RemoteDirectory(new ControlConnection(await network.settle(dialled), clock, {})));
    },
    expire: async (lease: number) => void await network.advance(lease + 1),
    until: async (met) => {
      await network.advance(100);
      assert.ok(met());
    },
    close: () => Promise.resolve(),
  };
});

it("ControlConnection.call rejects when the other end throws, does not know the method, answers late or ends", async () => {
  const network = createMemoryNetwork();
  const { clock } = network;
  const runtime = network.runtime();
  const accepted = Promise.withResolvers<ControlConnection>();
  await runtime.listen({
    host: "10.0.0.1",
    port: PORT,
    accept: (conn) =>
      accepted.resolve(
        new ControlConnection(conn, clock, {
          fail: () => Promise.reject(new Error("no")),
          never: () => new Promise(() => {}),
          double: (value) => 2 * (value as number),
        }),
      ),
  });
  const dialled = runtime.dial({ host: "10.0.0.1", port: PORT, timeoutMs: 1_000 });
  const control = new ControlConnection(await network.settle(dialled), clock, {});
  assert.equal(await network.settle(control.call("double", 21)), 42);
  await assert.rejects(network.settle(control.call("fail")), { code: "internal" });
  await assert.rejects(network.settle(control.call("unknown")), { code: "not_supported" });
  const startedMs = clock.nowMs();
  await assert.rejects(network.settle(control.call("never")), { code: "io_failed" });
  assert.equal(clock.nowMs() - startedMs, CONTROL_DEADLINE_MS);
  const cut = control.call("never");
  (await accepted.promise).close();
  await assert.rejects(network.settle(cut), { code: "io_failed" });
  await network.settle(control.over);
  await assert.rejects(control.call("double", 1), { code: "io_failed" });
});

it("ControlConnection ends with frame_invalid at a line that is none, and offers only its own methods", async () => {
  const network = createMemoryNetwork();
  const { clock } = network;
  const runtime = network.runtime();
  let heard = "";
  let accept = Promise.withResolvers<Conn>();
  await runtime.listen({
    host: "10.0.0.1",
    port: PORT,
    accept: (conn) => {
      conn.attach({
        data: (chunk) => void (heard += new TextDecoder().decode(chunk)),
        end() {},
        drain() {},
        close() {},
      });
      accept.resolve(conn);
    },
  });
  const connect = async () => {
    accept = Promise.withResolvers();
    const dialled = runtime.dial({ host: "10.0.0.1", port: PORT, timeoutMs: 1_000 });
    const control = new ControlConnection(await network.settle(dialled), clock, {});
    const conn = await accept.promise;
    return { control, send: (line: string) => void conn.write(new TextEncoder().encode(`${line}\n`)) };
  };
  const lines = [
    ...["no JSON", "null", "{}", '{"call":-1,"method":"double"}', '{"call":1,"method":7}'],
    '{"answer":0,"error":7}',
  ];
  for (const line of lines) {
    const { control, send } = await connect();
    const asked = control.call("anything");
    send(line);
    await assert.rejects(network.settle(asked), { code: "frame_invalid" }, line.slice(0, 40));
    await network.settle(control.over);
  }
  heard = "";
  const { control, send } = await connect();
  send('{"call":1,"method":"constructor","argument":1}');
  await network.advance(100);
  assert.match(heard, /not_supported/);
  control.close();
});
