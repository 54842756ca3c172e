import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { Bytes } from "../../src/bytes/bytes.ts";
import { createMemoryNetwork } from "../../src/runtime/memory/memory.ts";
import { type Proxy, PROXY_ANSWER_MAX_BYTES, throughProxy } from "../../src/runtime/through_proxy.ts";
import { Watched } from "../conformance/runtime_helpers.ts";

const HTTP: Proxy = { kind: "http", host: "10.0.0.9", port: 3128 };
const SOCKS: Proxy = { kind: "socks5", host: "10.0.0.9", port: 1080 };
const bytes = (text: string): Bytes => new TextEncoder().encode(text);

/** A proxy that answers each thing it hears with the next of these. */
async function dialled(proxy: Proxy, answers: readonly Bytes[], host = "edge.test") {
  const network = createMemoryNetwork({ seed: 1 });
  const heard: Bytes[] = [];
  const left = [...answers];
  await network.runtime(proxy.host).listen({
    host: proxy.host,
    port: proxy.port,
    accept(conn) {
      const watched = new Watched(conn);
      watched.onData = (chunk) => {
        heard.push(chunk.slice());
        const answer = left.shift();
        if (answer !== undefined) conn.write(answer);
      };
    },
  });
  const runtime = throughProxy(network.runtime("10.0.0.2"), proxy);
  const outcome = runtime.dial({ host, port: 8443, timeoutMs: 5_000 });
  outcome.catch(() => {});
  await network.advance(100);
  return { network, runtime, heard, outcome };
}

describe("throughProxy", () => {
  it("opens a way by CONNECT, whose answer may come with other lines", async () => {
    const { heard, outcome } = await dialled({ ...HTTP, user: "u", password: "p:w" }, [
      bytes("HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n"),
    ], "2001:db8::1");
    await outcome;
    assert.equal(
      new TextDecoder().decode(heard[0]),
      "CONNECT [2001:db8::1]:8443 HTTP/1.1\r\nHost: [2001:db8::1]:8443\r\nProxy-Authorization: Basic dTpwOnc=\r\n\r\n",
    );
  });

  it("opens a way by SOCKS 5, with names left to the proxy", async () => {
    const { heard, outcome } = await dialled({ ...SOCKS, user: "u", password: "pw" }, [
      Uint8Array.of(5, 2),
      Uint8Array.of(1, 0),
      Uint8Array.of(5, 0, 0, 1, 10, 0, 0, 1, 0, 80),
    ]);
    await outcome;
    assert.deepEqual(heard, [
      Uint8Array.of(5, 2, 0, 2),
      Uint8Array.of(1, 1, ...bytes("u"), 2, ...bytes("pw")),
      Uint8Array.of(5, 1, 0, 3, 9, ...bytes("edge.test"), 8443 >> 8, 8443 & 255),
    ]);
    for (
      const [host, address] of [["192.0.2.1", [1, 192, 0, 2, 1]], ["::ffff:1.2.3.4", [
        ...[4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 1, 2, 3, 4],
      ]]] as const
    ) {
      const { heard } = await dialled(SOCKS, [Uint8Array.of(5, 0)], host);
      assert.deepEqual([...heard[1]!.subarray(3, -2)], address);
    }
  });

  it("says what the proxy refuses, and what would be right", async () => {
    const cases: readonly [Proxy, Bytes[], RegExp][] = [
      [
        HTTP,
        [bytes("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")],
        /407 .*requires http:\/\/USER:PASSWORD@/,
      ],
      [{ ...HTTP, user: "u" }, [bytes("HTTP/1.1 407 No\r\n\r\n")], /user or password is wrong/],
      [HTTP, [bytes("HTTP/1.1 403 Forbidden\r\n\r\n")], /it answers 403 Forbidden/],
      [HTTP, [bytes("SSH-2.0-x\r\n")], /doesn't answer in HTTP/],
      [HTTP, [bytes(`HTTP/1.1 200 OK\r\n${"x".repeat(PROXY_ANSWER_MAX_BYTES)}`)], /is too long/],
      [HTTP, [bytes("HTTP/1.1 200 OK\r\n\r\nmore")], /bytes after its answer/],
      [SOCKS, [bytes("HTTP/1.1 400 Bad\r\n\r\n")], /doesn't answer in SOCKS 5/],
      [SOCKS, [Uint8Array.of(5, 255)], /requires socks5:\/\/USER:PASSWORD@/],
      [SOCKS, [Uint8Array.of(5, 0), Uint8Array.of(5, 5, 0, 1, 0, 0, 0, 0, 0, 0)], /connection refused/],
      [{ ...SOCKS, user: "u" }, [Uint8Array.of(5, 2), Uint8Array.of(1, 1)], /user or password is wrong/],
    ];
    for (const [proxy, answers, message] of cases) {
      const { outcome } = await dialled(proxy, answers);
      await assert.rejects(outcome, { code: "connection_refused", message });
    }
  });

  it("says that it is the proxy that can't be reached", async () => {
    const network = createMemoryNetwork({ seed: 1 });
    network.runtime(HTTP.host);
    const runtime = throughProxy(network.runtime("10.0.0.2"), HTTP);
    const outcome = assert.rejects(runtime.dial({ host: "edge.test", port: 8443, timeoutMs: 5_000 }), {
      code: "connection_refused",
      message: "Cannot connect through the proxy: it can't be reached: 10.0.0.9:3128: connection refused",
    });
    await network.advance(100);
    await outcome;
  });

  it("gives up in time where the proxy says nothing, and doesn't carry UDP", async () => {
    const { network, runtime, outcome } = await dialled(HTTP, []);
    const failed = assert.rejects(outcome, { code: "deadline_exceeded" });
    await network.advance(5_000);
    await failed;
    await assert.rejects(runtime.quic(), {
      code: "not_supported",
      message: /UDP doesn't go through .*10\.0\.0\.9:3128/,
    });
    await assert.rejects(runtime.bindDatagram({ host: "::", port: 0, receive() {} }), {
      code: "not_supported",
    });
  });
});
