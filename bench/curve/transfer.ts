/**
 * One session and one stream in it, by SniTun's TCP or by the curve transport, in two processes:
 *
 *     transfer.ts edge  snitun|curve HOST PORT MEGABYTES [vegas|newreno]
 *     transfer.ts agent snitun|curve HOST PORT MEGABYTES [vegas|newreno]
 *
 * The edge writes, the agent reads and prints a line of JSON: MB/s from dialling on, and each side's processor seconds.
 *
 * @module
 */
import process from "node:process";
import { FernetRing } from "../../src/crypto/fernet.ts";
import { keyPair, loadSodium } from "../../src/crypto/sodium.ts";
import { SallyportError } from "../../src/errors.ts";
import { createToken, tryOpenToken } from "../../src/protocol/token/token.ts";
import { SendScratch } from "../../src/protocol/mux/snitun/sender.ts";
import { currentRuntime } from "../../src/runtime/mod.ts";
import type { Bytes } from "../../src/runtime/port.ts";
import { listenCurve } from "../../src/transport/curve/accept.ts";
import { dialCurve } from "../../src/transport/curve/dial.ts";
import type { Session, SessionHandler, SessionStream } from "../../src/transport/port.ts";
import { acceptSnitun } from "../../src/transport/snitun/accept.ts";
import { dialSnitun } from "../../src/transport/snitun/dial.ts";

const [role, transport, host = "", portText, megabytes, congestion = "vegas"] = process.argv.slice(2);
const port = Number(portText);
const total = Number(megabytes) * 1e6;
const runtime = await currentRuntime();
const { clock } = runtime;
const ring = new FernetRing(["AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="]);
const crypto = await loadSodium();
// Both processes know the key: what it protects here is nothing.
const keys = keyPair(crypto, new Uint8Array(32).fill(7));
const control = congestion === "newreno" ? "newreno" as const : "vegas" as const;

const cpuSeconds = (): number => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
};

/** A session's handler; the session's end is the program's. */
function handler(stream: (stream: SessionStream) => void): SessionHandler {
  return {
    stream,
    streamClosed() {},
    streamRefused() {},
    ended: () => setTimeout(() => process.exit(0), 50),
  };
}

function write(session: Session): void {
  const stream = session.open({ address: "192.0.2.7" });
  const chunk: Bytes = new Uint8Array(64 * 1024);
  let left = total;
  const started = cpuSeconds();
  const pump = () => {
    while (left > 0) {
      const part = left < chunk.length ? chunk.subarray(0, left) : chunk;
      left -= part.length;
      if (!stream.write(part)) return;
    }
    stream.closeWrite();
  };
  stream.attach({
    data() {},
    end() {},
    drain: pump,
    close: () => {
      const { rttMs } = session;
      console.log(
        JSON.stringify({ edge_cpu_s: cpuSeconds() - started, rtt_ms: rttMs, ...session.summary?.() }),
      );
      session.close(new SallyportError("shutdown", "Session ended: all is sent", { side: "local" }));
    },
  });
  pump();
}

const openToken = (token: Bytes) => tryOpenToken(ring, token, clock.wallMs() / 1000);
const admit = (_: unknown, session: Session) => {
  setTimeout(() => write(session), 0);
  return handler(() => {});
};
const refused = (error: unknown) => console.error(error);

if (role === "edge" && transport === "curve") {
  const common = { openToken, authorize: () => {}, admit, refused };
  await listenCurve({ admission: common, runtime, host, port, crypto, keys, congestion: control });
} else if (role === "edge") {
  const shared = { clock, scratch: new SendScratch() };
  const admission = { openToken, authorize: () => {}, admit, refused };
  await runtime.listen({
    host,
    port,
    accept: (conn) => {
      const accepted = {
        conn,
        received: new Uint8Array(0),
        remote: conn.remote,
        acceptedAtMs: clock.nowMs(),
      };
      acceptSnitun({ ...accepted, alone: false, known() {}, left() {} }, shared, admission);
    },
  });
} else {
  const { token, claims } = createToken(ring, { hostname: "a.test", ttlSeconds: 600, nowMs: clock.wallMs() });
  const startMs = performance.now();
  const startCpu = cpuSeconds();
  const admitted = () =>
    handler((stream) => {
      let got = 0;
      stream.attach({
        data: (chunk) => {
          got += chunk.length;
          // Not at the end: SniTun has no half-close, and waits out a grace before it tells.
          if (got !== total) return;
          const seconds = (performance.now() - startMs) / 1000;
          const agent_cpu_s = cpuSeconds() - startCpu;
          console.log(JSON.stringify({ transport, got, seconds, mb_s: got / 1e6 / seconds, agent_cpu_s }));
          stream.closeWrite();
        },
        end() {},
        drain() {},
        close() {},
      });
    });
  const shared = { runtime, host, port, token, admitted };
  if (transport === "curve") {
    await dialCurve({
      ...shared,
      aesKey: claims.aesKey,
      crypto,
      edgePublicKey: keys.publicKey,
      congestion: control,
    });
  } else {
    const { aesKey, aesIv, cipher, protocolVersion } = claims;
    await dialSnitun({
      ...shared,
      clock,
      scratch: new SendScratch(),
      aesKey,
      aesIv,
      cipher,
      protocolVersion,
    });
  }
}
