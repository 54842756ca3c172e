// A certificate pinned by its fingerprint, over QUIC: one that is valid today, and one that has expired. On Deno also as
// the only authority, and by WebTransport. Runs on Deno (`deno run -A --unstable-net`) and Bun; it takes openssl.
import { execFileSync } from "node:child_process";
import { createPrivateKey, X509Certificate } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";

const folder = mkdtempSync(join(tmpdir(), "pinned-"));

function makePair(days) {
  const [key, request, cert, more] = ["key", "request", "cert", "more"].map((name) => join(folder, name));
  writeFileSync(more, "basicConstraints=critical,CA:FALSE\nsubjectAltName=DNS:pinned\n");
  const openssl = (text) => execFileSync("openssl", text.split(" "), { stdio: "ignore" });
  openssl(
    `req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ${key} -out ${request} -subj /CN=pinned`,
  );
  openssl(`x509 -req -in ${request} -signkey ${key} -days ${days} -extfile ${more} -out ${cert}`);
  return { key: readFileSync(key, "utf8"), cert: readFileSync(cert, "utf8") };
}

async function onDeno({ key, cert }, pinned) {
  const endpoint = new Deno.QuicEndpoint({ hostname: "127.0.0.1", port: 0 });
  const listener = endpoint.listen({ cert, key, alpnProtocols: ["x", "h3"] });
  (async () => {
    for await (const incoming of listener) incoming.accept().catch(() => {});
  })().catch(() => {});
  const value = Uint8Array.from(pinned.fingerprint256.split(":"), (pair) => parseInt(pair, 16));
  const { port } = endpoint.addr;
  const server = { hostname: "127.0.0.1", port, serverName: "pinned", alpnProtocols: ["x"] };
  const hashes = { serverCertificateHashes: [{ algorithm: "sha-256", value }] };
  const dial = (trust) => Deno.connectQuic({ ...server, ...trust }).then((conn) => conn.close());
  const transport = new WebTransport(`https://127.0.0.1:${port}/`, hashes);
  transport.closed.catch(() => {});
  const ways = {
    hashes: dial(hashes),
    caCerts: dial({ caCerts: [cert] }),
    // Nobody answers it here: that its certificate is accepted shows by its waiting.
    WebTransport: Promise.race([transport.ready, new Promise((done) => setTimeout(done, 1_000))]),
  };
  const outcomes = Object.entries(ways).map(async ([way, tried]) =>
    `${way}: ${await tried.then(() => "accepted", (error) => error.message)}`
  );
  return (await Promise.all(outcomes)).join("; ");
}

async function onBun({ key, cert }, pinned) {
  const quic = await import("node:" + "quic");
  const sni = { "*": { keys: [createPrivateKey(key)], certs: [new TextEncoder().encode(cert)] } };
  const endpoint = await quic.listen(() => {}, { endpoint: { address: "127.0.0.1:0" }, alpn: ["x"], sni });
  const session = await quic.connect(endpoint.address, {
    alpn: "x",
    servername: "pinned",
    verifyPeer: "manual",
  });
  await session.opened;
  return session.peerCertificate.fingerprint256 === pinned.fingerprint256
    ? "connected"
    : "another certificate";
}

for (const [which, days] of [["valid", 10], ["expired", -1]]) {
  const pair = makePair(days);
  const pinned = new X509Certificate(pair.cert);
  const connect = "Deno" in globalThis ? onDeno : onBun;
  console.log(`${which}: ${await connect(pair, pinned).catch((error) => error.message)}`);
}
rmSync(folder, { recursive: true });
process.exit(0);
