/**
 * Both roles of a QUIC session, for a test that runs one in its own process and the other on the other runtime:
 *
 *     quic_peer.ts edge            prints its port; sends, looks at what comes back, and at visitors who never read
 *     quic_peer.ts agent PORT      sends back whatever comes, but reads nothing of visitors who ask for "still.test"
 *
 * @module
 */
import { pattern } from "../support/seeded.ts";
import { createHash } from "node:crypto";
import process from "node:process";
import type { Bytes } from "../../src/bytes/bytes.ts";
import { certificateFingerprint } from "../../src/crypto/certificate.ts";
import { FernetRing } from "../../src/crypto/fernet.ts";
import { SallyportError } from "../../src/errors.ts";
import { createToken, tryOpenToken } from "../../src/protocol/token/token.ts";
import { currentRuntime } from "../../src/runtime/mod.ts";
import { listenQuic } from "../../src/transport/quic/accept.ts";
import { dialQuic } from "../../src/transport/quic/dial.ts";
import type { Session, SessionHandler, SessionStream } from "../../src/transport/port.ts";
import { identities } from "../conformance/quic_helpers.ts";

const HOST = "127.0.0.1";
const STREAMS = 400;
const SLEEPERS = 150;
const BYTES = 50_000;
const MiB = 1024 * 1024;
// Both processes know it; what it protects is a test.
const RING = new FernetRing(["AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="]);

/** What a role says on its way. */
export type Tell = (line: { event: string } & Record<string, unknown>) => void;

/** Takes one agent and checks that it sends back what it gets. Resolves when the session is over. */
export async function runEdge(tell: Tell): Promise<void> {
  const runtime = await currentRuntime();
  const { own } = await identities();
  const over = Promise.withResolvers<void>();
  const listener = await listenQuic({
    runtime,
    host: HOST,
    port: 0,
    identity: own,
    admission: {
      openToken: (token) => tryOpenToken(RING, token, runtime.clock.wallMs() / 1000),
      authorize: () => {},
      admit: (_, session) => {
        runtime.clock.soon(() => void check(session, tell).catch(over.reject));
        return ending(tell, over.resolve);
      },
      refused: over.reject,
    },
  });
  const fingerprint = certificateFingerprint(own.certificatePem).toHex();
  tell({ event: "listening", port: listener.address.port, fingerprint });
  await over.promise;
  listener.close();
}

async function check(session: Session, tell: Tell): Promise<void> {
  const sent = pattern(BYTES);
  const sleepers = Array.from({ length: SLEEPERS }, () => {
    return stall(session.open({ address: "192.0.2.1", serverName: "still.test" }));
  });
  const back = await Promise.all(Array.from({ length: STREAMS }, (_, at) => {
    const caller = { address: "2001:db8::7", port: 50_000 + at, serverName: "a.test" };
    return exchange(session.open(caller), sent);
  }));
  const equal = back.every((digest) => digest === hash(sent));
  const stalledBytes = Math.max(...sleepers.map((sent) => sent()));
  // By now everything that the sleepers' windows let through is there, and their streams are still open.
  tell({ event: "checked", equal, streams: back.length, sleepers: session.streams, stalledBytes });
  session.close(new SallyportError("shutdown", "Session ended: the test is over", { side: "local" }));
}

/** Writes as long as it may, at most 64 MiB; says how much has left. */
function stall(stream: SessionStream): () => number {
  const chunk = new Uint8Array(64 * 1024);
  let sent = 0;
  const pump = () => {
    while (sent < 64 * MiB) {
      sent += chunk.length;
      if (!stream.write(chunk)) return;
    }
  };
  stream.attach({ data() {}, end() {}, drain: pump, close() {} });
  pump();
  return () => sent - stream.bufferedBytes;
}

/** Writes all, ends, and gives the digest of what came back up to its end. */
function exchange(stream: SessionStream, data: Bytes): Promise<string> {
  let at = 0;
  const pump = () => {
    while (at < data.length) {
      const from = at;
      at += 16 * 1024;
      if (!stream.write(data.subarray(from, at))) return;
    }
    stream.closeWrite();
  };
  return new Promise((resolve, reject) => {
    const digest = createHash("sha256");
    stream.attach({
      data: (chunk) => void digest.update(chunk),
      end: () => resolve(digest.digest("hex")),
      drain: pump,
      close: (error) => error === undefined ? undefined : reject(error),
    });
    pump();
  });
}

/** Dials, sends back what comes, and resolves when the session is over. */
export async function runAgent(port: number, fingerprint: string, tell: Tell): Promise<void> {
  const runtime = await currentRuntime();
  const { token, claims: { aesKey } } = createToken(RING, {
    hostname: "a.test",
    ttlSeconds: 600,
    nowMs: runtime.clock.wallMs(),
  });
  const over = Promise.withResolvers<void>();
  let count = 0;
  await dialQuic({
    runtime,
    host: HOST,
    port,
    token,
    aesKey,
    edgeFingerprint: Uint8Array.fromHex(fingerprint),
    admitted: () => ({
      ...ending(tell, over.resolve),
      stream: (stream) => {
        if (stream.caller.serverName === "still.test") return;
        if (count++ === 0) tell({ event: "stream", ...stream.caller });
        stream.attach({
          data: (chunk) => void (stream.write(chunk) || stream.pause()),
          end: () => stream.closeWrite(),
          drain: () => stream.resume(),
          close: () => {},
        });
      },
    }),
  });
  await over.promise;
}

function ending(tell: Tell, over: () => void): SessionHandler {
  return {
    stream: () => {},
    streamClosed: () => {},
    streamRefused: () => {},
    ended: (error) => {
      tell({ event: "ended", code: error.code, why: error.message });
      over();
    },
  };
}

function hash(bytes: Bytes): string {
  return createHash("sha256").update(bytes).digest("hex");
}

if (import.meta.main) {
  const [role, port, fingerprint = ""] = process.argv.slice(2);
  const tell: Tell = (line) => console.log(JSON.stringify(line));
  // Nothing outlives the test.
  process.stdin.on("end", () => process.exit(1)).resume();
  await (role === "edge" ? runEdge(tell) : runAgent(Number(port), fingerprint, tell));
  // The last words must be on their way first.
  setTimeout(() => process.exit(0), 200);
}
