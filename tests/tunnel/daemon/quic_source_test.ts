/** A daemon's tunnels over QUIC: in memory, and over the runtime's own. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { certificateFingerprint, makeCertificate } from "../../../src/crypto/certificate.ts";
import { createMemoryNetwork } from "../../../src/runtime/memory/memory.ts";
import { currentRuntime } from "../../../src/runtime/mod.ts";
import type { Conn, Runtime } from "../../../src/runtime/port.ts";
import { secretAuthenticator, secretCredential } from "../../../src/tunnel/auth/secret.ts";
import { createTunnelDaemon } from "../../../src/tunnel/daemon/daemon.ts";
import { joinTunnel } from "../../../src/tunnel/daemon/join.ts";
import { dialQuicTunnel, listenQuicTunnels } from "../../../src/tunnel/daemon/quic_source.ts";
import { createRouter } from "../../../src/tunnel/requests/router.ts";
import { assertRejects, bytesOf, pattern, Watched } from "../../conformance/runtime_helpers.ts";

const secret = bytesOf("0123456789abcdef");
const router = createRouter({
  "/echo": () => (stream) =>
    stream.attach({
      data: (chunk) => void stream.write(chunk),
      end: () => stream.closeWrite(),
      drain() {},
      close() {},
    }),
});

/** Tunnels by secret, streams from either side, and nothing of who isn't let in. */
async function story(server: Runtime, client: Runtime, host: string): Promise<void> {
  const wallMs = server.clock.wallMs();
  const identity = await makeCertificate({ commonName: "edge", names: ["edge"], validDays: 2, wallMs });
  const events: string[] = [];
  const refusals: string[] = [];
  const authenticators = [secretAuthenticator((name) => name === "device" ? { secret } : undefined)];
  const daemon = createTunnelDaemon({
    clock: server.clock,
    authenticators,
    router,
    event: ({ kind, tunnel }) => void events.push(`${kind} ${tunnel.name}`),
    refused: ({ code }) => void refusals.push(code),
  });
  const source = await listenQuicTunnels({ runtime: server, listen: { host, port: 0 }, identity });
  const trust = { fingerprint: certificateFingerprint(identity.certificatePem) };
  const dial = () => dialQuicTunnel({ runtime: client, server: source.address, trust });
  const join = async (name: string) =>
    await joinTunnel({
      carrier: await dial(),
      clock: client.clock,
      credentials: [secretCredential(name, secret)],
      router,
      name: "edge",
    });

  // Nobody takes tunnels yet.
  await assert.rejects(join("device"));
  daemon.attach(source);
  await assertRejects(join("stranger"), "unauthorized");
  const tunnel = await join("device");
  assert.equal(tunnel.transport, "quic");
  const near = async (from: typeof tunnel, seed: number) => {
    const stream = new Watched(await from.open("/echo") as Conn);
    const bytes = pattern(50_000, seed);
    stream.write(bytes);
    stream.closeWrite();
    await stream.sawEnd;
    assert.deepEqual(Buffer.concat(stream.chunks), Buffer.from(bytes));
  };
  await near(tunnel, 1);
  const there = daemon.find("device");
  assert.ok(there);
  const both = Array.from({ length: 200 }, (_, i) => near(i % 2 === 0 ? tunnel : there, i + 2));
  await Promise.all(both);
  await assertRejects(there.open("/nothing"), "request_refused");
  await daemon.close(1_000);
  source.end();
  await tunnel.closed;
  assert.deepEqual(events, ["connected device", "authenticated device", "disconnected device"]);
  assert.deepEqual(refusals, ["unauthorized"]);
}

describe("listenQuicTunnels and dialQuicTunnel", () => {
  it("in memory", async () => {
    const network = createMemoryNetwork({ seed: 2 });
    await network.settle(story(network.runtime("10.0.0.1"), network.runtime("10.0.0.2"), "10.0.0.1"));
  });

  it("over the runtime's own", { timeout: 60_000 }, async () => {
    const runtime = await currentRuntime();
    await story(runtime, runtime, "127.0.0.1");
  });
});
