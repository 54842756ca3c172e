/**
 * The small HTTPS site of the demo, with a certificate made on the spot.
 *
 * @module
 */
import { once } from "node:events";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import { generate } from "selfsigned";

/** A running site. */
export interface DemoSite {
  readonly host: string;
  readonly port: number;
  /** Its certificate (PEM), for a client to trust. */
  readonly certificate: string;
  close(): void;
}

const DAY_MS = 24 * 3600 * 1000;

/** Starts a site for `hostname` on a free port of 127.0.0.1. */
export async function startDemoSite(hostname: string): Promise<DemoSite> {
  const now = Date.now();
  const pair = await generate([{ name: "commonName", value: hostname }], {
    keyType: "ec",
    curve: "P-256",
    algorithm: "sha256",
    // A clock that is a little behind, in a container for example, must not refuse it.
    notBeforeDate: new Date(now - DAY_MS),
    notAfterDate: new Date(now + 7 * DAY_MS),
    extensions: [
      // No authority: clients that are strict refuse one as a server's own certificate.
      { name: "basicConstraints", cA: false, critical: true },
      { name: "keyUsage", digitalSignature: true, critical: true },
      { name: "extKeyUsage", serverAuth: true },
      { name: "subjectAltName", altNames: [hostname, "localhost"].map((value) => ({ type: 2, value })) },
    ],
  });
  const server = createServer({ key: pair.private, cert: pair.cert }, (request, response) => {
    request.resume();
    response.writeHead(200, { "content-type": "text/plain; charset=utf-8", "cache-control": "no-store" });
    response.end(
      `Hello from behind the tunnel.\n\nYou asked ${
        request.headers.host ?? hostname
      } for ${request.url}. Your TLS was ` +
        "decrypted here,\nby the site itself; edge and agent passed its bytes on without looking inside.\n",
    );
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  return {
    host: "127.0.0.1",
    port,
    certificate: pair.cert,
    close() {
      server.closeAllConnections?.();
      server.close();
    },
  };
}
