// Both: `bun quic_stream.js`, `deno run -A --unstable-net quic_stream.js`. One stream of 128 MB within one process, by the runtime's
// own QUIC and nothing else. Needs openssl for a certificate.
import { execFileSync } from "node:child_process";
import { X509Certificate } from "node:crypto";
import { createPrivateKey } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";

const TOTAL = 128e6;
const chunk = new Uint8Array(64 * 1024);
const folder = mkdtempSync(join(tmpdir(), "quic-"));
const [keyFile, certFile] = [join(folder, "key.pem"), join(folder, "cert.pem")];
execFileSync("openssl", [
  ...["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"],
  ...["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"],
  ...["-addext", "basicConstraints=critical,CA:FALSE", "-keyout", keyFile, "-out", certFile],
], { stdio: "ignore" });
const [key, cert] = [readFileSync(keyFile, "utf8"), readFileSync(certFile, "utf8")];
rmSync(folder, { recursive: true });

const cpu = () => (process.cpuUsage().user + process.cpuUsage().system) / 1e6;
const [began, used] = [performance.now(), cpu()];
const limit = setTimeout(() => report(0), 60_000);
let received = 0;
if ("bun" in process.versions) await onBun();
else await onDeno();

function count(bytes) {
  received += bytes;
  if (received >= TOTAL) report();
}

function report() {
  clearTimeout(limit);
  const seconds = (performance.now() - began) / 1000;
  const rates = `${(received / 1e6 / seconds).toFixed(0)} MB/s, ${
    ((cpu() - used) / (received / 1e9)).toFixed(1)
  } s a GB`;
  console.log(`${rates}, both ends together`);
  process.exit(0);
}

async function onBun() {
  const quic = await import("node:" + "quic");
  const window = { initialMaxStreamDataBidiLocal: 1 << 20, initialMaxStreamDataBidiRemote: 1 << 20 };
  const endpoint = await quic.listen((session) => {
    session.onstream = async (stream) => {
      for await (const batch of stream) for (const piece of batch) count(piece.length);
    };
  }, {
    alpn: ["bulk"],
    sni: { "*": { keys: [createPrivateKey(key)], certs: [Buffer.from(cert)] } },
    transportParams: { initialMaxStreamsBidi: 10, ...window },
    endpoint: { address: "127.0.0.1:0" },
  });
  const { port } = endpoint.address;
  const session = await quic.connect(`127.0.0.1:${port}`, {
    alpn: "bulk",
    verifyPeer: "manual",
    transportParams: window,
  });
  await session.opened;
  const { writer } = await session.createBidirectionalStream({ highWaterMark: 256 * 1024 });
  for (let sent = 0; sent < TOTAL + 1e6; sent += chunk.length) {
    if (writer.desiredSize <= 0) await writer[Symbol.for("Stream.drainableProtocol")]();
    // A write may keep the chunk until it has been sent.
    await writer.write(chunk.slice());
  }
}

async function onDeno() {
  const server = new Deno.QuicEndpoint({ hostname: "127.0.0.1", port: 0 });
  const listener = server.listen({ cert, key, alpnProtocols: ["bulk"] });
  (async () => {
    const conn = await (await listener.incoming()).accept();
    for await (const stream of conn.incomingBidirectionalStreams) {
      for await (const piece of stream.readable) count(piece.length);
    }
  })();
  const value = new Uint8Array(
    new X509Certificate(cert).fingerprint256.split(":").map((hex) => parseInt(hex, 16)),
  );
  const conn = await Deno.connectQuic({
    hostname: "127.0.0.1",
    port: server.addr.port,
    alpnProtocols: ["bulk"],
    serverCertificateHashes: [{ algorithm: "sha-256", value }],
  });
  const writer = (await conn.createBidirectionalStream()).writable.getWriter();
  for (let sent = 0; sent < TOTAL + 1e6; sent += chunk.length) await writer.write(chunk);
}
