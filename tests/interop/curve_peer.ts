/**
 * Both roles of a curve session, for a test that runs one in its own process and the other on the other runtime:
 *
 *     curve_peer.ts edge            prints its port; sends, and looks at what comes back
 *     curve_peer.ts agent PORT      sends back whatever comes, and changes its port in between
 *
 * @module
 */
import { pattern } from "../support/seeded.ts";
import { createHash } from "node:crypto";
import process from "node:process";
import { FernetRing } from "../../src/crypto/fernet.ts";
import { keyPair, loadSodium } from "../../src/crypto/sodium.ts";
import { SallyportError } from "../../src/errors.ts";
import { createToken, tryOpenToken } from "../../src/protocol/token/token.ts";
import type { Bytes } from "../../src/bytes/bytes.ts";
import { currentRuntime } from "../../src/runtime/mod.ts";
import { listenCurve } from "../../src/transport/curve/accept.ts";
import { dialCurve, type DialledCurve } from "../../src/transport/curve/dial.ts";
import type { Session, SessionStream } from "../../src/transport/port.ts";

const HOST = "127.0.0.1";
const STREAMS = 3;
const BYTES = 1_500_000;
// Both processes know these; what they protect is a test.
const RING = new FernetRing(["AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="]);
const SECRET = new Uint8Array(32).fill(7);

/** What a role says on its way. */
export type Tell = (line: { event: string } & Record<string, unknown>) => void;

/** Takes one agent and checks that it sends back what it gets. Resolves when the session is over. */
export async function runEdge(tell: Tell): Promise<void> {
  const runtime = await currentRuntime();
  const crypto = await loadSodium();
  const over = Promise.withResolvers<void>();
  const listener = await listenCurve({
    runtime,
    host: HOST,
    port: 0,
    crypto,
    keys: keyPair(crypto, SECRET),
    admission: {
      openToken: (token) => tryOpenToken(RING, token, runtime.clock.wallMs() / 1000),
      authorize: () => {},
      admit: (_, session) => {
        // Streams can be opened once the agent has been told that it is let in.
        runtime.clock.soon(() => void check(session, tell).catch(over.reject));
        return {
          stream: () => {},
          streamClosed: () => {},
          streamRefused: () => {},
          ended: (error) => {
            tell({ event: "ended", code: error.code });
            over.resolve();
          },
        };
      },
      refused: over.reject,
    },
  });
  tell({ event: "listening", port: listener.address.port });
  await over.promise;
  const { packetsSent, packetsReceived, pathMoves } = listener.totals();
  tell({ event: "counted", packetsSent, packetsReceived, pathMoves });
  listener.close();
}

async function check(session: Session, tell: Tell): Promise<void> {
  const sent = pattern(BYTES);
  const back = await Promise.all(Array.from({ length: STREAMS }, (_, at) => {
    const caller = { address: "2001:db8::7", port: 50_000 + at, serverName: "a.test" };
    return sendAndCollect(session.open(caller), sent);
  }));
  tell({ event: "checked", equal: back.every((digest) => digest === hash(sent)), streams: back.length });
  session.close(new SallyportError("shutdown", "Session ended: the test is over", { side: "local" }));
}

/** Writes all, ends, and gives the digest of what came back up to its end. */
function sendAndCollect(stream: SessionStream, data: Bytes): Promise<string> {
  return new Promise((resolve, reject) => {
    const digest = createHash("sha256");
    let at = 0;
    const pump = () => {
      while (at < data.length) {
        const chunk = data.subarray(at, at += 30_011);
        if (!stream.write(chunk)) return;
      }
      stream.closeWrite();
    };
    stream.attach({
      data: (chunk) => void digest.update(chunk),
      end: () => resolve(digest.digest("hex")),
      drain: pump,
      close: (error) => reject(error ?? new Error("closed before its end")),
    });
    pump();
  });
}

/** Dials, sends back what comes, and resolves when the session is over. */
export async function runAgent(port: number, tell: Tell): Promise<void> {
  const runtime = await currentRuntime();
  const crypto = await loadSodium();
  const { token, claims: { aesKey } } = createToken(RING, {
    hostname: "a.test",
    ttlSeconds: 600,
    nowMs: runtime.clock.wallMs(),
  });
  const over = Promise.withResolvers<void>();
  const made = Promise.withResolvers<DialledCurve>();
  let bytes = 0;
  const dialled = await dialCurve({
    runtime,
    host: HOST,
    port,
    token,
    aesKey,
    crypto,
    edgePublicKey: keyPair(crypto, SECRET).publicKey,
    admitted: () => ({
      stream: (stream) => {
        tell({ event: "stream", ...stream.caller });
        stream.attach({
          data: (chunk) => {
            const before = bytes;
            bytes += chunk.length;
            if (before < BYTES && bytes >= BYTES) {
              void made.promise.then(({ connection }) => connection.rebind());
            }
            if (!stream.write(chunk)) stream.pause();
          },
          end: () => stream.closeWrite(),
          drain: () => stream.resume(),
          close: () => {},
        });
      },
      streamClosed: () => {},
      streamRefused: () => {},
      ended: (error) => {
        tell({ event: "ended", code: error.code });
        over.resolve();
      },
    }),
  });
  made.resolve(dialled);
  await over.promise;
}

function hash(bytes: Bytes): string {
  return createHash("sha256").update(bytes).digest("hex");
}

if (import.meta.main) {
  const [role, port] = process.argv.slice(2);
  const tell: Tell = (line) => console.log(JSON.stringify(line));
  // Nothing outlives the test.
  process.stdin.on("end", () => process.exit(1)).resume();
  await (role === "edge" ? runEdge(tell) : runAgent(Number(port), tell));
  // The last words must be on their way first.
  setTimeout(() => process.exit(0), 200);
}
