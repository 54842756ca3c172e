import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { SallyportError } from "../../src/errors.ts";
import { ADDRESS_DELAY_MS, ADDRESSES_MAX, dialByName, interleave } from "../../src/runtime/dial_by_name.ts";
import { createMemoryNetwork } from "../../src/runtime/memory/memory.ts";
import { currentRuntime } from "../../src/runtime/mod.ts";
import type { AddressJudge, Conn } from "../../src/runtime/port.ts";

const OPTIONS = { host: "name.test", port: 443, timeoutMs: 10_000 };

/** A world in which addresses answer after a while, refuse after a while, or do nothing. */
function world(
  answers: Record<string, { readonly afterMs: number; readonly refuses?: boolean } | undefined>,
  permits?: AddressJudge,
) {
  const network = createMemoryNetwork({ seed: 1 });
  const tried: [atMs: number, host: string][] = [];
  const aborted: string[] = [];
  const startMs = network.clock.nowMs();
  const parts = {
    clock: network.clock,
    resolve: () => Promise.resolve(Object.keys(answers)),
    connect: ({ host, timeoutMs }: { host: string; timeoutMs: number }) => {
      tried.push([network.clock.nowMs() - startMs, host]);
      return new Promise<Conn>((resolve, reject) => {
        const answer = answers[host];
        const afterMs = Math.min(answer?.afterMs ?? Infinity, timeoutMs);
        network.clock.after(afterMs, () => {
          if (answer !== undefined && answer.refuses !== true) {
            resolve({ remote: { host, port: 443 }, abort: () => void aborted.push(host) } as unknown as Conn);
          } else reject(new SallyportError("connection_refused", `refused by ${host}`, { side: "network" }));
        });
      });
    },
  };
  return {
    network,
    tried,
    aborted,
    dialled: dialByName({ ...OPTIONS, permits }, parts).then((conn) => conn.remote.host),
  };
}

describe("dialByName", () => {
  it("starts the next address when one doesn't answer, and keeps the first that does", async () => {
    const { network, tried, aborted, dialled } = world({
      "2001:db8::1": undefined,
      "192.0.2.1": { afterMs: 400 },
      "2001:db8::2": { afterMs: 300 },
    });
    await network.advance(1_000);
    assert.equal(await dialled, "192.0.2.1");
    assert.deepEqual(tried, [[0, "2001:db8::1"], [ADDRESS_DELAY_MS, "192.0.2.1"], [
      2 * ADDRESS_DELAY_MS,
      "2001:db8::2",
    ]]);
    // One that comes too late is closed.
    assert.deepEqual(aborted, ["2001:db8::2"]);
  });

  it("starts the next one at once where one refuses, and says the first reason where all do", async () => {
    const refuses = { afterMs: 10, refuses: true };
    const one = world({ "2001:db8::1": refuses, "192.0.2.1": { afterMs: 10 } });
    await one.network.advance(30);
    assert.equal(await one.dialled, "192.0.2.1");
    const none = world({ "2001:db8::1": refuses, "192.0.2.1": refuses });
    const failed = assert.rejects(none.dialled, { message: "refused by 2001:db8::1" });
    await none.network.advance(30);
    await failed;
  });

  it("dials no address that isn't permitted", async () => {
    const answers = { "10.0.0.1": { afterMs: 1 }, "192.0.2.1": { afterMs: 400 }, "::1": { afterMs: 1 } };
    const some = world(answers, (address) => address === "192.0.2.1");
    await some.network.advance(1_000);
    assert.equal(await some.dialled, "192.0.2.1");
    assert.deepEqual(some.tried.map(([, host]) => host), ["192.0.2.1"]);
    const none = world(answers, () => false);
    await assert.rejects(none.dialled, { code: "access_denied", message: /name\.test.*10\.0\.0\.1/ });
    assert.deepEqual(none.tried, []);
  });

  it("keeps to the deadline of all of them together", async () => {
    const { network, dialled } = world({ "2001:db8::1": undefined, "192.0.2.1": undefined });
    const failed = assert.rejects(dialled, { code: "connection_refused" });
    await network.advance(OPTIONS.timeoutMs);
    await failed;
  });

  it("reaches a name of this machine that listens on IPv4 only, and one on IPv6 only", async () => {
    const runtime = await currentRuntime();
    for (const host of ["127.0.0.1", "::1"]) {
      const listener = await runtime.listen({
        host,
        port: 0,
        accept: (conn) => conn.attach({ data() {}, end: () => conn.closeWrite(), drain() {}, close() {} }),
      }).catch(() => undefined);
      const addresses = await runtime.resolve("localhost");
      if (listener === undefined || !addresses.includes(host)) continue;
      const conn = await runtime.dial({ host: "localhost", port: listener.address.port, timeoutMs: 5_000 });
      assert.equal(conn.remote.host, host);
      await new Promise<void>((resolve) => {
        conn.attach({ data() {}, end() {}, drain() {}, close: () => resolve() });
        conn.closeWrite();
      });
      listener.close();
    }
  });
});

describe("interleave", () => {
  it("takes the families in turn, the system's favourite first, each address once", () => {
    assert.deepEqual(interleave(["::1", "::2", "10.0.0.1", "::1", "::3"]), ["::1", "10.0.0.1", "::2", "::3"]);
    assert.deepEqual(interleave(["10.0.0.1", "10.0.0.2", "::1"]), ["10.0.0.1", "::1", "10.0.0.2"]);
    assert.equal(interleave(Array.from({ length: 20 }, (_, i) => `10.0.0.${i}`)).length, ADDRESSES_MAX);
  });
});
