/**
 * A small HTTPS site with a certificate made on the spot, for visitors that speak real TLS.
 *
 * @module
 */

import { createHash } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer, request } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { generate } from "selfsigned";
import { portOf } from "./plain_peer.ts";

/** A running site. `GET /bytes/N` answers N bytes, `POST /echo` its body, everything else the text "sallyport". */
export interface TlsSite {
  readonly port: number;
  /** A file with its certificate, for a client to trust. */
  readonly caFile: string;
  stop(): Promise<void>;
}

/** Starts a site for `hostname` on a free port of 127.0.0.1. */
export async function startTlsSite(hostname: string): Promise<TlsSite> {
  const pair = await generate([{ name: "commonName", value: hostname }], {
    keyType: "ec",
    extensions: [
      { name: "basicConstraints", cA: true },
      { name: "subjectAltName", altNames: [{ type: 2, value: hostname }] },
    ],
  });
  const server = createServer({ key: pair.private, cert: pair.cert }, (request, response) => {
    const bytes = /^\/bytes\/(\d+)$/.exec(request.url ?? "");
    if (bytes !== null) response.end(Buffer.alloc(Number(bytes[1]), "s"));
    else if (request.url === "/echo") request.pipe(response);
    else response.end("sallyport");
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const folder = await mkdtemp(join(tmpdir(), "sallyport-site-"));
  const caFile = join(folder, "ca.pem");
  await writeFile(caFile, pair.cert);
  return {
    port: portOf(server),
    caFile,
    async stop(): Promise<void> {
      server.closeAllConnections?.();
      server.close();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** What a visitor got: the first 100 letters, and the SHA-256 of all. */
export interface SiteAnswer {
  readonly text: string;
  readonly hash: string;
}

/** What a visitor of `servername` gets at a port, by a connection of its own; `started` hears of each piece. */
export function visitSite(
  port: number,
  servername: string,
  path = "/",
  started: () => void = () => {},
): Promise<SiteAnswer> {
  const hash = createHash("sha256");
  return new Promise((resolve, reject) => {
    const asked = request({
      ...{ host: "127.0.0.1", port, path, servername, agent: false, rejectUnauthorized: false },
      headers: { host: servername },
    }, (response) => {
      let text = "";
      response.on("data", (chunk: Uint8Array) => {
        started();
        hash.update(chunk);
        if (text.length < 100) text += String(chunk).slice(0, 100);
      });
      response.on("end", () => resolve({ text, hash: hash.digest("hex") }));
      response.on("error", reject);
    });
    asked.on("error", reject);
    asked.end();
  });
}

/** Whether a visitor gets the site's answer. */
export async function siteAnswers(port: number, servername: string): Promise<boolean> {
  return (await visitSite(port, servername).catch(() => undefined))?.text === "sallyport";
}
