// What node:tls costs a server over a socket, and over a Duplex that only passes bytes on to that socket: processor time
// for a GB, by the size of the writes. Runs on Deno (`deno run -A`), Bun and Node; it takes openssl.
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { Duplex } from "node:stream";
import { createSecureContext, TLSSocket } from "node:tls";

const BYTES = 200e6;
const folder = mkdtempSync(join(tmpdir(), "tls-"));
const [keyFile, certFile] = [join(folder, "key"), join(folder, "cert")];
execFileSync(
  "openssl",
  `req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ${keyFile} -out ${certFile} -subj /CN=x`
    .split(" "),
  { stdio: "ignore" },
);
const secureContext = createSecureContext({ key: readFileSync(keyFile), cert: readFileSync(certFile) });

/** A stream that adds nothing of its own. */
function around(socket) {
  const duplex = new Duplex({
    read: () => void socket.resume(),
    write: (chunk, _encoding, done) => void (socket.write(chunk) ? done() : socket.once("drain", done)),
    final: (done) => void (socket.end(), done()),
  });
  socket.on("data", (chunk) => duplex.push(chunk) || socket.pause());
  socket.on("end", () => duplex.push(null));
  return duplex;
}

async function measure(over, size) {
  const chunk = Buffer.alloc(size, 65);
  let begun;
  const server = createServer((socket) => {
    socket.on("error", () => {});
    const tls = new TLSSocket(over === "duplex" ? around(socket) : socket, { isServer: true, secureContext });
    tls.on("error", () => {});
    tls.once("data", () => {
      begun = process.cpuUsage();
      let left = BYTES;
      const go = () => {
        while (left > 0) {
          left -= size;
          if (!tls.write(chunk)) return;
        }
        tls.end();
      };
      tls.on("drain", go);
      go();
    });
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const client = spawn("sh", [
    "-c",
    `echo go | openssl s_client -quiet -ign_eof -connect 127.0.0.1:${server.address().port} 2>/dev/null | head -c ${BYTES} | wc -c`,
  ]);
  await once(client, "close");
  const { user, system } = process.cpuUsage(begun);
  server.close();
  return ((user + system) / 1e6 / (BYTES / 1e9)).toFixed(2);
}

for (const kib of [48, 64, 256]) {
  const [socket, duplex] = [await measure("socket", kib * 1024), await measure("duplex", kib * 1024)];
  console.log(`writes of ${kib} KiB: socket ${socket} s a GB, duplex ${duplex}`);
}
rmSync(folder, { recursive: true });
process.exit(0);
